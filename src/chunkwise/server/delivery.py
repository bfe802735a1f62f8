"""The stream of one response -> its transport, from the first item to one of five outcomes.

It commits the response, sends keepalives, notices a client that has left, and makes failures visible. A `Wire` carries
the bytes: `HttpWire` or `WebSocketWire`.
"""

import asyncio
import logging
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any, Protocol

from aiohttp import web

from chunkwise.errors import RemoteError, StreamError, TruncatedError
from chunkwise.flow.outbound import Outbound
from chunkwise.server.item_ranges import refuse_key
from chunkwise.server.lifecycle import Outcome, OutcomeName, Streams
from chunkwise.transports.periodic_checks import CHECK_SECONDS, PeriodicChecks
from chunkwise.transports.problems import GoingAway, details_of, problem_of, upload_details

logger: logging.Logger = logging.getLogger("chunkwise")

_MIN_SECONDS = 0.01


class ClientGone(Exception):  # noqa: N818 - a signal inside this package
    """The client has left. A class of its own, because a source may fail with a ConnectionError too."""


class Wire(Protocol):
    """The transport of one response.

    Its coroutine methods raise `ClientGone` if the client has left or was cut off.
    """

    status: int  # the status of the response
    format: str  # the name of its format
    coding: str | None  # the content coding that it applies, or None
    committed: bool  # whether the response has begun, even if that failed: no other response can be sent then

    @property
    def bytes_sent(self) -> int:
        """Bytes of the content handed over so far, after compression."""

    @property
    def response(self) -> web.StreamResponse:
        """The response, for aiohttp."""

    @property
    def stalled(self) -> bool:
        """Whether it has cut off a client that took nothing."""

    async def commit(self) -> None:
        """Begin the response, unless it has begun; later failures can only be reported inside it."""

    async def write(self, data: bytes) -> None:
        """Send bytes; wait while the client does not keep up."""

    async def keep_alive(self, *, in_item: bool) -> None:
        """Send bytes without a meaning, after a long silence; see `Outbound.in_item`."""

    async def finish(self, data: bytes, items: int) -> None:
        """Send the last bytes, possibly none, and the end of a stream of so many items; wait for the client."""

    async def break_off(self, record: bytes, error: BaseException) -> None:
        """Send the format's record of the failure, possibly empty, and close so that the stream does not look whole."""

    def close(self) -> None:
        """Close so that the stream does not look whole, without waiting."""

    def abort(self) -> None:
        """Drop the connection."""

    def has_left(self) -> bool:
        """Whether the client has left."""

    def keeps_source_open(self) -> bool:
        """Whether the source of a client that has left is still to be given what arrived from it."""

    async def discard(self) -> None:
        """Discard bytes of such a source; raise `ClientGone` if it only writes, and does not read."""


class Delivery:
    """One stream on its way to its client: it joins the ``streams`` of its application, and runs once.

    ``empty_status`` is sent if the stream turns out to have no items: the status of a response without content.
    ``after`` is the key that the client sent, see `refuse_key`; `respond` describes the other arguments.
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
        """See `Running.stop`: the stream notices at its next step, and may send an item until then."""
        self._stopping = True

    def abort(self) -> None:
        self._stopping = True
        self._wire.abort()

    def check(self) -> None:
        """Wake a waiting stream if there is something to do: aiohttp does not report to handlers that a client left."""
        if self._stopping or self._is_gone() or self._is_silent():
            self._stream.wake()

    async def run(self) -> web.Response | None:
        """Deliver the stream; return the response to send instead, if nothing of the stream was sent.

        An `HTTPException` of the source that is a response of its own is raised, and so is a cancellation of the
        handler.
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
            self._wire.abort()  # data that it has not taken would wait for ever
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
            raise instead  # aiohttp expects its own responses to be raised
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
                    break  # the last piece goes together with the end
                if data and left:  # a write would be answered with a reset, which discards what is still to be read
                    await wire.discard()
                elif data:
                    self._count()
                    await wire.write(data)
                    self._written = monotonic()
                elif self._is_silent() and not left:
                    await wire.keep_alive(in_item=stream.in_item)
                    self._written = monotonic()
                if ending:  # after the items that the end record will count
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
        """Count the items that are handed to the wire next."""
        self._items = self._stream.items_sent
        if self._first_item_seconds is None and (self._items > 0 or self._stream.in_item):
            self._first_item_seconds = monotonic() - self._begun

    def _is_gone(self) -> bool:
        return self._wire.has_left() and not self._wire.keeps_source_open()

    def _is_silent(self) -> bool:
        """Whether it is time to keep the connection alive."""
        return 0 < self._keepalive_seconds <= monotonic() - self._written

    def _is_half_an_upload(self, error: StreamError) -> bool:
        """Whether the error says that the client left in the middle of its upload."""
        going_away = isinstance(error, RemoteError) and error.status == 503  # a page that was closed, for example
        return (going_away or isinstance(error, TruncatedError)) and upload_details(error, self.request) is not None

    def _why_gone(self) -> OutcomeName:
        if self._wire.stalled:
            return "stalled"
        return "shut_down" if self._stopping else "client_gone"

    async def _fail(self, error: BaseException) -> web.Response | None:
        """Report a failure: with a response of its own, or inside the one that has begun."""
        if not self._wire.committed and (refusal := refuse_key(error, self._after)) is not None:
            return refusal
        where = f"{self.request.method} {self.request.rel_url} after {self._items} items"
        broken_off = ": the response is cut off" if self._wire.committed else ""
        if isinstance(error, GoingAway):
            logger.info("the server stopped during %s%s", where, broken_off)
        elif upload_details(error, self.request) is not None:
            # Quoted, since text from a client may contain line ends.
            logger.info("the upload of %s is bad (%r)%s", where, str(error), broken_off)
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
    """Whether a cancellation is the failure of the source, which waited for a task that was cancelled."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
