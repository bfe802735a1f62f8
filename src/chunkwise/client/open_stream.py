"""A URL -> the stream of its items, over HTTP or a WebSocket."""

import builtins
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Unpack

from aiohttp import ClientResponse, ClientSession, hdrs
from aiohttp.typedefs import StrOrURL

from chunkwise.client.http import open_http
from chunkwise.client.reconnecting import Connect, open_reconnecting
from chunkwise.client.request import Request
from chunkwise.client.resume_point import Policy
from chunkwise.client.stream import Stream
from chunkwise.client.websocket import open_websocket
from chunkwise.errors import StreamError
from chunkwise.formats import Format, by_name
from chunkwise.formats.paths import PathLike, parse_path
from chunkwise.transports.content_coding import MAX_RATIO
from chunkwise.transports.range_headers import ResumePoint
from chunkwise.transports.reading import LimitOptions, limits_of


@asynccontextmanager
async def open_stream(
    session: ClientSession,
    url: StrOrURL,
    path: PathLike = "",
    *,
    method: str = hdrs.METH_GET,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    data: Any = None,
    json: Any = None,
    format: str | Format | Callable[[ClientResponse], Format] | None = None,
    type: Any = Any,
    required: bool = False,
    idle_seconds: float = 60.0,
    max_ratio: int = MAX_RATIO,
    max_reconnects: int | None = None,
    max_reconnect_seconds: float = 300.0,
    restart: bool = False,
    resume_from: ResumePoint | None = None,
    on_reconnect: Callable[[StreamError], None] | None = None,
    **limits: Unpack[LimitOptions],
) -> AsyncIterator[Stream]:
    """Request a URL and yield the `Stream` of its items, for ``async with``.

    Compared with `items`, it asks the server for a record that proves the end (``Prefer: stream-end``), detects
    compressed streams that stop early, and continues a stream after a disconnect. A stream may take any length of time:
    only silence is limited, whatever the session's timeout is.

    A URL with the scheme ``ws`` or ``wss`` opens a WebSocket, whose messages are the items. Its pings count as data.

    A stream is continued if the server offers ranges of items (see `resumable`), and if the request is a GET without a
    body and without a Range, a Last-Event-ID or a ``?range=items=...`` of your own. Each item is then yielded once. If
    the stream cannot be continued, an error says why.

    Args:
        session: the session. Its base URL, headers, cookies and connections are used.
        url: the URL.
        path: which values are the items; see `items`.
        method: the method of the request.
        params: the query of the request.
        headers: additional request headers.
        data: the body of the request, in any form that aiohttp accepts. Use `body` to send items from a source while
            the response is read; an exception of that source is also raised here. Over a WebSocket, only `body` can be
            sent.
        json: the body of the request, as a value to be sent as JSON.
        format: the format to ask for (``Accept``) and to read: a name from `FORMATS` or a `Format`. By default the
            server chooses, and its content type decides how the response is read. If a server sends a wrong content
            type or none, pass a function. It is called with the response and returns the `Format` to read it with, or
            raises `UnknownFormat`. It is not called for a response without content, or over a WebSocket.
        type: the type of each item; see `items`.
        required: whether a path that selects nothing is an error; see `items`.
        idle_seconds: for how many seconds nothing may arrive, or the server may read nothing of what `body` sends;
            0 for no limit.
        max_ratio: how many bytes one byte of a compressed response may become (default: 10,000). The first MiB
            is always allowed.
        max_reconnects: how many times in a row the rest of the stream is requested without receiving a new item; 0 for
            never. None means 10. If you pass a number, server-sent events from servers without ranges are also
            continued, after their last event id.
        max_reconnect_seconds: how many seconds after a disconnect to give up, if no new item has arrived.
        restart: whether to request all items again if the server cannot send only the rest. The items that had arrived
            before are skipped, and checked to be the same.
        resume_from: where to start: the result of `Stream.resume_point`, which may be from another process. If the
            items have changed since then, reading raises `TruncatedError` and no item is yielded.
        on_reconnect: a function that is called with the error of a disconnect, before the rest is requested. It is
            called only once until a new item arrives, however many requests are needed.
        limits: ``max_item_bytes``, ``max_depth`` and ``max_line_bytes``; see `items`.

    Raises:
        ClientError: from aiohttp: no connection could be made.
        RemoteError: the response has a status of 400 or more, for example 416 if the source has fewer items than
            ``resume_from``. While reading: see `items`.
        StalledError: nothing arrived, or the server read nothing, for ``idle_seconds``.
        TypeError: the session is not a ClientSession, ``resume_from`` is not a ResumePoint, or the body of a WebSocket
            was not made by `body`.
        ValueError: ``idle_seconds`` is negative or not finite. Or ``resume_from`` has a negative number of items,
            or was passed together with a path, with ``restart``, or for a request that cannot be continued.
        UnknownFormat: the function passed as ``format`` raised it. While reading: see `items`.
        TruncatedError, DecodeError, LimitError, PathNotFound: while reading; see `items`.
    """
    if not isinstance(session, ClientSession):
        raise TypeError(
            f"session: got {builtins.type(session).__name__}, expected a ClientSession: open_stream(session, url)"
        )
    if not 0 <= idle_seconds < math.inf:
        raise ValueError(f"idle_seconds: got {idle_seconds}, expected a finite number >= 0; 0 means no limit")
    chosen = format if format is None or callable(format) else by_name(format)
    accept: dict[str, str] = {}
    if isinstance(chosen, Format):
        accept[hdrs.ACCEPT] = ", ".join(chosen.media_types)
    request = Request(
        session=session,
        method=method,
        url=url,
        params=params,
        headers={**accept, **(headers or {})},
        data=data,
        json=json,
        format=chosen,
        path=path,
        type=type,
        required=required,
        idle_seconds=idle_seconds,
        max_ratio=max_ratio,
        limits=limits_of(limits),
    )
    policy = Policy(max_reconnects, max_reconnect_seconds, restart, resume_from, on_reconnect)
    async with _opened(request, policy) as stream:
        yield stream
    upload = request.upload
    if upload is not None and upload.failure is not None and stream.failure is None:
        # The response has not failed, but the upload has. Without this error, the caller would not notice that the
        # server has not received all items.
        raise upload.failure


