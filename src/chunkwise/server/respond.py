"""A request and a source of items -> a streamed response, in the format, coding and transport of the request."""

import functools
import inspect
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack, overload

from aiohttp import hdrs, web
from multidict import CIMultiDict

from chunkwise.flow.document import discard
from chunkwise.flow.outbound import Outbound, is_stream, open_outbound
from chunkwise.formats import Format
from chunkwise.formats.contract import STREAM_END
from chunkwise.formats.messages import LINES
from chunkwise.server.delivery import Delivery, Wire
from chunkwise.server.http_wire import HttpWire
from chunkwise.server.item_ranges import Selection, select_items
from chunkwise.server.lifecycle import streams_of
from chunkwise.server.response_headers import stream_response
from chunkwise.server.websocket_wire import WebSocketOptions, WebSocketWire
from chunkwise.transports.content_coding import CODINGS
from chunkwise.transports.negotiation import IDENTITY, FormatChoice, negotiate, negotiate_coding, offered, prefers
from chunkwise.transports.problems import GoingAway, problem_of, problem_response
from chunkwise.transports.websocket_handshake import check_origins, is_upgrade, may_open

Handler = Callable[..., Awaitable[web.StreamResponse]]
Producer = Callable[..., Any]

_NO_RESET = (
    "got HTTP/1.0 over a Unix socket, where a failed response would look complete: let the proxy use HTTP/1.1 "
    "(nginx: proxy_http_version 1.1), or request JSON"
)

_OTHER_ORIGIN = "pages of this origin must not open a WebSocket here: allow the origin with respond(..., origins=[...])"

KEEPALIVE_SECONDS = 15.0
"""The default for JSON, server-sent events and WebSockets. Many proxies close idle connections after 60 seconds."""


class StreamOptions(TypedDict, total=False):
    """The options of `respond`, which documents their meaning and defaults."""

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
    """Respond to a request with a stream of items.

    Items are encoded in batches. A batch is sent as soon as the source has no more items ready, so the first item
    leaves at once. If the client reads slowly, the source is paused. If the client disconnects, the source is closed
    within a second.

    If the source fails before its first item, the client gets an error response (RFC 9457). If it fails later, the
    connection is closed without the last chunk, so the client sees that the response is incomplete. Clients that send
    ``Prefer: stream-end`` also get a last record with the number of items, or with the problem.

    If the request opens a WebSocket, each item is sent as one message: JSON, or plain text in the format text. A client
    that offers the subprotocol ``chunkwise.ndjson`` gets messages with many items, one per line. The source can read
    the client's messages with `items(request)`; when the client disconnects, the source can first read the messages
    that have already arrived, and is then closed. A complete stream closes the WebSocket with 1000 and
    ``complete; items=N``, a failed one with 1011 and the title of the problem.

    Args:
        request: the request. For HEAD, only the headers are sent, and the source does not run.
        source: the items: an async iterable; a sync iterable, which runs in a thread; `Batches`, for items that are
            already in lists; or a `resumable`, from which clients can request ranges. Any other value, usually a dict,
            is sent as one document. It may hold iterables and awaitables at any depth, which are written in order. Do
            not change an item after you have yielded it, because items are encoded in batches.
        format: a name from `FORMATS` or a `Format`; a list of these, from which the client's Accept header selects; or
            None for all formats.
        status: the status of a successful response. Not used for a WebSocket.
        headers: additional response headers. ``Cache-Control`` is combined with the value that chunkwise sends. A
            strong ``ETag`` becomes a weak one if the response depends on the client's headers (format, compression,
            stream-end).
        compress: None: compress HTTP with the coding that the client prefers (zstd, gzip, br or deflate), but not a
            WebSocket. True: also compress a WebSocket (permessage-deflate, RFC 7692). False: never compress. Do not
            compress a response that holds a secret and data from somebody else: its length can reveal the secret.
        commit_after_seconds: how many seconds the status line waits for the first item. If the source fails after
            this time, the client gets an incomplete response instead of an error response.
        keepalive_seconds: after how many seconds of silence to send bytes without meaning (white space, a comment, a
            ping), so that proxies keep the connection open; 0 for never. The default is 15 for JSON, server-sent events
            and WebSockets, and never for the other formats. CSV and text have no such bytes.
        stall_seconds: how many seconds a client may read nothing while data waits for it, before it is disconnected; 0
            for no limit. TCP reports progress in steps of about 64 KiB, so a limit of a few seconds also disconnects
            clients that are only slow.
        origins: other origins whose pages may open a WebSocket (``"https://example.com"``), or ``"*"`` for all. By
            default only pages of the request's own host may, and others get 403, because browsers send the user's
            cookies with every handshake. Clients other than browsers send no Origin header and are allowed.

    Returns:
        The response, for the handler to return.

    Raises:
        UnknownFormat: no format has this name.
        ValueError: the status allows no content, ``headers`` contain Content-Length or Transfer-Encoding, a timeout is
            negative, the source is a generator that has already ended, or an origin is malformed.
        TypeError: the source is a function, or ``request`` is not a request.
    """
    if not isinstance(request, web.BaseRequest):
        msg = f"request: got {type(request).__name__}, expected a web.Request: respond(request, source)"
        raise TypeError(msg)
    headers = headers or {}
    waits = _Waits(commit_after_seconds, keepalive_seconds, stall_seconds)
    check_origins(origins)
    await _check(source, status, headers, waits)
    negotiated = _negotiate(request, source, format, headers, compress=compress, origins=origins)
    if isinstance(negotiated, web.Response):
        await discard(source)
        return negotiated
    selection = select_items(request, source, negotiated.format, messages=negotiated.websocket)
    if isinstance(selection, web.Response):
        return selection
    # A CIMultiDict keeps several headers with the same name, which a handler may pass.
    headers = CIMultiDict(headers)
    headers.update(selection.info.to_headers(partial=selection.partial))
    if negotiated.websocket:
        wire, stream = _open_websocket(request, selection, negotiated, headers, waits, compress=bool(compress))
    else:
        opened = await _open_http(request, selection, negotiated, 206 if selection.partial else status, headers, waits)
        if isinstance(opened, web.StreamResponse):
            return opened
        wire, stream = opened
    delivery = Delivery(
        request,
        wire,
        stream,
        streams_of(request),
        commit_after_seconds=commit_after_seconds,
        keepalive_seconds=_keepalive_seconds(negotiated, waits),
        empty_status=204 if selection.ends_events else None,
        after=selection.after,
    )
    return await delivery.run() or wire.response


