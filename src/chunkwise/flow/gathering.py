"""A source -> items gathered for an encoder. `outbound` runs this, and takes over each time that it suspends."""

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
"""The bytes that are worth a write while the producer keeps up: with the last batch, a write has up to 48 KiB.

They are in memory twice for each client that takes nothing. With 48 KiB instead, 28 MB of JSON took 5% less time."""

OLDEST_SECONDS = 0.05
"""How long an item waits for company at most, if the producer computes without ever suspending."""

_BATCH_BYTES = 16 * 1024  # encoded at once
_MAX_BATCH = 256  # items gathered before they are encoded: what is large shows in one batch, and shrinks the next

ENOUGH = object()
"""A producer yields this to `outbound` when it has gathered enough; any other value is a future that it waits for."""


@types.coroutine
def enough() -> Generator[object, None, None]:
    """Suspend the producer until the gathered items were taken."""
    yield ENOUGH


class Box:
    """The encoded bytes that one stream has ready to write."""

    def __init__(self) -> None:
        self.buffer: bytearray = bytearray()
        self.worth_writing: bool = False  # whether the bytes hold something that the source gave
        self.half_made = False  # whether a source has made an item, of which parts will follow: that is news
        self.since: float = monotonic()  # when nothing was waiting to be written last

    def is_due(self, *, stalled: bool, failed: bool) -> bool:
        """Whether it is time to write, for a producer that keeps up, or that has stalled or failed."""
        size = len(self.buffer)
        if size >= WRITE_BYTES or not size:
            return size > 0
        if stalled and self.half_made:
            return True
        return self.worth_writing and (stalled or failed or monotonic() - self.since >= OLDEST_SECONDS)

    def take(self) -> bytes:
        """Hand over the bytes."""
        data = bytes(self.buffer)
        self.buffer.clear()
        self.since = monotonic()
        self.worth_writing = True  # from the first write on, everything is
        return data


class Level:
    """Items gathered for one encoder: the stream's own, or that of an array inside a document."""

    def __init__(self, encoder: Encoder, box: Box) -> None:
        self.encoder = encoder
        self.items: list[Any] = []  # not yet encoded
        self.count: int = 0  # items encoded so far
        self.made = True  # whether a source makes the items, which is news, or whether they were there before
        self.batch_items: int = 1  # to gather before they are encoded: 1 until the first has shown how large they are
        self._box = box

    def room(self) -> tuple[int, float]:
        """Return how many more items to gather before they are encoded, and until when, on `monotonic`."""
        return self.batch_items - len(self.items), self._box.since + OLDEST_SECONDS

    def encode(self) -> tuple[Any] | None:
        """Encode what was gathered up to the first item with live parts, and return that in a tuple, or None.

        If an item cannot be encoded, EncodeError is raised after those before it were.
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
    """Pull all items of a source into a level, and suspend with `enough` each time that it is full.

    The source is `Batches`, an async iterable, a list, tuple or set, or any other sync iterable. That is pulled in a
    thread, because its next item may take any time.
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