def _opened(request: Request, policy: Policy) -> AbstractAsyncContextManager[Stream]:
    """Return the stream of a request. After a disconnect, it continues if the request and the policy allow this."""
    can_be_continued, has_path = request.can_be_continued, parse_path(request.path) is not None
    if policy.resume_from is not None:
        if not isinstance(policy.resume_from, ResumePoint):
            raise TypeError(f"resume_from: got {policy.resume_from!r}, expected a ResumePoint")
        if policy.resume_from.items < 0:
            raise ValueError(f"resume_from: items must be >= 0, got {policy.resume_from.items}")
        if not can_be_continued:
            raise ValueError(
                "resume_from needs a GET without a body, and without your own Range, Last-Event-ID or ?range=items=..."
            )
        if has_path:
            raise ValueError(
                f"resume_from cannot be used with path={request.path!r}: it counts records, not the values in them"
            )
        if policy.restart:
            raise ValueError("resume_from cannot be used with restart=True: no earlier items are known to compare with")
    connect = partial(open_websocket if request.is_websocket else open_http, request)
    if can_be_continued and (policy.max_reconnects != 0 or policy.resume_from is not None):
        return open_reconnecting(connect, request.path, policy)
    return _opened_once(connect, counts_records=can_be_continued and not has_path)


@asynccontextmanager
async def _opened_once(connect: Connect, *, counts_records: bool) -> AsyncIterator[Stream]:
    async with connect({}) as response:
        yield Stream(response, counts_records=counts_records)
