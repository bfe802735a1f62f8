"""Collect the items of a source for an encoder.

`Outbound` runs the coroutine `gather`, and encodes the collected items each time that this coroutine suspends.
"""

import types
from collections.abc import AsyncIterable, Generator
from time import monotonic
from typing import Any

from chunkwise.errors import EncodeError
from chunkwise.formats.contract import Encoder
from chunkwise.formats.parsing.json_values import LivePart
from chunkwise.formats.speedups import gather_items
from chunkwise.sources.batches import Batches, closing
from chunkwise.sources.threads import batches_in_thread

WRITE_BYTES = 32 * 1024
"""Items are written as soon as they have this many encoded bytes, or earlier if the source has to wait.

One write has at most 48 KiB. For each client that does not read, these bytes are in memory twice. With 48 KiB instead
of 32, 28 MB of JSON took 5% less time."""

OLDEST_SECONDS = 0.05
"""The longest time in seconds that an item waits for more items, if the source computes without suspending."""

_BATCH_BYTES = 16 * 1024
"""A batch has so many items that it probably has at most this many bytes when it is encoded."""

_MAX_BATCH = 256
"""The most items in one batch, even if the items are small."""

ENOUGH = object()
"""The coroutine that reads a source yields this object when a batch is full, or the future that it waits for."""


@types.coroutine
def enough() -> Generator[object, None, None]:
    """Suspend the calling coroutine until `Outbound` has encoded the collected items."""
    yield ENOUGH


class Box:
    """The encoded bytes of one stream that are ready to be written."""

    def __init__(self) -> None:
        self.buffer: bytearray = bytearray()
        # This is False while the buffer has no content yet, but only bytes such as the first "[". These bytes are held
        # back, so that an early failure of the source can still change the status of the response.
        self.worth_writing: bool = False
        # This is True if a source has yielded an item that is written in parts. Then the buffer is written whenever
        # the source has to wait, even if it contains only the start of an item.
        self.half_made = False
        # The buffer was last empty at this time.
        self.since: float = monotonic()

    def is_due(self, *, stalled: bool, failed: bool) -> bool:
        """Return whether the bytes in the buffer have to be written now.

        Args:
            stalled: whether the source has to wait for its next item.
            failed: whether the source has failed.
        """
        size = len(self.buffer)
        if size >= WRITE_BYTES or not size:
            return size > 0
        if stalled and self.half_made:
            return True
        return self.worth_writing and (stalled or failed or monotonic() - self.since >= OLDEST_SECONDS)

    def take(self) -> bytes:
        """Return the bytes and empty the buffer."""
        data = bytes(self.buffer)
        self.buffer.clear()
        self.since = monotonic()
        # After the first write, the status of the response cannot change, so there is no reason to hold bytes back.
        self.worth_writing = True
        return data


class Level:
    """Items collected for one encoder: the encoder of the stream, or of an array inside a document."""

    def __init__(self, encoder: Encoder, box: Box) -> None:
        self.encoder = encoder
        self.items: list[Any] = []  # the items that are collected but not encoded yet
        self.count: int = 0  # the number of items encoded so far
        # This is False if the source is a list, tuple or set, because then all items exist before the stream starts.
        self.made = True
        # The next batch has at most this many items. The first batch has 1, because the size of an item is unknown.
        self.batch_items: int = 1
        self._box = box

    def room(self) -> tuple[int, float]:
        """Return how many more items fit in the batch, and the time (of `monotonic`) at which it must be encoded."""
        return self.batch_items - len(self.items), self._box.since + OLDEST_SECONDS

    def encode(self) -> tuple[Any] | None:
        """Encode the collected items up to the first item that contains iterators or awaitables.

        Return this item in a tuple; return None if all items were encoded. If an item cannot be encoded, encode the
        items before it, and then raise EncodeError.
        """
        items, box = self.items, self._box
        try:
            data = self.encoder.encode(items)
        except LivePart as part:
            self._encode_first(part.index)
            return (items.pop(0),)
        except EncodeError as error:
            self._encode_first((error.item_index or 0) - self.count)
            raise
        box.buffer += data
        box.worth_writing = True
        self.count += len(items)
        fitting = _BATCH_BYTES * len(items) // (len(data) or 1)
        self.batch_items = max(1, min(_MAX_BATCH, 2 * self.batch_items, fitting))
        items.clear()
        return None

    def _encode_first(self, count: int) -> None:
        if count > 0:
            self._box.buffer += self.encoder.encode(self.items[:count])
            self._box.worth_writing = True
            self.count += count
            del self.items[:count]


async def gather(source: Any, level: Level) -> None:
    """Collect all items of a source in ``level.items``. Await `enough` each time that a batch has to be encoded.

    The source is `Batches`, an async iterable or a sync iterable. A sync iterable other than a list, tuple or set is
    read in a thread, because its next item may block.
    """
    if isinstance(source, Batches):
        await _gather_lists(source, level)
    elif isinstance(source, AsyncIterable):
        async with closing(source) as iterator:
            await gather_items(iterator, level, enough, monotonic)
    elif isinstance(source, (list, tuple, set, frozenset)):
        level.made = False
        await _extend(list(source), level)
    else:
        await _gather_lists(batches_in_thread(source, lambda: level.batch_items), level)


async def _gather_lists(source: AsyncIterable[list[Any]], level: Level) -> None:
    async with closing(source) as iterator:
        async for batch in iterator:
            await _extend(batch, level)


async def _extend(batch: list[Any], level: Level) -> None:
    start = 0
    while start < len(batch):
        stop = start + max(1, level.room()[0])
        level.items += batch[start:stop]
        start = stop
        left, latest = level.room()
        if left <= 0 or monotonic() >= latest:
            await enough()