class _Waits(NamedTuple):
    """The time limits of `respond`."""

    commit_after_seconds: float
    keepalive_seconds: float | None
    stall_seconds: float


class _Negotiated(NamedTuple):
    """The result of the negotiation between request and handler."""

    format: Format
    coding: str  # the content coding, or `IDENTITY` if the content is not compressed
    websocket: bool  # whether the request opens a WebSocket
    stream_end: bool  # whether to send an end record: the client asked for it, and the format has one
    varies: Sequence[str]  # the request headers that the result depends on, for Vary


async def _check(source: Any, status: int, headers: Mapping[str, str], waits: _Waits) -> None:
    """Check the arguments of `respond`. If one cannot be used for a stream, close the source and raise ValueError."""
    lengths = [name for name in headers if name.title() in (hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING)]
    shortest = min(seconds or 0 for seconds in waits)
    msg = ""
    if lengths:
        msg = f"headers: got {lengths[0]}, expected none, since the length of a stream is not known: leave it out"
    elif status < 200 or status in (204, 205, 304):
        msg = f"status: got {status}, expected a status with content, such as 200 (RFC 9110 §15)"
    elif shortest < 0:
        negative = next(name for name, seconds in zip(waits._fields, waits, strict=True) if (seconds or 0) < 0)
        msg = f"{negative} must be >= 0, got {getattr(waits, negative)}"
    if msg:
        await discard(source)
        raise ValueError(msg)


def _negotiate(
    request: web.BaseRequest,
    source: Any,
    format: FormatChoice,
    headers: Mapping[str, str],
    *,
    compress: bool | None,
    origins: Sequence[str],
) -> _Negotiated | web.Response:
    """Return the format, coding and transport for a request, or a response that refuses the request."""
    formats = offered(format)
    if not is_stream(source):
        formats = [row for row in formats if row.documents] or formats
    negotiable = not isinstance(format, (str, Format))
    chosen = negotiate(_values(request, hdrs.ACCEPT), formats) if negotiable else formats[0]
    websocket = is_upgrade(request)
    coded = compress is not False and not websocket and hdrs.CONTENT_ENCODING not in {name.title() for name in headers}
    coding = negotiate_coding(_values(request, hdrs.ACCEPT_ENCODING), CODINGS) if coded else IDENTITY
    if streams_of(request).stopping:
        return problem_of(GoingAway())
    if chosen is None:
        return _refusal(request, hdrs.ACCEPT, [row.media_types[0] for row in formats])
    if coding is None:
        return _refusal(request, hdrs.ACCEPT_ENCODING, [*CODINGS, IDENTITY])
    if websocket and not may_open(request, origins):
        return problem_response(403, _OTHER_ORIGIN)
    stream_end = chosen.end_record is not None and prefers(_values(request, "Prefer"), STREAM_END)
    if not websocket and request.version < (1, 1) and not (chosen.proves_end or stream_end) and _is_unix(request):
        return problem_response(505, _NO_RESET)
    varies = [*[hdrs.ACCEPT] * negotiable, *[hdrs.ACCEPT_ENCODING] * coded, *["Prefer"] * bool(chosen.end_record)]
    return _Negotiated(chosen, coding, websocket, stream_end, varies)


