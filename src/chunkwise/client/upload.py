"""A source of items -> the body of a client's request.

Must not know any one format.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from aiohttp import AsyncIterablePayload
from aiohttp.abc import AbstractStreamWriter

from chunkwise.client.upload_connection import UploadConnection
from chunkwise.errors import StreamError
from chunkwise.flow.document import discard
from chunkwise.flow.outbound import open_outbound
from chunkwise.formats import Format, by_name

_CLEAN_UP_SECONDS = 1.0  # for a source, where somebody insists that the request ends
_HEAD_SECONDS = 0.25  # how long the head of the request waits for the first item, to go with it


def body(source: Any, format: str | Format, *, stall_seconds: float = 60.0) -> ClosingPayload:
    """Return a source of items as a request's body: ``session.post(url, data=chunkwise.body(rows(), "ndjson"))``.

    It is sent as chunks while the source gives items, with the format's content type. A source that fails never sends
    the last chunk: the connection is closed without it, also if the answer has begun. An answer that comes before the
    end of the source ends the upload when it is whole; the source is closed. The request's head waits for the first
    item for 250 ms.

    Args:
        source: see `respond`.
        format: a name from `FORMATS`.
        stall_seconds: how long the server may take nothing while something waits for it, before the connection is
            dropped and the request raises `StalledError`; 0 for ever. A source may be as slow as it likes.
            `open_stream` puts its ``idle_seconds`` here.

    Raises:
        UnknownFormat: there is no such format.
        TypeError: the source is a function.
        ValueError: the limit is negative, or the source is a generator that is spent.
    """
    chosen = by_name(format)
    if stall_seconds < 0:
        msg = f"stall_seconds are seconds from 0 on, got {stall_seconds}"
        raise ValueError(msg)
    outbound = open_outbound(source, chosen)
    outbound.quiet_seconds = _HEAD_SECONDS
    return ClosingPayload(outbound.pieces(), chosen, stall_seconds=stall_seconds, source=source)


class ClosingPayload(AsyncIterablePayload):
    """A request's body that closes its source however sending ends, and breaks the connection where that is not well.

    Args:
        pieces: its bytes.
        format: what they are in.
        stall_seconds: see `body`; may be changed before it is sent.
        source: what the pieces are made of, to be closed if they are never asked for.

    Attributes:
        format: see above.
        failure: what the source has raised, or the `StalledError` of a server that took nothing; None as long as
            nothing failed here. aiohttp raises errors of its own for it, and none if the answer has begun.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        format: Format,
        *,
        stall_seconds: float = 60.0,
        source: Any = None,
    ) -> None:
        self.failure: Exception | None = None
        self.format = format
        self.stall_seconds = stall_seconds
        self._source = source
        self._connection: UploadConnection | None = None
        self._writer: AbstractStreamWriter | None = None
        self._length: int | None = None
        self._begun = False
        self._asked = False
        self._ended = asyncio.Event()
        self._kept = self._keeping(pieces)
        super().__init__(self._kept, content_type=format.content_type)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the pieces and the end of the request, then close the source."""
        self._refuse_again()
        self._writer = writer
        self._length = content_length
        connection = self._connection = UploadConnection.of(writer, self)
        try:
            # aiohttp may cancel us for an answer that comes early, and again while the source still cleans up.
            await _CancelledOnce(asyncio.create_task(self._write_pieces(writer, content_length)))
            if connection is not None:
                await connection.finish(writer)
        except BaseException as error:
            if connection is not None:
                await connection.break_off(error)
            raise
        finally:
            if connection is not None:
                connection.leave()
            if not self._asked:  # cancelled before it began
                await self._leave_source()
            self._ended.set()

    async def _write_pieces(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._asked = True
        async with aclosing(self._kept):
            await super().write_with_length(writer, content_length)

    async def _leave_source(self) -> None:
        await self._kept.aclose()
        await discard(self._source)

    def take_source(self) -> Any:
        """Return the source, to be sent otherwise than as a body, and closed by who does that.

        Raises:
            StreamError: it was sent before.
        """
        self._refuse_again()
        self._ended.set()
        return self._source

    def _refuse_again(self) -> None:
        if self.consumed or self._begun:  # nothing more would be sent, which looks like a whole stream of no items
            self.failure = StreamError("a source can be sent once: make a new body of a new source")
            raise self.failure
        self._begun = True

    async def wait_closed(self) -> None:
        """Wait until the source is closed, once the request is over; close it, if it was never asked for items."""
        if self._begun:
            await self._ended.wait()
        else:
            await self._leave_source()

    async def _keeping(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Give the pieces, and keep what goes wrong in them."""
        given = 0
        async with aclosing(pieces):
            while True:
                try:
                    piece = await anext(pieces, None)
                    given += len(piece or b"")
                    await self._check(given, pieces, whole=piece is None)
                except BaseException as error:
                    self.failure = failure_of(error)
                    if self.failure is None or self.failure is error:
                        raise
                    raise self.failure from error
                if piece is None:
                    return
                if not piece and self._writer is not None:
                    self._writer.send_headers()  # the server may have something to say before the first item
                    continue
                yield piece
                if self._connection is not None:
                    await self._connection.look()

    async def _check(self, given: int, pieces: AsyncGenerator[bytes, None], *, whole: bool) -> None:
        """Compare with a Content-Length of the caller's: aiohttp would cut off what is more, and send what is less."""
        told = self._length
        if told is not None and given == told and not whole:
            async for more in pieces:  # before the last byte is sent, behind which all looks whole
                given += len(more)
                if more:
                    break
        if told is not None and (given > told or (whole and given < told)):
            raise ValueError(f"headers name Content-Length: {told}, but the source gave {given} bytes")


def failure_of(error: BaseException) -> Exception | None:
    """Return what a source has failed with; None if it was we who were cancelled."""
    if isinstance(error, Exception):
        return error
    if not isinstance(error, asyncio.CancelledError):
        return StreamError(f"the source raised {type(error).__name__}")
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return None
    return StreamError("what the source waited for was cancelled")


class _CancelledOnce(asyncio.Future[None]):
    """Ends as a task does, which is cancelled at once with us; once more only when it had time to clean up."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        super().__init__()
        self._task = task
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None
        task.add_done_callback(self._end)

    def cancel(self, msg: Any = None) -> bool:
        if not self._asked:
            self._asked = True
            self._task.cancel(msg)
        elif self._timer is None:
            self._timer = self.get_loop().call_later(_CLEAN_UP_SECONDS, self._task.cancel)
        return not self.done()

    def _end(self, task: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if task.cancelled():
            super().cancel()
        elif (error := task.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(None)
