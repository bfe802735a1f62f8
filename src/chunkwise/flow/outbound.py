"""Encode the items of a source as pieces of bytes, each for one write.

The producer is a coroutine that reads the source and collects items. `_drive` runs it step by step with ``send``. While
the source has items ready, the producer does not suspend, so many items are encoded and written at once. When the
producer has to wait, at any depth of calls, it suspends, and the step returns the future that it waits for. Then
`_drive` writes all collected items before it awaits the future. So no item waits for a slow source, and the code
needs no flush, queue or timer.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from time import monotonic
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType, WrapperDescriptorType
from typing import Any

from chunkwise.errors import EncodeError
from chunkwise.flow.document import DocumentWriter, Futures, discard, is_spent
from chunkwise.flow.gathering import ENOUGH, Box, Level, gather
from chunkwise.formats.contract import Encoder, Format
from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import Resumable

logger: logging.Logger = logging.getLogger("chunkwise")

_ROUTINES = (FunctionType, MethodType, BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)
_MAX_LIVE_DEPTH = 64
"""How deep items with iterators may be nested in each other. Each level needs several frames of the Python stack."""


def is_stream(source: Any) -> bool:
    """Return whether a source is a stream of items. Otherwise the source is one value: a document."""
    if isinstance(source, (str, bytes, bytearray, Mapping, Awaitable)):
        return False
    return isinstance(source, (AsyncIterable, Iterable, Resumable))


def open_outbound(
    source: Any,
    format: Format,
    *,
    stream_end: bool = False,
    first: int = 0,
    key: Sequence[str] = (),
    count: int | None = None,
) -> "Outbound":
    """Return an `Outbound` that encodes a source in a format.

    Args:
        source: an iterable of items, or one value (a document).
        format: the format of the stream.
        stream_end: see `MakeEncoder`.
        first: see `MakeEncoder`.
        key: see `MakeEncoder`.
        count: the expected number of items; a stream with fewer or more items fails. For a `Resumable`, its total is
            used instead.

    Raises:
        TypeError: the source is a function. Call the function, and pass its result.
        ValueError: the source is a generator that has ended.
    """
    if isinstance(source, _ROUTINES):
        raise TypeError(f"source must be an iterable of items or one value, got the function {source!r}: call it")
    given = source.lists if isinstance(source, Batches) else source
    # Without this error, the client would receive a complete stream without items.
    if is_spent(given):
        raise ValueError(f"source is a generator that has ended, got {given!r}: create a new generator for each stream")
    if isinstance(source, Resumable):
        count = source.total
        source = source.start()
    stream = is_stream(source)
    encoder = format.encoder(document=not stream, stream_end=stream_end, first=first, key=key)
    return Outbound(source if stream else [source], encoder, count=count)


class Outbound:
    """The bytes of one stream in pieces, each for one write. Get them from `pieces`.

    While it waits for the source, `pieces` yields a piece every `quiet_seconds`, even if the piece is empty, so that
    the caller can for example send keepalive bytes. If the source raises an exception, `pieces` yields the items
    before the exception, and then raises it. Closing the iterator of `pieces` closes the source. The source is an async
    or sync iterable of items, or `Batches`. Items may contain iterators and awaitables.
    """

    def __init__(
        self, source: Any, encoder: Encoder, *, quiet_seconds: float | None = None, count: int | None = None
    ) -> None:
        # The caller can change `quiet_seconds` between two pieces. If it is None, only `wake` interrupts a wait for the
        # source.
        self.quiet_seconds = quiet_seconds
        self.complete: bool = False  # whether the stream was yielded completely
        self._source = source
        self._count = count  # the expected number of items; None if it is unknown
        self._encoder = encoder
        self._box = Box()
        self._level = Level(encoder, self._box)
        self._futures = Futures()
        # This is how many items are being written in parts. An item can be inside another one.
        self._live_items = 0
        # The next `_step` raises this error in the producer.
        self._cancellation: asyncio.CancelledError | None = None
        self._woken = False
        # At this time `wake` or `quiet_seconds` has last interrupted a wait for the source.
        self._looked = monotonic()
        self._waker: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let `pieces` yield a piece at once, even an empty one, instead of waiting for the source.

        So the caller can react at once, for example if the server shuts down.
        """
        self._woken = True
        self._end_wait()

    @property
    def items_sent(self) -> int:
        """The number of items encoded so far."""
        return self._level.count

    @property
    def in_item(self) -> bool:
        """Whether the stream is inside an item that is written in parts."""
        return self._live_items > 0

    def take_rest(self) -> bytes:
        """Return the encoded bytes that `pieces` has not yielded yet, such as the start of a document."""
        return self._box.take()

    def fail(self, problem: Mapping[str, Any]) -> bytes:
        """Return the end record of a failed stream; call it after `pieces` has raised. See `Encoder.fail`."""
        return self._encoder.fail(problem)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the stream; call it once."""
        box = self._box
        box.since = monotonic()
        box.buffer += self._encoder.start()
        driven = self._drive(self._gather, lambda: self._level, 0)
        try:
            async with aclosing(driven) as pieces:
                async for data in pieces:
                    yield data
        finally:
            if self._level.items:
                # The stream has failed or was closed, so these items are not sent. Close the iterators in them.
                await discard(self._level.items)
        box.buffer += self._encoder.finish()
        self.complete = True
        yield box.take()

    async def _gather(self) -> None:
        await gather(self._source, self._level)
        count = self._level.count + len(self._level.items)
        # `_drive` catches this error, sends the items that are already collected, and then raises the error again.
        if self._count not in (None, count):
            raise RuntimeError(f"the source ended after {count} items, expected {self._count}")

    async def _drive(
        self, produce: Callable[[], Coroutine[Any, Any, None]], level: Callable[[], Level | None], depth: int
    ) -> AsyncGenerator[bytes, None]:
        """Run a producer to its end. Yield its encoded items when they fill a write, and before the producer waits."""
        box = self._box
        producer = produce()
        waits_for: Any = None
        running = True
        try:
            while running:
                failure: BaseException | None = None
                try:
                    waits_for = self._step(producer)
                except StopIteration:
                    running = False
                except BaseException as error:  # noqa: BLE001 - raised below, after the items before the error
                    running, failure = False, error
                stalled = running and waits_for is not ENOUGH
                try:
                    while (gathered := level()) is not None and gathered.items:
                        live = gathered.encode()
                        if live is not None:
                            async with aclosing(self._write_live(live[0], gathered, depth + 1)) as pieces:
                                async for data in pieces:
                                    yield data
                except Exception as error:  # noqa: BLE001 - raised below
                    failure = _first_of(error, failure)
                if box.is_due(stalled=stalled, failed=failure is not None):
                    yield box.take()
                    if not stalled:
                        # A source that never waits would otherwise block the other tasks of the event loop.
                        await asyncio.sleep(0)
                if failure is not None:
                    raise failure
                if stalled:
                    while await self._wait(waits_for):
                        yield box.take() if box.worth_writing else b""
                    box.since = monotonic()
        finally:
            if running:
                await _cancel(producer, waits_for)

    def _step(self, producer: Coroutine[Any, Any, None]) -> Any:
        """Run a producer until it suspends; return the future that it waits for."""
        cancellation, self._cancellation = self._cancellation, None
        return producer.throw(cancellation) if cancellation else producer.send(None)

    async def _wait(self, future: Any) -> bool:
        """Wait for the future of a producer; return whether `wake` or `quiet_seconds` has interrupted the wait.

        The future is None if the producer waits in ``asyncio.sleep(0)``. If this method is cancelled, the next `_step`
        raises the CancelledError in the producer, at its ``await``, as ``Task.cancel()`` does.
        """
        try:
            if future is None:  # asyncio.sleep(0)
                await asyncio.sleep(0)
                interrupted = self._woken or self._is_quiet()
            elif future.done():
                interrupted = False
            else:
                await self._either(future)
                interrupted = not future.done() or self._is_quiet()
        except asyncio.CancelledError as error:
            self._cancellation = await _pass_on(error, future)
            return False
        if interrupted:
            self._woken, self._looked = False, monotonic()
        return interrupted

    def _is_quiet(self) -> bool:
        """Return whether `quiet_seconds` have passed since `wake` or `quiet_seconds` last interrupted a wait.

        So the caller also gets a piece in time if the producer waits often, but each time only for a moment.
        """
        return self.quiet_seconds is not None and monotonic() - self._looked >= self.quiet_seconds

    async def _either(self, future: asyncio.Future[Any]) -> None:
        """Wait until a future is done, `wake` is called or `quiet_seconds` have passed.

        ``asyncio.wait`` would do the same, but its overhead is three times as large.
        """
        if self._woken:
            return
        loop = asyncio.get_running_loop()
        self._waker = loop.create_future()
        timer = None if self.quiet_seconds is None else loop.call_later(self.quiet_seconds, self._end_wait)
        future.add_done_callback(self._end_wait)
        try:
            await self._waker
        finally:
            future.remove_done_callback(self._end_wait)
            self._waker = None
            if timer is not None:
                timer.cancel()

    def _end_wait(self, _future: Any = None) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def _write_live(self, item: Any, level: Level, depth: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of an item that contains iterators or awaitables."""
        if depth > _MAX_LIVE_DEPTH:
            message = f"got {depth} iterators nested in items, expected no more than {_MAX_LIVE_DEPTH}"
            raise EncodeError(message, item_index=level.count)
        index = level.count
        self._box.buffer += level.encoder.open_item()
        self._live_items += 1
        self._box.half_made = self._box.half_made or level.made
        try:
            async with self._futures.item(item):
                writer = DocumentWriter(self._box, self._futures)
                async with aclosing(self._drive(lambda: writer.write(item), lambda: writer.level, depth)) as pieces:
                    async for data in pieces:
                        yield data
        except EncodeError as error:
            error.item_index = index
            raise
        self._live_items -= 1
        self._box.buffer += level.encoder.close_item()
        level.count += 1


