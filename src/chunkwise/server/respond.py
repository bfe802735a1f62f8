"""A source and a request -> the answer that fits both: its format, its content coding, its headers.

Must not know any one format: what it needs of them is data in `Format`.
"""

from __future__ import annotations

import functools
import inspect
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack, overload

from aiohttp import hdrs, web
from multidict import CIMultiDict

from chunkwise.flow.document import discard
from chunkwise.flow.outbound import is_stream, open_outbound
from chunkwise.formats import Format
from chunkwise.formats.contract import STREAM_END
from chunkwise.formats.messages import LINES
from chunkwise.server.delivery import Delivery, Wire
from chunkwise.server.http_wire import ChunkedWire
from chunkwise.server.item_ranges import Rest, rest_of
from chunkwise.server.lifecycle import streams_of
from chunkwise.server.response_headers import stream_response
from chunkwise.server.websocket_wire import WebSocketWire
from chunkwise.sources.resumable import Resumable
from chunkwise.transports.content_coding import CODINGS
from chunkwise.transports.negotiation import (
    IDENTITY,
    FormatChoice,
    negotiate,
    negotiate_coding,
    offered,
    prefers,
)
from chunkwise.transports.problems import GoingAway, problem_of, problem_response
from chunkwise.transports.range_headers import RangeInfo
from chunkwise.transports.websocket_handshake import check_origins, is_upgrade, may_open

Handler = Callable[..., Awaitable[web.StreamResponse]]
Producer = Callable[..., Any]

_NO_RESET = (
    "over a Unix socket, an answer under HTTP/1.0 cannot be told from one that was cut: let the proxy speak HTTP/1.1 "
    "(nginx: proxy_http_version 1.1), or ask for JSON"
)

_OTHER_ORIGIN = "pages of this origin may not open a WebSocket here: respond(..., origins=[...]) names those that may"

KEEPALIVE_SECONDS = 15.0
"""Silence after which JSON and server-sent events are kept alive: proxies give up after 60 seconds, as a rule."""


class StreamOptions(TypedDict, total=False):
    """The options of `respond`, with their defaults there."""

    status: int
    headers: Mapping[str, str] | None
    compress: bool | None
    commit_after_seconds: float
    keepalive_seconds: float | None
    stall_seconds: float
    origins: Sequence[str]


