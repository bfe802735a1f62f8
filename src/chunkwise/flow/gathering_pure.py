"""An async iterable -> its items in a level's list, and a stop each time that there are enough: pure twin.

Must not know what is made of the items.
"""

from __future__ import annotations

import types
from collections.abc import AsyncIterable, Generator
from time import monotonic
from typing import Any, Protocol

from chunkwise.sources.closing import closing

ENOUGH = object()
"""What a producer yields to `outbound` when it has gathered enough, where others yield the future they wait for."""


@types.coroutine
def enough() -> Generator[object, None, None]:
    """Suspend the producer until what it gathered was taken."""
    yield ENOUGH


class Room(Protocol):
    """Where items are gathered; see `gathering.Level`."""

    items: list[Any]

    def room(self) -> tuple[int, float]:
        """Return for how many more there is room, and until when, on `time.monotonic`."""


async def gather_items(source: AsyncIterable[Any], level: Room) -> None:
    """Pull all items, and suspend with `enough` each time that there is no more room or time."""
    # What stands in this loop is paid for each item: no call but that of the clock, and of nothing but local names.
    items, now = level.items, monotonic
    left, latest = level.room()
    async with closing(source) as iterator:
        async for item in iterator:
            items.append(item)
            left -= 1
            if left <= 0 or now() >= latest:
                await enough()
                left, latest = level.room()