async def _pass_on(cancellation: asyncio.CancelledError, future: Any) -> asyncio.CancelledError | None:
    """Cancel the future that a producer waits for, as ``Task.cancel()`` does.

    If the future was still running, wait for its end and return None: the producer then gets the result or the
    CancelledError of the future. Otherwise return the CancelledError that has to be raised in the producer.
    """
    # The message of the cancellation is passed on, because anyio recognises its own cancellations by their message.
    while future is not None and future.cancel(*cancellation.args[:1]):
        if future.done():
            return None
        try:
            await asyncio.wait({future})
            return None
        except asyncio.CancelledError as again:
            cancellation = again
    return cancellation


def _first_of(item: Exception, source: BaseException | None) -> BaseException:
    """Return the error to raise after an item could not be encoded: ``item``, the error of the encoder.

    The source may also have failed, after it had yielded the item: ``source`` is its exception, or None. If ``source``
    is a cancellation, return ``source`` instead, so that the cancellation is not lost.
    """
    return item if source is None or isinstance(source, Exception) else source


async def _cancel(producer: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """End a suspended producer like a cancelled task: raise CancelledError in it, and let it clean up."""
    cancellation: asyncio.CancelledError | None = asyncio.CancelledError()
    ours: asyncio.CancelledError | None = None
    try:
        while True:
            if cancellation is not None or waits_for is ENOUGH:
                future = waits_for if isinstance(waits_for, asyncio.Future) else None
                cancellation = await _pass_on(cancellation or asyncio.CancelledError(), future)
            if cancellation is not None:
                waits_for, cancellation = producer.throw(cancellation), None
                continue
            try:
                await (asyncio.sleep(0) if waits_for is None else asyncio.wait({waits_for}))
            except asyncio.CancelledError as error:
                # This task was cancelled during the cleanup. Raise the error in the producer now, and in this task when
                # the cleanup has ended.
                ours = cancellation = error
            else:
                waits_for = producer.send(None)
    except (StopIteration, asyncio.CancelledError):
        pass
    except Exception:
        logger.exception("a source raised an error while it was being closed")
    if ours is not None:
        raise ours
