"""A source -> the answer to a request: chunked HTTP/1.1 (RFC 9112 §7.1), or HTTP/1.0 until the connection closes.

Must not know any one format: what it needs of them is data in `Format`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from time import monotonic
from typing import Any, overload

from aiohttp import hdrs, web

from chunkwise.flow.document import discard
from chunkwise.flow.outbound import Outbound, is_stream, open_outbound
from chunkwise.formats import Format
from chunkwise.transports.negotiation import FormatChoice, negotiate, offered
from chunkwise.transports.problems import problem_of, problem_response

logger = logging.getLogger("chunkwise")

Handler = Callable[..., Awaitable[web.StreamResponse]]
Producer = Callable[..., Any]

KEEPALIVE_SECONDS = 15.0
"""Silence after which JSON and server-sent events are kept alive: proxies give up after 60 seconds, as a rule."""

_WATCH_SECONDS = 0.5  # aiohttp tells no handler that its client has left: one that writes nothing must look


async def respond(
    request: web.BaseRequest,
    source: Any,
    format: FormatChoice = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    commit_after_seconds: float = 0.25,
    keepalive_seconds: float | None = None,
) -> web.StreamResponse:
    """Answer a request with a stream of items; return the response, as an aiohttp handler does.

    What the source has ready is sent the moment that it has to wait; a slow reader slows the source down. A source that
    fails before its first item gives an ordinary error answer (RFC 9457); one that fails later gives an answer which no
    client can take for a whole one, since its connection is closed without the last chunk.

    Args:
        request: the request; HEAD is answered without running the source.
        source: an async iterable of items; a sync iterable (run in a thread of its own); or one value, as a rule a
            dict: a document, which may hold iterables and awaitables at any depth, and is written in its own order.
        format: a name from `FORMATS`, a list of them for the client to choose from by its Accept header, or None for
            all.
        status: of an answer that goes well.
        headers: more headers; a ``Cache-Control`` is joined with ours.
        commit_after_seconds: how long the status line waits for the first item.
        keepalive_seconds: after how much silence bytes are sent that mean nothing in the format (white space, a
            comment), so that proxies do not take a slow source for a dead one. By default 15 in JSON and server-sent
            events, never in the others; 0 for never.

    Raises:
        UnknownFormat: ``format`` names none.
        ValueError: the status allows no content, or the headers tell a length.
        TypeError: the source is a function.
    """
    await _check(source, status, headers or {})
    formats = offered(format)
    if not is_stream(source):
        formats = [row for row in formats if row.documents] or formats
    accept = request.headers.getall(hdrs.ACCEPT, [])
    negotiated = not isinstance(format, (str, Format))
    chosen = negotiate(accept, formats) if negotiated else formats[0]
    if chosen is None:
        await discard(source)
        names = [row.media_types[0] for row in formats]
        detail = f"the client accepts {', '.join(accept)}; there is {', '.join(names)}"
        refusal = problem_response(406, detail, available=names)
        refusal.headers[hdrs.VARY] = hdrs.ACCEPT
        return refusal
    response = web.StreamResponse(status=status, headers=headers)
    _set_headers(response, chosen, negotiated=negotiated)
    if request.method == hdrs.METH_HEAD:
        await discard(source)
        await response.prepare(request)
        return response
    outbound = open_outbound(source, chosen)
    outbound.quiet_seconds = commit_after_seconds
    if keepalive_seconds is None:
        keepalive_seconds = KEEPALIVE_SECONDS if chosen.keepalive_by_default else 0
    silence = _Silence(outbound, chosen.keepalive, keepalive_seconds)
    return await _send(request, response, outbound, silence)


async def _check(source: Any, status: int, headers: Mapping[str, str]) -> None:
    told = [name for name in headers if name.title() in (hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING)]
    msg = ""
    if told:
        msg = f"headers name {told[0]}, but nobody knows a stream's length: leave it out"
    elif status < 200 or status in (204, 205, 304):
        msg = f"status {status} has no content (RFC 9110 §15), so it cannot answer with a stream"
    if msg:
        await discard(source)
        raise ValueError(msg)


def _set_headers(response: web.StreamResponse, format: Format, *, negotiated: bool) -> None:
    headers = response.headers
    headers[hdrs.CONTENT_TYPE] = format.content_type
    # RFC 9111 §5.2.2.6: a proxy that transforms reads ahead, and what it makes may look whole when the stream is not.
    directives = [headers.get(hdrs.CACHE_CONTROL), format.headers.get(hdrs.CACHE_CONTROL), "no-transform"]
    headers[hdrs.CACHE_CONTROL] = ", ".join(dict.fromkeys(directive for directive in directives if directive))
    for name, value in format.headers.items():
        headers.setdefault(name, value)
    headers.setdefault("X-Accel-Buffering", "no")  # nginx
    headers.setdefault("Incremental", "?1")  # draft-ietf-httpbis-incremental
    if negotiated:
        known = [name.strip() for name in headers.get(hdrs.VARY, "").split(",") if name.strip()]
        headers[hdrs.VARY] = ", ".join(dict.fromkeys([*known, hdrs.ACCEPT]))


class _Silence:
    """What to do while a source has nothing: see whether the client is still there, and keep proxies awake."""

    def __init__(self, stream: Outbound, keepalive: bytes | None, keepalive_seconds: float) -> None:
        self._stream = stream
        self._keepalive = keepalive if keepalive_seconds else None
        self._keepalive_seconds = keepalive_seconds
        self._since = monotonic()

    def begin(self) -> None:
        """Say that something was written."""
        self._since = monotonic()
        watch = min(_WATCH_SECONDS, self._keepalive_seconds) if self._keepalive else _WATCH_SECONDS
        self._stream.quiet_seconds = watch

    def filler(self, request: web.BaseRequest) -> bytes:
        """Return what is to be written now, maybe nothing.

        Raises:
            _ClientHasLeft: nobody would read it.
        """
        if request.transport is None or request.transport.is_closing():
            raise _ClientHasLeft
        if self._keepalive is None or monotonic() - self._since < self._keepalive_seconds:
            return b""
        # Inside a JSON text, which any of the formats may hold, only white space between its tokens means nothing.
        return b" " if self._stream.in_item else self._keepalive


class _ClientHasLeft(Exception):  # noqa: N818 - a signal inside this file
    """Writing failed: told apart from a source that fails with a ConnectionError of its own."""


async def _send(
    request: web.BaseRequest, response: web.StreamResponse, stream: Outbound, silence: _Silence
) -> web.StreamResponse:
    committed = False
    try:
        async with aclosing(stream.pieces()) as pieces:
            async for data in pieces:
                if not committed:
                    committed = True  # also if that fails: aiohttp's writer is then spoilt for any other answer
                    await _commit(request, response)
                    silence.begin()
                if sent := data or silence.filler(request):
                    await _write(response.write(sent))
                    silence.begin()
        await _write(response.write_eof())
    except _ClientHasLeft:
        logger.debug("the client of %s %s has left", request.method, request.rel_url)
    except BaseException as error:
        task = asyncio.current_task()
        if not isinstance(error, Exception) and not (
            # A source that waits for a task which somebody cancelled has failed: we are not cancelled.
            isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
        ):
            if committed:
                _break_off(request, response)
            raise
        where = f"{request.method} {request.rel_url} after {stream.items_sent} items"
        if not committed:
            if not isinstance(error, web.HTTPException):
                logger.exception("the source of %s failed", where)
            problem = problem_of(error)
            if isinstance(problem, web.HTTPException):
                raise  # aiohttp wants its own answers raised
            return problem
        logger.exception("the source of %s failed: the answer is broken off", where)
        _break_off(request, response)
    return response


async def _commit(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Send the status line and the headers."""
    if request.version < (1, 1):
        response.force_close()  # nothing else ends the answer: not even "Connection: keep-alive" may keep it open
    try:
        await response.prepare(request)
    except ConnectionError as error:
        if request.transport is None or request.transport.is_closing():
            raise _ClientHasLeft from error
        raise  # of a signal that the application has put there
    if response.content_length is not None:
        _break_off(request, response)
        msg = f"a signal has set Content-Length: {response.content_length} on a stream, whose length nobody knows"
        raise ValueError(msg)


async def _write(writing: Awaitable[None]) -> None:
    try:
        await writing
    except ConnectionError as error:
        raise _ClientHasLeft from error


def _break_off(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Close the connection so that no client takes the answer for a whole one, but may read what was sent."""
    response.force_close()
    transport = request.transport
    if transport is None or transport.is_closing():
        return
    if request.version < (1, 1):
        # HTTP/1.0 has no last chunk: a close is the end, and only a reset is not. (RFC 9112 §6.3, rule 8)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Sends what is buffered, then closes: aiohttp can write neither the last chunk nor another answer behind it.
    transport.close()


@overload
def streaming(handler: Producer) -> Handler: ...
@overload
def streaming(
    *,
    format: FormatChoice = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    commit_after_seconds: float = 0.25,
    keepalive_seconds: float | None = None,
) -> Callable[[Producer], Handler]: ...
def streaming(handler: Producer | None = None, **options: Any) -> Any:
    """Make an aiohttp handler of a generator function that takes the request and yields items.

    Async generator functions run on the loop, plain generator functions in a thread. Methods of a `web.View` work, too.
    The options are those of `respond`.

    Raises:
        TypeError: what is decorated is no generator function.
    """
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
