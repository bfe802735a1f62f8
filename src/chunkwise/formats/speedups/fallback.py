"""The functions and classes that `_speedups` has compiled, in Python: the same results and the same errors.

Nothing here depends on the flow: callers pass in the iterator, the clock and what suspends.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from operator import length_hint
from typing import Any, Protocol

from chunkwise.formats.parsing.scanner import Scanner

__all__ = ["Items", "Scanner", "event_texts", "gather_items", "holds_null", "line_ends", "whole_bytes"]

_null = re.compile(b"null")  # takes half the time of ``b"null" in data``
_white = re.compile(b"\n[\0- ]")


def holds_null(data: bytes) -> bool:
    """Say whether the data contain "null", inside a string or not."""
    return _null.search(data) is not None


def line_ends(data: bytes) -> int:
    """Count the LF and CR bytes; return -1 if a line is empty or begins with white space."""
    if (data[:1] <= b" " and data) or _white.search(data):
        return -1
    return data.count(b"\n") + data.count(b"\r")


def whole_bytes(data: bytes) -> int:
    """Return how many bytes at the start are whole UTF-8 characters.

    The compiled function returns the exact number; this one may return less.
    """
    return len(data) if data.isascii() else 0


def event_texts(run: bytes, start: int, stop: int, max_bytes: int) -> tuple[bytes, int, bytes | None] | None:
    r"""Take the blocks of server-sent events between two offsets at once; None if they must be taken line by line.

    The run has lines that end with ``\n``, and each block a blank line. The result has the data of the events, of at
    most ``max_bytes`` each, with ``\n`` between them, their number, and the last id, or None without an id.
    This one always returns None: in Python, it would save no time.
    """
    del run, start, stop, max_bytes
    return None


class Gathered(Protocol):
    """A place for gathered items; see `flow.gathering.Level`."""

    items: list[Any]

    def room(self) -> tuple[int, float]:
        """Return how many more items to gather, and until when."""


async def gather_items(
    iterator: AsyncIterator[Any], level: Gathered, enough: Callable[[], Awaitable[None]], now: Callable[[], float]
) -> None:
    """Append all items to ``level.items``, and await ``enough()`` each time the level is full or its time is over.

    The caller closes the iterator. ``enough`` suspends until the items were taken, and ``now`` is the level's clock.
    """
    # This loop runs once for each item: it reads local names only, and calls nothing but the clock.
    items = level.items
    left, latest = level.room()
    async for item in iterator:
        items.append(item)
        left -= 1
        if left <= 0 or now() >= latest:
            await enough()
            left, latest = level.room()


class Items:
    """The items of batches, one by one; each batch is asked for after the items of the one before it were given."""

    def __init__(self, batches: AsyncIterator[list[Any]]) -> None:
        self._batches = batches
        self._batch: Iterator[Any] = iter(())
        self._generator = self._generate()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return self._generator.__anext__()

    def remaining(self) -> int:
        """Return how many items of the current batch are left."""
        return length_hint(self._batch)

    def rest(self) -> list[Any]:
        """Return the remaining items of the current batch; the iteration goes on with the next batch."""
        return list(self._batch)

    async def _generate(self) -> AsyncIterator[Any]:
        async for batch in self._batches:
            self._batch = iter(batch)
            for item in self._batch:
                yield item
