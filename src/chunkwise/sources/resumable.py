"""A function that starts a source anywhere -> a source whose stream can go on where it was cut.

Must not know formats or transports.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from chunkwise.sources.batches import Batches
from chunkwise.sources.closing import closing

__all__ = ["Resumable", "resumable"]

_END: Any = object()


class WrongKey(ValueError):  # noqa: N818 - it says what is wrong
    """A client has sent a key that none of the items can have: raised by a factory, its text is told to the client."""


_ETAG = re.compile(r"[!#-~]*")  # RFC 9110 §8.8.3, without what is no ASCII


@dataclass(frozen=True, slots=True)
class Resumable:
    """A source that can start at any of its items: see `resumable`, which makes it.

    Attributes:
        factory: gives the source from an item on.
        etag: names the version of the items, or None.
        total: how many items there are in all, or None; None where there is a key.
        key: the members of an item that tell its place; empty where its index does.
        lines: whether each item is one whole line, with its end. Else nobody can count the items in plain text.
    """

    factory: Callable[[Any], Any]
    etag: str | None
    total: int | None
    key: tuple[str, ...]
    lines: bool = field(default=False, kw_only=True)

    def start(self, index: int = 0, after: Sequence[Any] | None = None) -> Any:
        """Return the source from an item on.

        Args:
            index: which item, counted from 0; counts only if there is no key.
            after: the key of the item before it; None for the beginning.
        """
        if not self.key:
            return self.factory(index)
        return self.factory(None if after is None else tuple(after))


def resumable(
    factory: Callable[[Any], Any], *, etag: str | None = None, total: int | None = None, key: Sequence[str] = ()
) -> Resumable:
    """Return a source whose stream goes on where it was cut: `respond` takes it as any other.

    A client asks for ``Range: items=500-`` and gets the rest; `open_stream` does so by itself. Nothing is kept in the
    server for it: any process that has the same data can go on with the stream of another.

    Args:
        factory: called with the index of an item, from 0, it returns the source (see `respond`) of that item and all
            behind it: ``lambda start: rows(start)``. With a ``key``, it is called with the key of the item behind which
            to go on, a tuple of values, or with None for the beginning. A client sends those values, as JSON has them,
            or as text if it reads CSV: convert them, ``int(last[0])``, before you compare. What it raises is a failure
            of the server, as of any source; but a ValueError or TypeError for a client's key, before the first item,
            says that this is none: 400, without its text, unless it is a `WrongKey`.
        etag: names the version of the items. A client that goes on says which it has, and is told if it is another, so
            that no stream is a mixture. Without one, nobody can tell.
        total: how many items there are in all, if that is known. A stream that has less or more is a failure. Not
            with a ``key``, which is for items that come and go.
        key: the members of an item that tell its place in the order, where an index does not, because items are
            inserted and removed meanwhile: ``("id",)``. Items are dicts then.

    Raises:
        TypeError: the factory is none, the key is a string, the etag none, or the total no number.
        ValueError: the etag holds what an ETag cannot, or the total is negative or stands beside a key.
    """
    if not callable(factory):
        raise TypeError(f"factory: got {factory!r}, expected a function that takes the index of the first item")
    for name, value, kind in (("etag", etag, str), ("total", total, int)):
        if not isinstance(value, kind | None):
            raise TypeError(f"{name}: got {value!r}, expected {kind.__name__} or None")
    if isinstance(key, str):
        raise TypeError(f"key: got {key!r}, expected a list of names such as [{key!r}]")
    if etag is not None and not _ETAG.fullmatch(etag):
        raise ValueError(f"etag: got {etag!r}, expected printable ASCII without quotes and blanks")
    if total is not None and total < 0:
        raise ValueError(f"total: got {total}, expected a number of items from 0 on")
    if total is not None and key:
        msg = f"total: got {total} beside the key {list(key)!r}, expected none: how many stand behind a key may change"
        raise ValueError(msg)
    return Resumable(factory, etag, total, tuple(key))


def first_items(source: Any, count: int) -> Any:
    """Return the first so many items of a source as a source."""
    if isinstance(source, Batches):
        return Batches(_first_of_lists(source, count))
    return _first(source, count) if hasattr(source, "__aiter__") else _first_of_sync(source, count)


async def _first(source: AsyncIterable[Any], count: int) -> AsyncIterator[Any]:
    async with closing(source) as iterator:
        for _ in range(count):
            item = await anext(iterator, _END)
            if item is _END:
                return
            yield item


async def _first_of_lists(lists: AsyncIterable[list[Any]], count: int) -> AsyncIterator[list[Any]]:
    rest = count
    async with closing(lists) as iterator:
        while rest:
            batch: Any = await anext(iterator, _END)
            if batch is _END:
                return
            yield batch[:rest]
            rest -= min(rest, len(batch))


def _first_of_sync(source: Iterable[Any], count: int) -> Iterator[Any]:
    iterator = iter(source)
    try:
        yield from islice(iterator, count)
    finally:
        if close := getattr(iterator, "close", None):
            close()
