"""The streams of an application -> an `Outcome` for each, which is logged and passed to a hook.

When the server stops, `Streams.stop` ends the streams that still run.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

import msgspec
from aiohttp import web

from chunkwise.errors import StreamError
from chunkwise.transports.problems import GoingAway, problem_of, upload_details

logger: logging.Logger = logging.getLogger("chunkwise")
access_logger: logging.Logger = logging.getLogger("chunkwise.access")

OutcomeName = Literal["complete", "failed", "client_gone", "stalled", "shut_down"]

# How long `Streams.stop` waits after it has stopped each stream. A stream notices this within half a second, and may
# then wait one second for the thread of its source.
_NOTICE_SECONDS = 2.0
_ABORT_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one stream of a server ended.

    Attributes:
        end: ``"complete"``; ``"failed"``: the source raised an exception, or an item could not be encoded;
            ``"client_gone"``: the client disconnected before the end; ``"stalled"``: the client read nothing for too
            long and was disconnected; ``"shut_down"``: the server stopped.
        method: the request's method.
        path: the request's path and query, as they were sent.
        status: the status of the response.
        format: the name of the format.
        coding: the content coding (``"gzip"``), or None.
        items: how many items were written to the connection.
        bytes: how many bytes of content were written to the connection, after compression.
        first_item_seconds: seconds from the call of `respond` until the first item was written, or None.
        seconds: seconds from the call of `respond` to the end.
        error: the exception of the source, or None.
    """

    end: OutcomeName
    method: str
    path: str
    status: int
    format: str
    coding: str | None
    items: int
    bytes: int
    first_item_seconds: float | None
    seconds: float
    error: BaseException | None


OutcomeHook = Callable[[web.Request, Outcome], Awaitable[None] | None]


class Running(Protocol):
    """A stream or an upload in progress that can be ended at shutdown."""

    request: web.BaseRequest

    def stop(self) -> None:
        """Let the stream fail soon, in a way that the client notices."""

    def abort(self) -> None:
        """Drop the connection at once."""


class _Upload:
    """A request whose body is being received. Like a stream, it can be ended at shutdown; see `Running`."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request

    def stop(self) -> None:
        """Let `items(request)` read the bytes that have already arrived, and then raise an error."""
        if not self.request.content.is_eof():
            self.request.content.set_exception(ConnectionResetError("the server is shutting down"))

    def abort(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


class Streams:
    """The streams in progress of one application; see `setup` for the arguments."""

    def __init__(self, grace_seconds: float = 0.0, on_outcome: OutcomeHook | None = None) -> None:
        self.stopping: bool = False
        self._grace_seconds = grace_seconds
        self._on_outcome = on_outcome
        self._running: set[Running] = set()
        self._awaited: set[Running] = set()  # the streams that `stop` is waiting for
        self._none_awaited = asyncio.Event()

    def add(self, stream: Running) -> None:
        """Add a stream that has begun."""
        self._running.add(stream)

    async def ended(self, stream: Running, request: web.BaseRequest, outcome: Outcome) -> None:
        """Remove a stream that has ended, log its outcome, and call the hook."""
        self._leave(stream)
        if access_logger.isEnabledFor(logging.INFO):
            access_logger.info(_line(request, outcome), extra={"outcome": outcome})
        if self._on_outcome is not None and isinstance(request, web.Request):
            try:
                if inspect.isawaitable(called := self._on_outcome(request, outcome)):
                    await called
            except Exception:
                logger.exception("on_outcome raised an exception for %s %s", request.method, request.rel_url)

    async def stop(self, _app: web.Application) -> None:
        """End all streams.

        Wait for the grace time, and then let the streams that still run fail. Drop the connections of those that do not
        end soon after that.
        """
        self.stopping = True
        await self._wait(self._grace_seconds)
        answering = {id(stream.request) for stream in self._running if not isinstance(stream, _Upload)}
        for stream in self._running:
            # If a request has a stream and an upload, only the stream is stopped. The client then gets the problem
            # "Going Away", and not the error of an interrupted upload.
            if not (isinstance(stream, _Upload) and id(stream.request) in answering):
                stream.stop()
        await self._wait(_NOTICE_SECONDS)
        for stream in self._running:
            stream.abort()
        await self._wait(_ABORT_SECONDS)

    @web.middleware
    async def look_after_upload(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        """Run a handler; if it does not catch an error in the request's body, respond with problem details."""
        upload = _Upload(request)
        if request.body_exists:
            self._running.add(upload)
        try:
            response: web.StreamResponse = await handler(request)
        except StreamError as error:
            # If a response has begun, the error is raised again, so that aiohttp closes the connection. A second
            # response would be sent inside the first.
            if request.writer.output_size or upload_details(error, request) is None:
                raise
            return problem_of(GoingAway() if self.stopping else error, request)
        finally:
            self._leave(upload)
        return response

    def _leave(self, stream: Running) -> None:
        self._running.discard(stream)
        self._awaited.discard(stream)
        if not self._awaited:
            self._none_awaited.set()

    async def _wait(self, seconds: float) -> None:
        """Wait until all streams that run now have ended, for ``seconds`` at most."""
        self._awaited = set(self._running)
        if self._awaited:
            self._none_awaited.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none_awaited.wait(), seconds)


