"""The bytes of a stream -> one response to the client, and an `Outcome` that says how the stream ended.

`Delivery` begins the response, sends keepalives, notices when the client leaves, and reports failures to the client. A
`Wire` sends the bytes: `HttpWire` or `WebSocketWire`.
"""

import asyncio
import logging
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any, Protocol

from aiohttp import web

from chunkwise.errors import RemoteError, StreamError, TruncatedError, counted
from chunkwise.flow.outbound import Outbound
from chunkwise.server.item_ranges import refuse_key
from chunkwise.server.lifecycle import Outcome, OutcomeName, Streams
from chunkwise.transports.periodic_checks import CHECK_SECONDS, PeriodicChecks
from chunkwise.transports.problems import GoingAway, details_of, problem_of, upload_details

logger: logging.Logger = logging.getLogger("chunkwise")

_MIN_SECONDS = 0.01


class ClientGone(Exception):  # noqa: N818 - a signal inside this package
    """Raised when the client has left. It is not a ConnectionError, because sources can raise that error too."""


class Wire(Protocol):
    """The transport of one response.

    The coroutine methods raise `ClientGone` if the client has left, or was disconnected because it stalled.
    """

    status: int  # the HTTP status of the response
    format: str  # the name of the response's format
    coding: str | None  # the content coding that is applied, or None
    # Whether `commit` has begun to send the response. No other response can be sent then, even if `commit` fails.
    committed: bool

    @property
    def bytes_sent(self) -> int:
        """How many bytes of content were written to the connection so far, after compression."""

    @property
    def response(self) -> web.StreamResponse:
        """The response that the handler returns to aiohttp."""

    @property
    def stalled(self) -> bool:
        """Whether the client was disconnected because it received nothing for ``stall_seconds`` (see `respond`)."""

    async def commit(self) -> None:
        """Send the status and the headers, unless they were sent before. No error response can be sent after that."""

    async def write(self, data: bytes) -> None:
        """Send bytes. If the client is slow, wait, so that no more than one write is buffered for it."""

    async def keep_alive(self, *, in_item: bool) -> None:
        """Send bytes that clients ignore, so that no proxy closes a silent connection.

        ``in_item`` says whether the stream is inside an item that is written in parts.
        """

    async def finish(self, data: bytes, items: int) -> None:
        """Send the last bytes, which may be empty, and the end of the stream; like `write`, wait if the client is slow.

        ``items`` is the number of items in the whole stream.
        """

    async def break_off(self, record: bytes, error: BaseException) -> None:
        """End a stream that failed: report ``error`` to the client, and close so that the stream looks incomplete.

        ``record`` is the end record that reports the error; it may be empty.
        """

    def close(self) -> None:
        """Close the connection at once, so that the stream looks incomplete."""

    def abort(self) -> None:
        """Drop the connection, and all bytes that the client has not received."""

    def has_left(self) -> bool:
        """Whether the client has left."""

    def keeps_source_open(self) -> bool:
        """Whether the source may continue after the client has left, to process messages that arrived before."""

    async def discard(self) -> None:
        """Discard what the source writes after the client has left.

        Raise `ClientGone`, unless the source still reads the messages that arrived before.
        """


