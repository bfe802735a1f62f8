"""A stream on its way to one client, over any wire, to one of its five ends.

Must not know any one format or transport: a `Wire` carries the bytes.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any, Protocol

from aiohttp import web

from chunkwise.errors import RemoteError, StreamError, TruncatedError
from chunkwise.flow.outbound import Outbound
from chunkwise.server.item_ranges import refuse_key
from chunkwise.server.lifecycle import End, Outcome, Streams
from chunkwise.transports.periodic_checks import ROUND_SECONDS, Rounds
from chunkwise.transports.problems import GoingAway, details_of, problem_of, upload_details

logger: logging.Logger = logging.getLogger("chunkwise")

_MIN_SECONDS = 0.01


class ClientGone(Exception):  # noqa: N818 - a signal between our files
    """Nobody reads any more: told apart from a source that fails with a ConnectionError of its own."""


class Wire(Protocol):
    """What carries the bytes of one stream to one client.

    Attributes:
        status: of the answer.
        format: the name of the format that it carries.
        coding: the content coding that it applies, or None.
        committed: whether the answer has begun, if only to fail at once: nothing else can be answered then.
    """

    status: int
    format: str
    coding: str | None
    committed: bool

    @property
    def bytes_sent(self) -> int:
        """Bytes of the content handed over so far, after compression."""

    @property
    def response(self) -> web.StreamResponse:
        """The answer, for aiohttp."""

    @property
    def stalled(self) -> bool:
        """Whether it has cut off a client that took nothing."""

    async def commit(self) -> None:
        """Begin the answer, unless it has begun: from here on a failure can be told only inside it.

        Raises:
            ClientGone: it has left.
        """

    async def write(self, data: bytes) -> None:
        """Send bytes, and wait while the client does not keep up.

        Raises:
            ClientGone: it has left, or was cut off.
        """

    async def keep_alive(self, *, in_item: bool) -> None:
        """Send what means nothing, after a long silence.

        Args:
            in_item: see `Outbound.in_item`.

        Raises:
            ClientGone: it has left, or was cut off.
        """

    async def finish(self, data: bytes, items: int) -> None:
        """Send the last bytes, say that the stream is complete, and wait until the client has taken it.

        Args:
            data: the bytes, maybe none.
            items: how many it had.

        Raises:
            ClientGone: it has left, or was cut off.
        """

    async def break_off(self, record: bytes, error: BaseException) -> None:
        """Tell the failure, and close so that nobody takes the stream for a whole one.

        Args:
            record: the format's record of the failure, if any.
            error: the failure itself.

        Raises:
            ClientGone: it has left, or was cut off.
        """

    def close(self) -> None:
        """Close likewise, without waiting for anything."""

    def abort(self) -> None:
        """Drop the connection."""

    def has_left(self) -> bool:
        """Whether the client has left."""

    def keeps_source_open(self) -> bool:
        """Whether the source of a client that has left has still to be given what arrived from it."""


class Delivery:
    """One stream on its way.

    Args:
        request: what it answers.
        wire: what carries it.
        stream: what is carried.
        streams: those of the application, of which it will be one.
        commit_after_seconds: how long the wire's commit waits for the first item.
        keepalive_seconds: the silence after which the wire keeps it alive; 0 for never.
        empty_status: the status of a response without content, which is sent if the stream has no items.
        after: the key behind which a client wants the source to begin, see `refuse_key`.

    Attributes:
        request: see above.
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
        """See `Running.stop`: the stream hears of it where it is looked after next, and may give an item until then."""
        self._stopping = True

    def abort(self) -> None:
        """See `Running.abort`."""
        self._stopping = True
        self._wire.abort()

    def look(self) -> None:
        """Wake the stream if there is something to do while it waits: aiohttp tells no handler that its client left."""
        if self._stopping or self._is_gone() or self._is_silent():
            self._stream.wake()

    async def run(self) -> web.Response | None:
        """Deliver the stream; return what is to be answered instead, if nothing of it was sent.

        Raises:
            HTTPException: the source has raised it before anything was sent, and it is an answer of its own.
            CancelledError: the handler was cancelled; whatever was sent does not look whole.
        """
        end: End = "failed"
        failure: BaseException | None = None
        instead: web.Response | None = None
        self._streams.add(self)
        try:
            instead = await self._send()
            end = "complete"
        except ClientGone:
            end = self._why_gone()
            self._wire.abort()  # what it has not taken would wait in vain
        except StreamError as error:
            if self._wire.has_left() and self._has_left_off(error):
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
            Rounds.of_loop().leave(self)
            status = instead.status if instead is not None else self._wire.status
            await self._streams.ended(self, self.request, self._outcome(end, failure, status))
        if isinstance(instead, web.HTTPException):
            raise instead  # aiohttp wants its own answers raised
        return instead

    async def _send(self) -> web.Response | None:
        stream, wire, data = self._stream, self._wire, b""
        stream.quiet_seconds = min(ROUND_SECONDS, self._commit_after_seconds)
        async with aclosing(stream.pieces()) as pieces:
            async for piece in pieces:
                data = piece
                ending = self._stopping and not stream.complete
                if ending and not wire.committed:
                    raise GoingAway
                if self._is_gone():
                    raise ClientGone
                if self._begins and stream.complete and not stream.items_sent and self._empty_status is not None:
                    return web.Response(status=self._empty_status)
                if self._begins:
                    waiting = self._commit_after_seconds - (monotonic() - self._begun)
                    if not data and waiting > 0 and not wire.committed:
                        stream.quiet_seconds = min(ROUND_SECONDS, waiting)
                        continue
                    await self._commit()
                    data += stream.take_rest()
                if stream.complete:
                    break  # the last piece goes together with the end
                if data:
                    self._count()
                    await wire.write(data)
                    self._written = monotonic()
                elif self._is_silent():
                    await wire.keep_alive(in_item=stream.in_item)
                    self._written = monotonic()
                if ending:  # behind the items that the end record will count
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
        short = 0 < self._keepalive_seconds < ROUND_SECONDS
        self._stream.quiet_seconds = max(_MIN_SECONDS, self._keepalive_seconds) if short else None
        Rounds.of_loop().join(self)

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

    def _has_left_off(self, error: StreamError) -> bool:
        """Whether a client that has left has done so in the middle of what it was sending."""
        going_away = isinstance(error, RemoteError) and error.status == 503  # a page that is closed, say
        return (going_away or isinstance(error, TruncatedError)) and upload_details(error, self.request) is not None

    def _why_gone(self) -> End:
        if self._wire.stalled:
            return "stalled"
        return "shut_down" if self._stopping else "client_gone"

    async def _fail(self, error: BaseException) -> web.Response | None:
        """Tell a failure: as an answer of its own, or in what was begun."""
        if not self._wire.committed and (refusal := refuse_key(error, self._after)) is not None:
            return refusal
        where = f"{self.request.method} {self.request.rel_url} after {self._items} items"
        broken_off = ": the answer is broken off" if self._wire.committed else ""
        if isinstance(error, GoingAway):
            logger.info("the server stops during %s%s", where, broken_off)
        elif upload_details(error, self.request) is not None:
            # Quoted: a client's words may hold line ends.
            logger.info("the upload of %s is bad (%r)%s", where, str(error), broken_off)
        elif broken_off or not isinstance(error, web.HTTPException):
            logger.error("the source of %s failed%s", where, broken_off, exc_info=error)
        if not self._wire.committed:
            return problem_of(error, self.request)
        with suppress(ClientGone):
            await self._wire.break_off(self._stream.fail(details_of(error, self.request)), error)
        return None

    def _outcome(self, end: End, error: BaseException | None, status: int) -> Outcome:
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
    """Whether a cancellation is not ours: a source that waits for a task which somebody cancelled has failed."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
