"""The items of a reader -> their count, and the items themselves if they are compared.

It costs no more than the loop that a user would write: there is no call and no generator between the reader and the
loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any

from benchmarks.contender import WrongContent


class Taken:
    """Takes the items of a reader and counts them.

    Args:
        keep: whether to keep the items; a measured run drops each one at once.
        last: the number of items after which to leave the loop; 0 to read to the end.
    """

    def __init__(self, *, keep: bool, last: int = 0) -> None:
        self.count = 0
        self.kept: list[Any] = []
        self._keep = keep
        self._last = last

    async def one_by_one(self, items: AsyncIterable[Any]) -> None:
        """Take items with ``async for``."""
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
        """Take lists with ``async for``, and the items of each with ``for``."""
        async for items in lists:
            self.all_of(items)

    def all_of(self, items: Iterable[Any]) -> None:
        """Take items with ``for``."""
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
        """Compare the items taken with those that were sent.

        Raises:
            WrongContent: they differ.
        """
        if self.count != count or (self._keep and self.kept != wanted):
            raise WrongContent(f"{self.count} items, which differ from the {count} expected")
