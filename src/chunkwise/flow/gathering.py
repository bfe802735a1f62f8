"""A source -> items collected for an encoder. `Outbound` runs this code, and encodes the items when it pauses."""

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

_BATCH_BYTES = 16 * 1024  # the intended size of an encoded batch
_MAX_BATCH = 256  # the most items in one batch; batches of large items have fewer

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
        self.worth_writing: bool = False  # False while the buffer has only bytes such as the first "["
        self.half_made = False  # whether any item of the source is written in parts
        self.since: float = monotonic()  # the last time at which the buffer was empty

    def is_due(self, *, stalled: bool, failed: bool) -> bool:
        """Whether to write now.

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
        self.worth_writing = True  # after the first write, all bytes are worth writing
        return data


class Level:
    """Items collected for one encoder: the encoder of the stream, or of an array inside a document."""

    def __init__(self, encoder: Encoder, box: Box) -> None:
        self.encoder = encoder
        self.items: list[Any] = []  # the items that are collected but not encoded yet
        self.count: int = 0  # the number of items encoded so far
        self.made = True  # whether the source yields the items one by one; False for a list
        self.batch_items: int = 1  # the size of the next batch: 1 until the size of an item is known
        self._box = box

    def room(self) -> tuple[int, float]:
        """Return how many more items to collect, and the latest time (of `monotonic`) at which to encode them."""
        return self.batch_items - len(self.items), self._box.since + OLDEST_SECONDS

    def encode(self) -> tuple[Any] | None:
        """Encode the collected items up to the first item with live parts; return this item in a tuple, or None.

        If an item cannot be encoded, the items before it are encoded, and then EncodeError is raised.
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
    """Collect all items of a source in a level, and await `enough` each time the level is full.

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
