"""Count the items of a contender's reader, and keep them if a comparison needs them.

Without a comparison, the loops take no more time than a user's own loop, because they call nothing for each item.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any

from benchmarks.contender import WrongContent


class Taken:
    """Counts the items of a reader, and keeps them if a comparison needs them.

    Args:
        keep: whether to keep the items; a measured run drops each one at once.
        last: the number of items after which `one_by_one` ends its loop; 0 to read to the end.
    """

    def __init__(self, *, keep: bool, last: int = 0) -> None:
        self.count = 0
        self.kept: list[Any] = []
        self._keep = keep
        self._last = last

    async def one_by_one(self, items: AsyncIterable[Any]) -> None:
        """Count the items of an async iterator."""
        count, last = 0, self._last
        if self._keep:
            async for item in items:
                self.kept.append(item)
                count += 1
                if count == last:
                    break
        else:
            async for _ in items:
                count += 1
                if count == last:
                    break
        self.count += count

    async def in_lists(self, lists: AsyncIterable[Iterable[Any]]) -> None:
        """Count the items in the lists of an async iterator."""
        async for items in lists:
            self.all_of(items)

    def all_of(self, items: Iterable[Any]) -> None:
        """Count the items of an iterable."""
        if self._keep:
            items = list(items)
            self.kept += items
            self.count += len(items)
            return
        count = 0
        for _ in items:
            count += 1
        self.count += count

    def expect(self, wanted: list[Any], count: int) -> None:
        """Check that ``count`` items were read, and that the kept ones, if any, are those in ``wanted``.

        Raises:
            WrongContent: the items differ.
        """
        if self.count != count or (self._keep and self.kept != wanted):
            raise WrongContent(
                f"the {self.count} items read differ in number or content from the {count} expected items"
            )
