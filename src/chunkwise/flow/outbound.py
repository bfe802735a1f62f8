"""A source of items -> the bytes to write, in pieces that should be written at once.

The producer is a coroutine that `_drive` steps by hand with ``send``. As long as it has items ready, it does not
suspend, and the gathered items are encoded and written in large pieces. When it suspends, at any depth, the step
returns the future that it waits for: all gathered items are written, and then the future is awaited. This needs no
flush, no queue and no timer.
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
_MAX_LIVE_DEPTH = 64  # iterators inside the items of iterators; each takes a few frames of Python's stack


def is_stream(source: Any) -> bool:
    """Whether a source is a stream of items. Otherwise it is one value: a document."""
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
    """Return the bytes of a source in a format: of its items, or of the one value that it is.

    For the other arguments see `MakeEncoder`; the ``count`` of a `Resumable` is its total.

    Raises:
        TypeError: the source is a function, which has to be called first.
        ValueError: the source is a generator that has ended.
    """
    if isinstance(source, _ROUTINES):
        raise TypeError(f"a source is an iterable of items or one value, got {source!r}: call it")
    given = source.lists if isinstance(source, Batches) else source
    if is_spent(given):  # it would be a whole stream of no items
        raise ValueError(f"the source is a generator that is spent, got {given!r}: make a new one")
    if isinstance(source, Resumable):
        count = source.total
        source = source.start()
    stream = is_stream(source)
    encoder = format.encoder(document=not stream, stream_end=stream_end, first=first, key=key)
    return Outbound(source if stream else [source], encoder, count=count)


class Outbound:
    """The bytes of one stream in pieces; write each piece at once.

    An empty piece says that the source had nothing to write for `quiet_seconds`. Closing the iterator closes the
    source. An exception of the source is raised after the pieces with the items before it. The source is an async or
    sync iterable of items, or `Batches`; items may have live parts.
    """

    def __init__(
        self, source: Any, encoder: Encoder, *, quiet_seconds: float | None = None, count: int | None = None
    ) -> None:
        self.quiet_seconds = quiet_seconds  # may be changed between two pieces; None for never
        self.complete: bool = False  # whether the last piece was the end of the stream
        self._source = source
        self._count = count  # of items, if it is known: with fewer or more, the stream fails at its end
        self._encoder = encoder
        self._box = Box()
        self._level = Level(encoder, self._box)
        self._futures = Futures()
        self._live_items = 0  # that are open, one inside the other
        self._cancellation: asyncio.CancelledError | None = None  # for the producer to see
        self._woken = False
        self._looked = monotonic()  # when an empty piece was last due
        self._waker: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Yield a piece, even an empty one, before waiting any longer: the reader may have left."""
        self._woken = True
        self._end_wait()

    @property
    def items_sent(self) -> int:
        """Items encoded so far."""
        return self._level.count

    @property
    def in_item(self) -> bool:
        """Whether the last piece ended inside an item that is written in parts."""
        return self._live_items > 0

    def take_rest(self) -> bytes:
        """Return bytes too few for a piece of their own, such as a document's text before its first live part."""
        return self._box.take()

    def fail(self, problem: Mapping[str, Any]) -> bytes:
        """Return the format's record of a failure, after `pieces` has raised; see `Encoder.fail`."""
        return self._encoder.fail(problem)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Run the source once."""
        box = self._box
        box.since = monotonic()
        box.buffer += self._encoder.start()
        driven = self._drive(self._gather, lambda: self._level, 0)
        try:
            async with aclosing(driven) as pieces:
                async for data in pieces:
                    yield data
        finally:
            if self._level.items:  # left after a failure
                await discard(self._level.items)
        box.buffer += self._encoder.finish()
        self.complete = True
        yield box.take()

    async def _gather(self) -> None:
        await gather(self._source, self._level)
        count = self._level.count + len(self._level.items)
        if self._count not in (None, count):  # raised after the items, like any failure of the source
            raise RuntimeError(f"the source has ended after {count} items, expected {self._count}")

    async def _drive(
        self, produce: Callable[[], Coroutine[Any, Any, None]], level: Callable[[], Level | None], depth: int
    ) -> AsyncGenerator[bytes, None]:
        """Run a producer, and yield its encoded items whenever there are enough or it suspends."""
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
                except BaseException as error:  # noqa: BLE001 - raised below, after the items before it
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
                        await asyncio.sleep(0)  # a hot producer must not starve the other tasks of the loop
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
        """Let a producer continue until it suspends; return the future that it waits for."""
        cancellation, self._cancellation = self._cancellation, None
        return producer.throw(cancellation) if cancellation else producer.send(None)

    async def _wait(self, future: Any) -> bool:
        """Wait for the future of a producer; return whether `wake` or quiet_seconds ended the wait before.

        The future is None for ``asyncio.sleep(0)``. As with Task.cancel(), the producer gets a cancellation at the
        point where it waits, and may have caused it.
        """
        try:
            if future is None:  # asyncio.sleep(0) and its like
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
        """Whether quiet_seconds have passed, also if the producer wakes up often but has no items."""
        return self.quiet_seconds is not None and monotonic() - self._looked >= self.quiet_seconds

    async def _either(self, future: asyncio.Future[Any]) -> None:
        """Wait for a future, `wake` or quiet_seconds, like asyncio.wait at a third of its cost."""
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
        """Write an item that has live parts, in parts."""
        if depth > _MAX_LIVE_DEPTH:
            message = f"iterators inside the items of iterators, {depth} deep, expected no more than {_MAX_LIVE_DEPTH}"
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
    """Cancel the future of a producer, as Task.cancel() does; return a cancellation that must be thrown instead."""
    while future is not None and future.cancel(*cancellation.args[:1]):  # anyio recognises its own by their message
        if future.done():
            return None
        try:
            await asyncio.wait({future})
            return None
        except asyncio.CancelledError as again:
            cancellation = again
    return cancellation


def _first_of(item: Exception, source: BaseException | None) -> BaseException:
    """Return the error to raise for an item that cannot be written and a source that has failed after it."""
    return item if source is None or isinstance(source, Exception) else source  # a cancellation takes precedence


async def _cancel(producer: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """End a suspended producer like a cancelled task: it gets CancelledError where it waits, and may clean up."""
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
            except asyncio.CancelledError as error:  # we are cancelled while it cleans up: it gets that, too
                ours = cancellation = error
            else:
                waits_for = producer.send(None)
    except (StopIteration, asyncio.CancelledError):
        pass
    except Exception:
        logger.exception("closing a source failed")
    if ours is not None:
        raise ours
