"""A URL -> the stream of its items, over HTTP or a WebSocket."""

import builtins
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
    """Request a URL; ``async with`` yields the `Stream` of its items.

    It knows more about the end than `items` does: it asks the server for a record that proves the end
    (``Prefer: stream-end``), and it notices a compressed stream that stops early. ``stream.end`` says how certain the
    end was. A stream may take as long as it likes: only silence is limited, whatever the session's timeout is.

    A URL with ``ws`` or ``wss`` opens a WebSocket, whose messages are the items. Its pings count as data.

    Where the server sends ranges of items (see `resumable`), a stream that breaks is continued: each item arrives once,
    or an error says why that is not possible. This is done for GET without a body, and without a Range, Last-Event-ID
    or ``?range=items=...`` of your own.

    Args:
        session: the session; its base URL, headers, cookies and connections are used.
        url: the URL.
        path: see `items`.
        method: the request's method.
        params: its query.
        headers: more headers.
        data: its body, as aiohttp accepts it; `body` makes one from a source. An exception of that source is raised
            here, too. The body is sent while the response is read; a WebSocket can send only what `body` makes.
        json: its body, as JSON.
        format: a name from `FORMATS`: the server is asked for it (``Accept``), and the response is read as that
            format. By default the server chooses, and its content type decides. Where a server sends a wrong content
            type or none, pass a function: it gets the response, returns its `Format`, and may raise `UnknownFormat`. It
            is a function, and not one more option, because only you know what your server means: its headers, the URL
            after redirects, or a `dataclasses.replace` of a format with your own decoder. It is not called for a
            response without content, nor over a WebSocket; for that see `items`.
        type: see `items`.
        required: see `items`.
        idle_seconds: how long nothing may arrive, and how long the server may read nothing of what `body` sends.
        max_ratio: how many bytes one byte of a compressed response may become (10,000), after the first MiB.
        max_reconnects: how often the rest is requested without a new item: 10 by default, 0 for never. If you pass a
            number, server-sent events of servers without ranges are continued too, after their last id.
        max_reconnect_seconds: how long that may take until there is a new item.
        restart: where the server does not send the rest, request all items again, skip those that have arrived, and
            check that they are the same.
        resume_from: where to start: `Stream.resume_point` returned it, maybe in another process. If the items have
            changed since, reading raises `TruncatedError`, and no item is yielded.
        on_reconnect: a function that is called with the error that broke the stream, before the rest is requested:
            once, however many tries it takes until there is a new item.
        limits: see `items`.

    Raises:
        ClientError: from aiohttp: there is no connection.
        RemoteError: the response has a status of 400 or more, such as 416 if the source has fewer items than
            resume_from; while reading, see `items`.
        StalledError: nothing arrived, or the server read nothing, for idle_seconds.
        TypeError: the session is not a ClientSession, resume_from not a ResumePoint, or the body of a WebSocket is not
            from `body`.
        ValueError: resume_from is negative, or passed with a path, with restart, or for a request that cannot be
            continued.
        UnknownFormat: the function passed as ``format`` raised it; while reading, see `items`.
        TruncatedError, DecodeError, LimitError, PathNotFound: while reading, see `items`.
    """
    if not isinstance(session, ClientSession):
        raise TypeError(
            f"session: got {builtins.type(session).__name__}, expected a ClientSession, and after it the URL"
        )
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
        raise upload.failure  # the response may look good, but the server does not have all items


def _opened(request: Request, policy: Policy) -> AbstractAsyncContextManager[Stream]:
    """Return the stream of a request that is sent once, or again where the stream breaks."""
    can_be_continued, has_path = request.can_be_continued, parse_path(request.path) is not None
    if policy.resume_from is not None:
        if not isinstance(policy.resume_from, ResumePoint):
            raise TypeError(f"resume_from: got {policy.resume_from!r}, expected a ResumePoint")
        if policy.resume_from.items < 0:
            raise ValueError(f"resume_from: items must be >= 0, got {policy.resume_from.items}")
        if not can_be_continued:
            raise ValueError("resume_from needs a GET without a body, and without a Range or Last-Event-ID of your own")
        if has_path:
            raise ValueError(f"resume_from counts whole items, got path={request.path!r}, which selects inside of them")
        if policy.restart:
            raise ValueError("restart=True compares with items that have arrived, and resume_from does not have them")
    connect = partial(open_websocket if request.is_websocket else open_http, request)
    if can_be_continued and (policy.max_reconnects != 0 or policy.resume_from is not None):
        return open_reconnecting(connect, request.path, policy)
    return _opened_once(connect, counts_records=can_be_continued and not has_path)


@asynccontextmanager
async def _opened_once(connect: Connect, *, counts_records: bool) -> AsyncIterator[Stream]:
    async with connect({}) as response:
        yield Stream(response, counts_records=counts_records)
