"""The Python equivalents of the compiled functions and classes in `_speedups`, with the same results and errors.

This module cannot import the package `flow`, because `flow` imports it. So callers of `gather_items` pass the clock and
the function that suspends as arguments.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from operator import length_hint
from typing import Any, Protocol

from chunkwise.formats.parsing.scanner import Scanner

__all__ = ["Items", "Scanner", "event_texts", "gather_items", "holds_null", "line_ends", "whole_bytes"]

_null = re.compile(b"null")  # searching with this pattern takes half the time of ``b"null" in data``
_white = re.compile(b"\n[\0- ]")


def holds_null(data: bytes) -> bool:
    """Return whether the data contains "null", inside or outside of strings."""
    return _null.search(data) is not None


def line_ends(data: bytes) -> int:
    """Return the number of LF and CR bytes, or -1 if a line is empty or begins with white space.

    Encoders compare the result with the number of items: if it differs, an item is blank or contains a line end.
    """
    if (data[:1] <= b" " and data) or _white.search(data):
        return -1
    return data.count(b"\n") + data.count(b"\r")


def whole_bytes(data: bytes) -> int:
    """Return how many bytes at the start of the data are complete UTF-8 characters.

    The compiled function returns the exact number. This function returns 0 if any byte is not ASCII; then the callers
    use slower code with the same result.
    """
    return len(data) if data.isascii() else 0


def event_texts(run: bytes, start: int, stop: int, max_bytes: int) -> tuple[bytes, int, bytes | None] | None:
    r"""Return the data of all server-sent events between two offsets, or None if they must be read line by line.

    The result is a tuple: the data of the events, separated by ``\n``; the number of events; and the last id, or
    None if there is no id. This function always returns None, because in Python it would save no time.

    Args:
        run: complete lines, each with ``\n`` at its end, and a blank line after each event.
        start: the offset of the first event in the run, in bytes.
        stop: the offset after the last event, in bytes.
        max_bytes: the limit for the data of one event, in bytes. If an event has more, the result is None.
    """
    del run, start, stop, max_bytes
    return None


class Gathered(Protocol):
    """An object that collects items for `gather_items`, such as `flow.gathering.Level`."""

    items: list[Any]

    def room(self) -> tuple[int, float]:
        """Return how many more items to collect, and the time until which to collect them."""


async def gather_items(
    iterator: AsyncIterator[Any], level: Gathered, enough: Callable[[], Awaitable[None]], now: Callable[[], float]
) -> None:
    """Append all items of an iterator to ``level.items``; at each limit of ``level.room()``, await ``enough()``.

    Args:
        iterator: the source of the items. The caller closes it.
        level: the object that collects the items.
        enough: suspends until the collected items were removed from the level.
        now: returns the current time, on the same clock as ``level.room()``.
    """
    # This loop runs once for each item. For speed it uses only local names, and calls only `append` and the clock.
    items = level.items
    left, latest = level.room()
    async for item in iterator:
        items.append(item)
        left -= 1
        if left <= 0 or now() >= latest:
            await enough()
            left, latest = level.room()


class Items:
    """The items of batches, one by one. The next batch is requested after the last item of a batch was returned."""

    def __init__(self, batches: AsyncIterator[list[Any]]) -> None:
        self._batches = batches
        self._batch: Iterator[Any] = iter(())
        self._generator = self._generate()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return self._generator.__anext__()

    def remaining(self) -> int:
        """Return the number of items left in the current batch."""
        return length_hint(self._batch)

    def rest(self) -> list[Any]:
        """Return the remaining items of the current batch as a list; iteration continues with the next batch."""
        return list(self._batch)

    async def _generate(self) -> AsyncIterator[Any]:
        async for batch in self._batches:
            self._batch = iter(batch)
            for item in self._batch:
                yield item
