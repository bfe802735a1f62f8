"""Lists of items -> a source that is read list by list instead of item by item."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from chunkwise.errors import EncodeError
from chunkwise.sources.threads import batches_in_thread

# About how many items a thread pulls from a sync iterable before it waits until the event loop has taken them.
_HOP_ITEMS = 256


class closing:  # noqa: N801 - like contextlib.closing
    """Provide the iterator of an async iterable in an ``async with`` block, and close it at the end of the block.

    Unlike `contextlib.aclosing`, this class also accepts iterators without an ``aclose`` method.
    """

    def __init__(self, iterable: AsyncIterable[Any]) -> None:
        self._iterator = aiter(iterable)

    async def __aenter__(self) -> Any:
        return self._iterator

    async def __aexit__(self, *_: object) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


class Batches:
    """A source whose items are already in lists, such as the rows of a database.

    Use it wherever a source is accepted: in `respond`, in `body`, or inside a document. The output is the same as for
    single items, but reading a whole list costs only about as much as reading one item. A list is sent at once if the
    next one is not ready. For example::

        await chunkwise.respond(request, chunkwise.Batches(result.partitions(500)))

    Args:
        lists: an async iterable of lists, or a sync one, which runs in a thread. It is closed when the stream ends, for
            whatever reason. Lists may have any length, and long ones are encoded in parts; but each list is in memory
            as a whole, so yield lists of a few hundred rows. Yield a new list each time, because lists are encoded
            later.

    Raises:
        TypeError: ``lists`` is not iterable.
        EncodeError: while reading: an element is not a list. The items of the lists before it are sent.
    """

    def __init__(self, lists: AsyncIterable[list[Any]] | Iterable[list[Any]]) -> None:
        given: Any = lists
        if isinstance(given, (str, bytes, bytearray, Mapping)) or not isinstance(given, (AsyncIterable, Iterable)):
            hint = ": call it" if callable(given) else ""
            raise TypeError(f"Batches needs an async or sync iterable of lists, got {lists!r}{hint}")
        self.lists = lists

    async def __aiter__(self) -> AsyncGenerator[list[Any], None]:
        """Yield the lists; raise EncodeError for an element that is not a list."""
        lists = self.lists
        index = 0
        async with closing(lists if isinstance(lists, AsyncIterable) else _from_thread(lists)) as given:
            async for batch in given:
                if not isinstance(batch, list):
                    got = type(batch).__name__
                    raise EncodeError(f"Batches needs an iterable of lists, got {got} at index {index}")
                yield batch
                index += 1


async def _from_thread(lists: Iterable[Any]) -> AsyncGenerator[Any, None]:
    size = _HOP_ITEMS
    async with aclosing(batches_in_thread(lists, lambda: max(1, _HOP_ITEMS // max(1, size)))) as hops:
        async for hop in hops:
            for batch in hop:
                size = len(batch) if isinstance(batch, list) else 0
                yield batch
