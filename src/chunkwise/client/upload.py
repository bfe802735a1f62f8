"""A source of items -> the body of a client's request."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from aiohttp import AsyncIterablePayload, ClientError
from aiohttp.abc import AbstractStreamWriter

from chunkwise.client.upload_connection import UploadConnection
from chunkwise.errors import StalledError, StreamError, TruncatedError
from chunkwise.flow.document import discard
from chunkwise.flow.outbound import open_outbound
from chunkwise.formats import Format, by_name

# If a request is cancelled a second time, its source still has this many seconds to clean up.
_CLEAN_UP_SECONDS = 1.0
# The headers of a request wait at most this many seconds for the first item, so that one write can send both.
_HEAD_SECONDS = 0.25


def body(source: Any, format: str | Format, *, stall_seconds: float = 60.0) -> "ClosingPayload":
    """Return a request's body that sends the items of a source.

    Pass it to aiohttp or to `open_stream`: ``session.post(url, data=chunkwise.body(rows(), "ndjson"))``. The items are
    sent in chunks while the source yields them, with the content type of the format. The headers wait up to 250 ms for
    the first item, so that one write can send both.

    If the source fails, the connection is closed without the last chunk, so that the server notices that the body is
    not complete. This also happens if the response has begun. If the server finishes its response before the source
    ends, the upload ends too, and the source is closed.

    Args:
        source: the items; see `respond`.
        format: a name from `FORMATS`, or a `Format`.
        stall_seconds: for how many seconds the server may read nothing while bytes wait for it; 0 for no limit. After
            that the connection is closed, and the request raises `StalledError`. The source itself may be as slow as it
            likes. `open_stream` replaces this with its ``idle_seconds``.

    Raises:
        UnknownFormat: no format has this name.
        TypeError: the source is a function. Call the function, and pass its result.
        ValueError: ``stall_seconds`` is negative, or the source is a generator that has already ended.
    """
    chosen = by_name(format)
    if stall_seconds < 0:
        raise ValueError(f"stall_seconds must be >= 0, got {stall_seconds}")
    outbound = open_outbound(source, chosen)
    outbound.quiet_seconds = _HEAD_SECONDS
    return ClosingPayload(outbound.pieces(), chosen, stall_seconds=stall_seconds, source=source)


@asynccontextmanager
async def sending(upload: "ClosingPayload | None", idle_seconds: float) -> AsyncIterator[None]:
    """Run the body of the ``async with``, which sends a request, then wait until the source of the upload is closed.

    If the upload fails, raise its exception instead of the error that this failure causes in the request.
    """
    if upload is None:
        yield
        return
    upload.stall_seconds = idle_seconds
    failure: Exception | None = None
    try:
        yield
    except (ClientError, TruncatedError, StalledError) as error:
        failure = upload.failure
        if failure is None or failure is error:
            raise
    finally:
        await upload.wait_closed()
    if failure is not None:
        raise failure


class ClosingPayload(AsyncIterablePayload):
    """A request's body that always closes its source, and closes the connection if sending fails.

    Attributes:
        format: the format of the body.
        failure: the exception of the source, or a `StalledError` if the server read nothing; None without a failure.
            If the source fails, aiohttp raises a different error, or none if the response has begun.
        stall_seconds: see `body`; may be changed before the body is sent.
        bytes_sent: how many bytes were written to the connection.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], format: Format, *, stall_seconds: float = 60.0, source: Any = None
    ) -> None:
        self.failure: Exception | None = None
        self.format = format
        self.stall_seconds = stall_seconds
        self.bytes_sent: int = 0
        self._source = source
        self._connection: UploadConnection | None = None
        self._writer: AbstractStreamWriter | None = None
        self._length: int | None = None
        self._begun = False
        self._asked = False
        self._cleans_up = False
        self._ended = asyncio.Event()
        self._kept = self._keeping(pieces)
        super().__init__(self._kept, content_type=format.content_type)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the bytes of the source and the end of the body, then close the source. aiohttp calls this."""
        self._refuse_again()
        self._writer = writer
        self._length = content_length
        connection = self._connection = UploadConnection.of(writer, self)
        try:
            # aiohttp may cancel the upload because of an early response or a lost connection, also while the source
            # cleans up. Such a cancellation is delayed, so that it does not interrupt the clean-up.
            writing = asyncio.create_task(self._write_pieces(writer, content_length))
            await _CancelledOnce(writing, lambda: self._cleans_up)
            if connection is not None:
                await connection.finish(writer)
        except BaseException as error:
            if connection is not None:
                await connection.break_off(error)
            raise
        finally:
            if connection is not None:
                connection.leave()
            # If the upload was cancelled before it began, the source is still open: close it here.
            if not self._asked:
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
        """Return the source. The caller has to send it and close it.

        Raises:
            StreamError: the source was sent before, and a source can be sent only once.
        """
        self._refuse_again()
        self._ended.set()
        return self._source

    def _refuse_again(self) -> None:
        # Raise an error if the body is sent again: the source may have no items left, so that the second body would be
        # empty, but would look complete.
        if self.consumed or self._begun:
            self.failure = StreamError("a source can be sent only once: make a new body from a new source")
            raise self.failure
        self._begun = True

    async def wait_closed(self) -> None:
        """Wait until the source is closed; close the source here if the body was never sent."""
        if self._begun:
            await self._ended.wait()
        else:
            await self._leave_source()

    async def _keeping(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of the body. If the source fails, store its exception in ``failure``, and raise it."""
        given = 0
        async with self._closing(pieces):
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
                # An empty piece means that no item is ready yet. The headers are sent without an item, because the
                # server may respond before it gets the first item.
                if not piece and self._writer is not None:
                    self._writer.send_headers()
                    continue
                yield piece
                self.bytes_sent += len(piece)
                if self._connection is not None:
                    await self._connection.look()

    @asynccontextmanager
    async def _closing(self, pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._cleans_up = True
            await pieces.aclose()

    async def _check(self, given: int, pieces: AsyncGenerator[bytes, None], *, whole: bool) -> None:
        """Raise ValueError if the body is longer or shorter than the caller's Content-Length.

        aiohttp itself reports no error if the body is longer: it sends only the first bytes.
        """
        length = self._length
        # With the current piece, the body has its full Content-Length. Before this piece is sent, check that the source
        # has no more bytes: the server takes the body as complete as soon as it has received this piece.
        if length is not None and given == length and not whole:
            async for more in pieces:
                given += len(more)
                if more:
                    break
        if length is not None and (given > length or (whole and given < length)):
            raise ValueError(
                f"got Content-Length: {length}, but the source yielded {given} bytes: leave the header out"
            )


def failure_of(error: BaseException) -> Exception | None:
    """Return the exception to report after a source has raised ``error``.

    Return None if the current task was cancelled, because then the source itself has not failed.
    """
    if isinstance(error, Exception):
        return error
    if not isinstance(error, asyncio.CancelledError):
        return StreamError(f"the source raised {type(error).__name__}")
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return None
    return StreamError("a task that the source waited for was cancelled")


class _CancelledOnce(asyncio.Future[None]):
    """Waits for a task. The first `cancel` cancels the task at once, so that it can clean up.

    A `cancel` during the clean-up has no effect for one second, so that it does not interrupt the clean-up.

    Args:
        task: the task to wait for.
        cleans_up: returns whether the task has begun to clean up, although it was not cancelled.
    """

    def __init__(self, task: asyncio.Task[None], cleans_up: Callable[[], bool]) -> None:
        super().__init__()
        self._task = task
        self._cleans_up = cleans_up
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None
        task.add_done_callback(self._end)

    def cancel(self, msg: Any = None) -> bool:
        if not self._asked and not self._cleans_up():
            self._task.cancel(msg)
        elif self._timer is None:
            self._timer = self.get_loop().call_later(_CLEAN_UP_SECONDS, self._task.cancel)
        self._asked = True
        return not self.done()

    def _end(self, task: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.set_exception(error)
        elif self._asked or task.cancelled():
            super().cancel()
        else:
            self.set_result(None)
