"""Lists of items -> a source that says so: flow then takes whole lists instead of item after item.

Must not know formats or transports.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from chunkwise.errors import EncodeError
from chunkwise.sources.closing import closing
from chunkwise.sources.threads import batches_in_thread

_HOP_ITEMS = 256  # about as many are pulled in a thread before the loop has taken the last of them


class Batches:
    """A source that has its items in lists already, as a database gives its rows: a list then costs what an item does.

    It stands wherever a source does: in `respond`, in `body`, in a document. What is written is the same as if all
    items came one by one, and a list is sent like any other item that is ready: at the latest when the next one is
    waited for. ::

        await chunkwise.respond(request, chunkwise.Batches(result.partitions(500)))

    Args:
        lists: an async iterable of lists, or a sync one, which runs in a thread of its own; closed at the end, however
            the stream ends. A list may be empty, and of any length: long ones are encoded in parts; but each stands in
            memory as a whole, so some hundred rows are better than all. Give a new list each time: what was given is
            encoded later.

    Raises:
        TypeError: ``lists`` is neither.
        EncodeError: while it is read: what came is no list. The items of the lists before it are sent.
    """

    def __init__(self, lists: AsyncIterable[list[Any]] | Iterable[list[Any]]) -> None:
        given: Any = lists
        if isinstance(given, (str, bytes, bytearray, Mapping)) or not isinstance(given, (AsyncIterable, Iterable)):
            hint = ": call it" if callable(given) else ""
            raise TypeError(f"Batches takes an async or sync iterable of lists, got {lists!r}{hint}")
        self.lists = lists

    async def __aiter__(self) -> AsyncGenerator[list[Any], None]:
        """Give the lists."""
        lists = self.lists
        place = 0
        async with closing(lists if isinstance(lists, AsyncIterable) else _from_thread(lists)) as given:
            async for batch in given:
                if not isinstance(batch, list):
                    got = type(batch).__name__
                    raise EncodeError(f"Batches gives lists of items, got {got} at place {place}, expected list")
                yield batch
                place += 1


async def _from_thread(lists: Iterable[Any]) -> AsyncGenerator[Any, None]:
    size = _HOP_ITEMS
    async with aclosing(batches_in_thread(lists, lambda: max(1, _HOP_ITEMS // max(1, size)))) as hops:
        async for hop in hops:
            for batch in hop:
                size = len(batch) if isinstance(batch, list) else 0
                yield batch