async def respond(
    request: web.BaseRequest,
    source: Any,
    format: FormatChoice = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    compress: bool | None = None,
    commit_after_seconds: float = 0.25,
    keepalive_seconds: float | None = None,
    stall_seconds: float = 60.0,
    origins: Sequence[str] = (),
) -> web.StreamResponse:
    """Answer a request with a stream of items; return the response, as an aiohttp handler does.

    A WebSocket's handshake is answered by a WebSocket: an item a message, as JSON text, or as plain text in the format
    text; a client that offers the subprotocol ``chunkwise.ndjson`` gets any number of items in a message, each in a
    line. What such a client sends is read by `items(request)` inside the source, as it is of any other request.

    What the source has ready is sent the moment that it has to wait; a slow reader slows the source down. A source that
    fails before its first item gives an ordinary error answer (RFC 9457); one that fails later gives an answer which no
    client can take for a whole one, since its connection is closed without the last chunk. A client that asks for it
    (``Prefer: stream-end``) gets a last record with the count of items, or with the problem; a WebSocket is closed with
    1000 and ``complete; items=N``, or with 1011 and the problem's title. When the client leaves, the source is closed
    within a second.

    Args:
        request: the request; HEAD is answered without running the source.
        source: an async iterable of items; a sync iterable (run in a thread of its own); `Batches` of either, for lists
            of items; `resumable`, of which a client can ask for the rest; or one value, as a rule a dict: a document,
            which may hold iterables and awaitables at any depth, and is written in its own order. What a source has
            given it must not change any more: items are encoded many at a time.
        format: a name from `FORMATS`, a list of them for the client to choose from by its Accept header, or None for
            all.
        status: of an answer that goes well; a WebSocket has none.
        headers: more headers; a ``Cache-Control`` is joined with ours. A strong ``ETag`` becomes a weak one where there
            are answers of other bytes under it: in another format, or compressed.
        compress: whether to apply the content coding that the client likes best (zstd, gzip, br, deflate), or over a
            WebSocket permessage-deflate (RFC 7692); by default only the former. Leave it off where an answer holds a
            secret beside what a stranger has sent: its length tells of both.
        commit_after_seconds: how long the status line waits for the first item.
        keepalive_seconds: after how much silence bytes are sent that mean nothing in the format (white space, a
            comment), so that proxies do not take a slow source for a dead one. By default 15 in JSON, server-sent
            events and over a WebSocket (a ping), never in the others; 0 for never. CSV and text have no such bytes.
        stall_seconds: how long a client may take nothing while something waits for it before it is cut off; 0 for
            ever. TCP tells what a client takes in steps of some 64 KiB, so that a limit of a few seconds may cut off
            one that is only slow.
        origins: which other origins' pages may open a WebSocket (``"https://example.com"``), or ``"*"``. A browser lets
            any page do that, with the user's cookies; by default only those of the request's own host may, all others
            are refused with 403. Who is no browser names no origin, and may.

    Raises:
        UnknownFormat: ``format`` names none.
        ValueError: the status allows no content, the headers tell a length, the source is a generator that is spent, or
            one of the origins is none.
        TypeError: the source is a function, or the request is none.
    """
    if not isinstance(request, web.BaseRequest):
        msg = f"request: got {type(request).__name__}, expected the handler's request, and behind it the source"
        raise TypeError(msg)
    headers = headers or {}
    streams = streams_of(request)
    check_origins(origins)
    await _check(source, status, headers, (commit_after_seconds, keepalive_seconds or 0, stall_seconds))
    formats = offered(format)
    if not is_stream(source):
        formats = [row for row in formats if row.documents] or formats
    negotiated = not isinstance(format, (str, Format))
    chosen = negotiate(_values(request, hdrs.ACCEPT), formats) if negotiated else formats[0]
    upgrade = is_upgrade(request)
    coded = compress is not False and not upgrade and hdrs.CONTENT_ENCODING not in {name.title() for name in headers}
    coding = negotiate_coding(_values(request, hdrs.ACCEPT_ENCODING), CODINGS) if coded else IDENTITY
    if streams.stopping or chosen is None or coding is None:
        await discard(source)
        if streams.stopping:
            return problem_of(GoingAway())
        if chosen is None:
            return _refusal(request, hdrs.ACCEPT, [row.media_types[0] for row in formats])
        return _refusal(request, hdrs.ACCEPT_ENCODING, [*CODINGS, IDENTITY])
    if upgrade and not may_open(request, origins):
        await discard(source)
        return problem_response(403, _OTHER_ORIGIN)
    rest = Rest(source, RangeInfo())
    key: Sequence[str] = ()
    if isinstance(source, Resumable) and request.method in (hdrs.METH_GET, hdrs.METH_HEAD):
        found = rest_of(request, source, chosen, messages=upgrade)
        if isinstance(found, web.Response):
            return found
        rest, key = found, source.key
        headers = CIMultiDict(headers)  # which may hold a name twice
        headers.update(rest.info.to_headers(partial=rest.partial))
        status = 206 if rest.partial else status
    wire: Wire
    if upgrade:
        stream = open_outbound(rest.source, LINES, count=rest.item_count)
        plain = chosen.plain_messages
        wire = WebSocketWire(
            request,
            headers,
            stream.wake,
            lambda: streams.stopping,
            plain=plain,
            start=rest.info.to_record() if rest.info.ranges and hdrs.RANGE in request.headers else b"",
            compress=bool(compress),
            stall_seconds=stall_seconds,
        )
    else:
        stream_end = chosen.end_record is not None and prefers(_values(request, "Prefer"), STREAM_END)
        if request.version < (1, 1) and not (chosen.proves_end or stream_end) and _is_unix(request):
            await discard(rest.source)
            return problem_response(505, _NO_RESET)
        varies = [*[hdrs.ACCEPT] * negotiated, *[hdrs.ACCEPT_ENCODING] * coded, *["Prefer"] * bool(chosen.end_record)]
        response = stream_response(status, headers, chosen, coding, varies, stream_end=stream_end)
        if request.method == hdrs.METH_HEAD:
            await discard(rest.source)
            await response.prepare(request)
            return response
        stream = open_outbound(
            rest.source, chosen, stream_end=stream_end, first=rest.info.first, key=key, count=rest.item_count
        )
        wire = ChunkedWire(request, response, chosen, None if coding == IDENTITY else coding, stall_seconds)
    if keepalive_seconds is None:
        keepalive_seconds = KEEPALIVE_SECONDS if upgrade or chosen.keepalive_by_default else 0
    delivery = Delivery(
        request,
        wire,
        stream,
        streams,
        commit_after_seconds=commit_after_seconds,
        keepalive_seconds=keepalive_seconds if upgrade or chosen.keepalive is not None else 0,
        nothing=204 if rest.ends_events else None,
        after=rest.after,
    )
    return await delivery.run() or wire.response


