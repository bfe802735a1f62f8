"""Lists of items -> a source that says so: flow then takes whole lists instead of item after item.

Must not know formats or transports.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any


class Batches:
    """Marks an async iterable of lists of items.

    Args:
        lists: the lists, none of them larger than what may be held in memory.
    """

    def __init__(self, lists: AsyncIterable[list[Any]]) -> None:
        self.lists = lists