_STREAMS = web.AppKey("chunkwise.streams", Streams)
_UNMANAGED = Streams()  # All applications without `setup` share this object.


def setup(app: web.Application, *, grace_seconds: float = 5.0, on_outcome: OutcomeHook | None = None) -> None:
    """Manage the streams of an application: end them when the server stops, and report how each one ended.

    Streams also work without `setup`. Then aiohttp waits 60 seconds for them when the server stops, and cancels them.

    `setup` also turns errors of an upload into responses: if a handler reads a request with `items(request)` and does
    not catch an error, the client gets a problem (RFC 9457) with the status 413 for `LimitError`, 415 for
    `UnknownFormat`, 400 for `TruncatedError` and `RemoteError`, and 422 for `PathNotFound` and any other `DecodeError`.
    The members ``item`` and ``byte`` of the problem say where the error is.

    Args:
        app: the application, before it starts. Its sub-applications are included.
        grace_seconds: how many seconds running streams may continue when the server stops. During this time, `respond`
            responds with 503. Streams that still run after that fail with the problem "Going Away"; all have ended at
            most 3 seconds later. aiohttp discards what clients send after the stop. So a running upload can only read
            what has already arrived, and fails after the grace time if it is not complete.
        on_outcome: a function or coroutine function that is called with the request and the `Outcome` when a stream
            ends. Its exceptions are logged. Each outcome is also logged as one line of JSON, by the logger
            ``chunkwise.access`` at level INFO.

    Raises:
        TypeError: ``app`` is not an application.
        ValueError: `setup` was called for this application before.
    """
    if not isinstance(app, web.Application):
        raise TypeError(f"app: got {type(app).__name__}, expected the web.Application")
    if _STREAMS in app:
        raise ValueError("setup() has already been called for this application: call it once")
    streams = app[_STREAMS] = Streams(grace_seconds, on_outcome)
    app.on_shutdown.append(streams.stop)
    app.middlewares.append(streams.look_after_upload)


def streams_of(request: web.BaseRequest) -> Streams:
    """Return the `Streams` of the application that handles a request; a shared object if `setup` was not called."""
    # A loop over the nested applications is faster than a lookup in request.config_dict.
    for app in reversed(request.match_info.apps) if isinstance(request, web.Request) else ():
        known = app.get(_STREAMS)
        if known is not None:
            return known
    return _UNMANAGED


def _line(request: web.BaseRequest, outcome: Outcome) -> str:
    line = {field.name: getattr(outcome, field.name) for field in fields(outcome)} | {
        "first_item_seconds": outcome.first_item_seconds and round(outcome.first_item_seconds, 6),
        "seconds": round(outcome.seconds, 6),
        "error": type(outcome.error).__name__ if outcome.error is not None else None,
        "remote": request.remote,
    }
    return msgspec.json.encode(line).decode()
