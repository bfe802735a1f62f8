"""Lists -> what stands in them, one by one, by ``async for``: pure twin.

Must not know where the lists come from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any


class Items:
    """The items of lists, each list asked for once those of the one before it were given.

    Args:
        batches: the lists.
    """

    def __init__(self, batches: AsyncIterator[list[Any]]) -> None:
        self._batches = batches
        self._batch: Iterator[Any] = iter(())
        self._generator = self._generate()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return self._generator.__anext__()

    def rest(self) -> list[Any]:
        """Return what was not given yet of the last list, and give it no more."""
        return list(self._batch)

    async def _generate(self) -> AsyncIterator[Any]:
        async for batch in self._batches:
            self._batch = iter(batch)
            for item in self._batch:
                yield item