def _open_websocket(
    request: web.BaseRequest,
    selection: Selection,
    negotiated: _Negotiated,
    headers: Mapping[str, str],
    waits: _Waits,
    *,
    compress: bool,
) -> tuple[Wire, Outbound]:
    stream = open_outbound(selection.source, LINES, count=selection.item_count)
    wants_start = selection.info.ranges and hdrs.RANGE in request.headers
    options = WebSocketOptions(
        headers=headers,
        plain=negotiated.format.plain_messages,
        start=selection.info.to_record() if wants_start else b"",
        compress=compress,
        stall_seconds=waits.stall_seconds,
    )
    streams = streams_of(request)
    return WebSocketWire(request, options, stream.wake, lambda: streams.stopping), stream


async def _open_http(
    request: web.BaseRequest,
    selection: Selection,
    negotiated: _Negotiated,
    status: int,
    headers: Mapping[str, str],
    waits: _Waits,
) -> tuple[Wire, Outbound] | web.StreamResponse:
    """Return the `Wire` and the bytes of the stream. For HEAD, only send the headers, and return the sent response."""
    chosen, coding, _, stream_end, varies = negotiated
    response = stream_response(status, headers, chosen, coding, varies, stream_end=stream_end)
    if request.method == hdrs.METH_HEAD:
        await discard(selection.source)
        await response.prepare(request)
        return response
    stream = open_outbound(
        selection.source,
        chosen,
        stream_end=stream_end,
        first=selection.info.first,
        key=selection.key,
        count=selection.item_count,
    )
    return HttpWire(request, response, chosen, None if coding == IDENTITY else coding, waits.stall_seconds), stream


def _keepalive_seconds(negotiated: _Negotiated, waits: _Waits) -> float:
    """Return after how many seconds of silence a keepalive is sent; 0 for never."""
    chosen, websocket = negotiated.format, negotiated.websocket
    if not websocket and chosen.keepalive is None:
        return 0
    if waits.keepalive_seconds is not None:
        return waits.keepalive_seconds
    return KEEPALIVE_SECONDS if websocket or chosen.keepalive_by_default else 0


def _values(request: web.BaseRequest, name: str) -> Sequence[str]:
    return request.headers.getall(name, ())


def _is_unix(request: web.BaseRequest) -> bool:
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    return connection is not None and connection.family == getattr(socket, "AF_UNIX", None)


def _refusal(request: web.BaseRequest, header: str, available: Sequence[str]) -> web.Response:
    detail = f"{header}: got {', '.join(_values(request, header))}, expected one of {', '.join(available)}"
    refusal = problem_response(406, detail, available=available)
    refusal.headers[hdrs.VARY] = header
    return refusal


@overload
def streaming(handler: Producer) -> Handler: ...
@overload
def streaming(*, format: FormatChoice = None, **options: Unpack[StreamOptions]) -> Callable[[Producer], Handler]: ...
def streaming(handler: Producer | None = None, **options: Any) -> Any:
    """Turn a generator function that takes a request and yields items into an aiohttp handler.

    Use it as ``@streaming`` or, with options, as ``@streaming(format="ndjson")``. An async generator function runs on
    the event loop, any other one in a thread. It also works for the methods of a `web.View`.

    Args:
        handler: the generator function.
        options: the options of `respond`, including ``format``.

    Raises:
        TypeError: the function is not a generator function, or `respond` has no such option.
        UnknownFormat: no format has this name.
        ValueError: an origin is malformed.
    """
    inspect.signature(respond).bind(None, None, **options)
    offered(options.get("format"))
    check_origins(options.get("origins", ()))
    if handler is None:
        return functools.partial(streaming, **options)
    if not (inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler)):
        msg = f"@streaming: got {handler!r}, expected a generator function: yield items, or return respond(...)"
        raise TypeError(msg)

    @functools.wraps(handler)
    async def respond_with_items(*args: Any) -> web.StreamResponse:
        request = args[-1].request if isinstance(args[-1], web.View) else args[-1]
        return await respond(request, handler(*args), **options)

    return respond_with_items