class Delivery:
    """Sends one stream to its client; an instance runs once.

    Args:
        request: the request to respond to.
        wire: the transport of the response.
        stream: the bytes of the stream.
        streams: the running streams of the application; this one is added to them until it ends.
        commit_after_seconds: how long the status line waits for the first item; see `respond`.
        keepalive_seconds: after how many seconds of silence a keepalive is sent; 0 for never.
        empty_status: the status of the response without content that is sent if the stream has no items; None: then
            an empty stream is sent.
        after: the key of the last item that the client has, if it asked to continue after that item; else None.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        wire: Wire,
        stream: Outbound,
        streams: Streams,
        *,
        commit_after_seconds: float,
        keepalive_seconds: float,
        empty_status: int | None = None,
        after: Any = None,
    ) -> None:
        self.request = request
        self._wire = wire
        self._stream = stream
        self._streams = streams
        self._commit_after_seconds = commit_after_seconds
        self._keepalive_seconds = keepalive_seconds
        self._empty_status = empty_status
        self._after = after
        self._stopping = False
        self._begins = True
        self._begun = monotonic()
        self._written = self._begun
        self._items = 0
        self._first_item_seconds: float | None = None

    def stop(self) -> None:
        """Let the stream fail soon, because the server stops. It may send one more item before it ends."""
        self._stopping = True

    def abort(self) -> None:
        self._stopping = True
        self._wire.abort()

    def check(self) -> None:
        """End the wait for the source if the server stops, a keepalive is due, or the client has left.

        `PeriodicChecks` calls this method at regular intervals. It must check whether the client has left, because
        aiohttp does not report that.
        """
        if self._stopping or self._is_gone() or self._is_silent():
            self._stream.wake()

    async def run(self) -> web.Response | None:
        """Send the stream. If it ends before its response has begun, return another response to send, such as an error.

        Raises:
            HTTPException: the source raised it before the first item, and it is a complete response, such as a
                redirect.
            CancelledError: the handler was cancelled.
        """
        end: OutcomeName = "failed"
        failure: BaseException | None = None
        instead: web.Response | None = None
        self._streams.add(self)
        try:
            instead = await self._send()
            end = "complete"
        except ClientGone:
            end = self._why_gone()
            # The connection is dropped and not closed: a close waits until the buffered bytes are sent, and a client
            # that has left never receives them.
            self._wire.abort()
        except StreamError as error:
            if self._wire.has_left() and self._is_half_an_upload(error):
                end = self._why_gone()
                self._wire.abort()
            else:
                failure = error
                instead = await self._fail(error)
        except GoingAway as error:
            end = "shut_down"
            instead = await self._fail(error)
        except BaseException as error:
            failure = error
            if not isinstance(error, Exception) and not _is_the_sources_own(error):
                if self._wire.has_left():
                    end, failure = "client_gone", None
                if self._wire.committed:
                    self._wire.close()
                raise
            instead = await self._fail(error)
        finally:
            PeriodicChecks.of_loop().leave(self)
            status = instead.status if instead is not None else self._wire.status
            await self._streams.ended(self, self.request, self._outcome(end, failure, status))
        if isinstance(instead, web.HTTPException):
            raise instead  # aiohttp expects that a handler raises an HTTPException, and does not return it
        return instead

    async def _send(self) -> web.Response | None:
        stream, wire, data = self._stream, self._wire, b""
        stream.quiet_seconds = min(CHECK_SECONDS, self._commit_after_seconds)
        async with aclosing(stream.pieces()) as pieces:
            async for piece in pieces:
                data = piece
                ending = self._stopping and not stream.complete
                if ending and not wire.committed:
                    raise GoingAway
                left = wire.has_left()
                if left and not wire.keeps_source_open():
                    raise ClientGone
                if self._begins and stream.complete and not stream.items_sent and self._empty_status is not None:
                    return web.Response(status=self._empty_status)
                if self._begins:
                    waiting = self._commit_after_seconds - (monotonic() - self._begun)
                    if not data and waiting > 0 and not wire.committed:
                        stream.quiet_seconds = min(CHECK_SECONDS, waiting)
                        continue
                    await self._commit()
                    data += stream.take_rest()
                if stream.complete:
                    break  # `finish` below sends the last bytes together with the end of the stream
                if data and left:
                    # Nothing is written to a client that has left: a write would reset the connection, and a reset
                    # discards the client's messages that the source has not read yet.
                    await wire.discard()
                elif data:
                    self._count()
                    await wire.write(data)
                    self._written = monotonic()
                elif self._is_silent() and not left:
                    await wire.keep_alive(in_item=stream.in_item)
                    self._written = monotonic()
                if ending:
                    # GoingAway is raised after the write, so that the end record counts the items just written.
                    raise GoingAway
        if self._begins:
            await self._commit()
        self._count()
        await wire.finish(data, stream.items_sent)
        return None

    async def _commit(self) -> None:
        self._begins = False
        await self._wire.commit()
        self._written = monotonic()
        short = 0 < self._keepalive_seconds < CHECK_SECONDS
        self._stream.quiet_seconds = max(_MIN_SECONDS, self._keepalive_seconds) if short else None
        PeriodicChecks.of_loop().join(self)

    def _count(self) -> None:
        """Update the number of items for the outcome; call this before each write."""
        self._items = self._stream.items_sent
        if self._first_item_seconds is None and (self._items > 0 or self._stream.in_item):
            self._first_item_seconds = monotonic() - self._begun

    def _is_gone(self) -> bool:
        return self._wire.has_left() and not self._wire.keeps_source_open()

    def _is_silent(self) -> bool:
        """Whether a keepalive is due."""
        return 0 < self._keepalive_seconds <= monotonic() - self._written

    def _is_half_an_upload(self, error: StreamError) -> bool:
        """Whether an error means that the client left before it had sent its whole upload."""
        # Reading a WebSocket raises a RemoteError with the status 503 if the client has closed it with the code 1001,
        # as a browser does when the user leaves the page. So this error also means that the client left.
        going_away = isinstance(error, RemoteError) and error.status == 503
        return (going_away or isinstance(error, TruncatedError)) and upload_details(error, self.request) is not None

    def _why_gone(self) -> OutcomeName:
        if self._wire.stalled:
            return "stalled"
        return "shut_down" if self._stopping else "client_gone"

    async def _fail(self, error: BaseException) -> web.Response | None:
        """Report a failure to the client: with an error response, or inside the response that has begun."""
        if not self._wire.committed and (refusal := refuse_key(error, self._after)) is not None:
            return refusal
        where = f"{self.request.method} {self.request.rel_url} after {counted(self._items, 'item')}"
        broken_off = ": the response is incomplete" if self._wire.committed else ""
        if isinstance(error, GoingAway):
            logger.info("the shutdown of the server ended %s%s", where, broken_off)
        elif upload_details(error, self.request) is not None:
            # %r escapes line ends: the text may be from the client, which must not add lines to the log.
            logger.info("bad upload in %s (%r)%s", where, str(error), broken_off)
        elif broken_off or not isinstance(error, web.HTTPException):
            logger.error("the source of %s failed%s", where, broken_off, exc_info=error)
        if not self._wire.committed:
            return problem_of(error, self.request)
        with suppress(ClientGone):
            await self._wire.break_off(self._stream.fail(details_of(error, self.request)), error)
        return None

    def _outcome(self, end: OutcomeName, error: BaseException | None, status: int) -> Outcome:
        return Outcome(
            end=end,
            method=self.request.method,
            path=self.request.raw_path,
            status=status,
            format=self._wire.format,
            coding=self._wire.coding,
            items=self._items,
            bytes=self._wire.bytes_sent,
            first_item_seconds=self._first_item_seconds,
            seconds=monotonic() - self._begun,
            error=error,
        )


def _is_the_sources_own(error: BaseException) -> bool:
    """Whether the source failed because it waited for a cancelled task, and the handler itself was not cancelled."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