def _values(request: web.BaseRequest, name: str) -> Sequence[str]:
    return request.headers.getall(name, ())


def _is_unix(request: web.BaseRequest) -> bool:
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    return connection is not None and connection.family == getattr(socket, "AF_UNIX", None)


def _refusal(request: web.BaseRequest, header: str, available: Sequence[str]) -> web.Response:
    detail = f"the client accepts {', '.join(_values(request, header))}; there is {', '.join(available)}"
    refusal = problem_response(406, detail, available=available)
    refusal.headers[hdrs.VARY] = header
    return refusal


async def _check(source: Any, status: int, headers: Mapping[str, str], waits: Sequence[float]) -> None:
    told = [name for name in headers if name.title() in (hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING)]
    msg = ""
    if told:
        msg = f"headers name {told[0]}, but nobody knows a stream's length: leave it out"
    elif status < 200 or status in (204, 205, 304):
        msg = f"status {status} has no content (RFC 9110 §15), so it cannot answer with a stream"
    elif min(waits) < 0:
        msg = f"waits are seconds from 0 on, got {min(waits)}"
    if msg:
        await discard(source)
        raise ValueError(msg)


@overload
def streaming(handler: Producer) -> Handler: ...
@overload
def streaming(*, format: FormatChoice = None, **options: Unpack[StreamOptions]) -> Callable[[Producer], Handler]: ...
def streaming(handler: Producer | None = None, **options: Any) -> Any:
    """Make an aiohttp handler of a generator function that takes the request and yields items.

    Async generator functions run on the loop, plain generator functions in a thread. Methods of a `web.View` work, too.

    Args:
        handler: the generator function; left out where options are given: ``@streaming(format="ndjson")``.
        options: those of `respond`, ``format`` among them.

    Raises:
        TypeError: what is decorated is no generator function, or an option is none of `respond`.
        UnknownFormat: ``format`` names none.
        ValueError: one of the origins is none.
    """
    inspect.signature(respond).bind(None, None, **options)
    offered(options.get("format"))
    check_origins(options.get("origins", ()))
    if handler is None:
        return functools.partial(streaming, **options)
    if not (inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler)):
        msg = f"@streaming is for functions that yield items, {handler!r} does not: return respond(request, source)"
        raise TypeError(msg)

    @functools.wraps(handler)
    async def answer(*args: Any) -> web.StreamResponse:
        request = args[-1].request if isinstance(args[-1], web.View) else args[-1]
        return await respond(request, handler(*args), **options)

    return answer
