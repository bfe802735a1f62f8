"""A function that returns a source starting at any item -> a source whose stream can be resumed after a disconnect."""

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from chunkwise.sources.batches import Batches, closing

__all__ = ["Resumable", "resumable"]

_END: Any = object()


class WrongKey(ValueError):  # noqa: N818 - the name says what is wrong
    """Raised by the factory of a `Resumable` for a key that no item can have. The client gets the error's text."""


_ETAG = re.compile(r"[!#-~]*")  # the ASCII characters that an ETag can have (RFC 9110 §8.8.3)


@dataclass(frozen=True, slots=True)
class Resumable:
    """A source that can start at any of its items. `resumable` makes it.

    Attributes:
        factory: a function that returns a source of a given item and all later ones.
        etag: the version of the items, or None.
        total: the number of all items; None if it is unknown, or if items have a key.
        key: the names of the members that give the position of an item; empty if its index gives the position.
        lines: whether each item is text of exactly one line with its line end. If so, a client can count the items of
            a stream of plain text, and resume the stream at any item.
    """

    factory: Callable[[Any], Any]
    etag: str | None
    total: int | None
    key: tuple[str, ...]
    lines: bool = field(default=False, kw_only=True)

    def start(self, index: int = 0, after: Sequence[Any] | None = None) -> Any:
        """Return a source of a given item and all later ones.

        Args:
            index: the index of this item, counted from 0; ignored if items have a key.
            after: the key of the item directly before this item; None to start at the first item. Ignored if items have
                no key.
        """
        if not self.key:
            return self.factory(index)
        return self.factory(None if after is None else tuple(after))


def resumable(
    factory: Callable[[Any], Any], *, etag: str | None = None, total: int | None = None, key: Sequence[str] = ()
) -> Resumable:
    """Return a source whose stream can be continued after a disconnect. Pass it to `respond` like any other source.

    A client that requests ``Range: items=500-`` gets the items from index 500 on; `open_stream` sends such requests
    automatically. The server keeps no state, so any process with the same data can continue a stream that another
    process began.

    Args:
        factory: a function that starts the source at an item. It is called with the index of the first item, counted
            from 0, and returns a source of that item and all later ones: ``lambda start: rows(start)``. With ``key``,
            it is called with the key of the last item that the client has, a tuple of values, or with None for the
            beginning. The client sends these values, as JSON, or as text if it reads CSV. So convert them before you
            compare, for example with ``int(last[0])``. If the function or its source raises ValueError or TypeError for
            a client's key before the first item, the client gets the status 400. Every other exception is an error of
            the server.
        etag: the version of the items. A client sends the version that it has, and gets an error if the items have
            changed, so a stream never mixes two versions. Without it, changes are not detected.
        total: the number of all items, if it is known. A stream with fewer or more items fails. Cannot be combined with
            ``key``.
        key: the names of the members that give an item's position, such as ``("id",)``. Use it if items may be inserted
            or removed, because an index would then be wrong. Items must be dicts.

    Raises:
        TypeError: the factory is not callable, the key is a string, the etag is not a string, or the total is not an
            int.
        ValueError: the etag has characters that an ETag cannot have, the total is negative, or a total and a key were
            both given.
    """
    if not callable(factory):
        raise TypeError(f"factory must be a function of the index or key to start at, got {factory!r}")
    for name, value, kind in (("etag", etag, str), ("total", total, int)):
        if not isinstance(value, kind | None):
            raise TypeError(f"{name} must be {kind.__name__} or None, got {value!r}")
    if isinstance(key, str):
        raise TypeError(f"key must be a list of names, such as [{key!r}], got the str {key!r}")
    if etag is not None and not _ETAG.fullmatch(etag):
        raise ValueError(f"etag must be printable ASCII without quotes and spaces, got {etag!r}")
    if total is not None and total < 0:
        raise ValueError(f"total must be >= 0 items, got {total}")
    if total is not None and key:
        raise ValueError(f"total cannot be combined with a key, got total={total} and key={list(key)!r}: leave one out")
    return Resumable(factory, etag, total, tuple(key))


def first_items(source: Any, count: int) -> Any:
    """Return a source of the first ``count`` items of a source."""
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
