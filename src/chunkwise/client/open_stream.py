"""A URL -> its stream, over HTTP or a WebSocket.

Must not know any one format.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Unpack

from aiohttp import ClientSession, hdrs
from aiohttp.typedefs import StrOrURL

from chunkwise.client.answer import Answer
from chunkwise.client.http import open_response, stream_of
from chunkwise.client.reconnecting import Connect, Policy, open_resuming
from chunkwise.client.resume_point import asks_for_part
from chunkwise.client.stream import Stream
from chunkwise.client.upload import ClosingPayload
from chunkwise.client.websocket import open_websocket_stream
from chunkwise.formats import Format, by_name
from chunkwise.formats.paths import PathLike
from chunkwise.transports.content_coding import MAX_RATIO
from chunkwise.transports.reading import LimitOptions, limits_of
from chunkwise.transports.websocket_messages import is_plain, line_decoder


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
    format: str | Format | None = None,
    type: Any = Any,
    required: bool = False,
    idle_seconds: float = 60.0,
    max_ratio: int = MAX_RATIO,
    max_reconnects: int | None = None,
    max_reconnect_seconds: float = 300.0,
    restart: bool = False,
    **limits: Unpack[LimitOptions],
) -> AsyncIterator[Stream]:
    """Request a URL; ``async with`` gives the `Stream` of its answer.

    It knows more of the end than `items` does of a response that you have requested: it asks the server for a record
    that proves the end (``Prefer: stream-end``), and it sees a compressed stream that stops early. ``stream.end`` tells
    how sure it was. A stream may take as long as it likes; only silence is limited, whatever the session's timeout.

    A URL with ``ws`` or ``wss`` opens a WebSocket, whose messages are the items; pings count as something that comes.

    Args:
        session: the session; its base URL, headers, cookies and connections are used.
        url: the URL.
        path: see `items`.
        method: the request's method.
        params: its query.
        headers: more headers.
        data: its body, as aiohttp takes it; `body` makes one of a source. What that source raises is raised here, too.
            It is sent while the answer is read; over a WebSocket nothing else can be sent.
        json: its body, as JSON.
        format: a name from `FORMATS`, which is asked for, and taken to be what comes; by default the server chooses.
            Over a WebSocket see `items`.
        type: see `items`.
        required: see `items`.
        idle_seconds: how long nothing may come, and how long the server may take nothing of what `body` gives.
        max_ratio: how many bytes may come of one byte of a compressed answer (10,000), behind the first MiB.
        max_reconnects: how often a stream that broke is asked for again without a new item, where the server gives
            ranges of items (see `resumable`): 10 by default, 0 for never; each item comes once. Where it is given, also
            events of servers that give none are asked for behind their last id. Only for GET without a body, and
            without a Range, Last-Event-ID or ``?range=items=...`` of your own.
        max_reconnect_seconds: how long that may take until there is a new item.
        restart: where a server does not give the rest, ask for all, pass over the items that came, and see that they
            are the same.
        limits: see `items`.

    Raises:
        ClientError: aiohttp's: there is no connection.
        RemoteError: the answer has a status of 400 or more; while reading, see `items`.
        StalledError: nothing came, or was taken, for idle_seconds.
        TypeError: the session is none, or what is to be sent over a WebSocket is not of `body`.
        UnknownFormat, TruncatedError, DecodeError, LimitError, PathNotFound: while reading, see `items`.
    """
    if not isinstance(session, ClientSession):
        msg = f"session: got {builtins.type(session).__name__}, expected a ClientSession, and behind it the URL"
        raise TypeError(msg)
    bounds = limits_of(limits)
    own: dict[str, str] = {}
    if format is not None:
        own[hdrs.ACCEPT] = ", ".join(by_name(format).media_types)
    own.update(headers or {})
    upload = data if isinstance(data, ClosingPayload) else None
    if is_websocket(url):
        if method != hdrs.METH_GET:
            msg = f"a WebSocket begins with GET, got method={method!r}: leave it out"
            raise TypeError(msg)
        if json is not None or data is not upload:
            got = "json=" if json is not None else builtins.type(data).__name__
            msg = f"over a WebSocket items are sent, got {got}: use data=chunkwise.body(source, 'ndjson')"
            raise TypeError(msg)
        make_decoder = line_decoder(path, type=type, required=required, limits=bounds)

        def open_websocket(more: Mapping[str, str]) -> AbstractAsyncContextManager[Answer]:
            return open_websocket_stream(
                session,
                url,
                {**own, **more},
                params,
                make_decoder,
                upload,
                plain=is_plain(format),
                idle_seconds=idle_seconds,
                max_item_bytes=bounds.max_item_bytes,
            )

        connect: Connect = open_websocket
    else:
        body = {"params": params, "data": data, "json": json}
        chosen = {"format": format, "type": type, "required": required, "max_ratio": max_ratio}

        @asynccontextmanager
        async def open_answer(more: Mapping[str, str]) -> AsyncIterator[Answer]:
            headers = {**own, **more}
            async with open_response(
                session, method, url, idle_seconds=idle_seconds, headers=headers, **body
            ) as answer:
                yield stream_of(answer, path, **chosen, limits=bounds, upload=upload)

        connect = open_answer
    part = asks_for_part({**session.headers, **own}, url, params)
    resumes = method == hdrs.METH_GET and data is None and json is None and not part
    opened: AbstractAsyncContextManager[Stream]
    if max_reconnects != 0 and resumes:
        opened = open_resuming(connect, path, Policy(max_reconnects, max_reconnect_seconds, restart))
    else:
        opened = connect({})
    async with opened as stream:
        yield stream
    if upload is not None and upload.failure is not None and stream.failure is None:
        raise upload.failure  # which nobody has seen: whatever was answered, the server has not got it all


def is_websocket(url: StrOrURL) -> bool:
    """Whether a URL is a WebSocket's."""
    return str(url).lower().startswith(("ws:", "wss:"))
