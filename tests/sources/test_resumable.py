"""sources/resumable.py: a source can start at any item; the first items of a source, which is closed after them."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import pytest

from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import first_items, resumable
from tests.tables import check_rows, check_rows_async, cross, named


@pytest.mark.parametrize("start", [0, 3])
def test_source_without_key_starts_at_index(start: int) -> None:
    source = resumable(lambda first: ["from", first], etag="v1", total=5)
    assert source.start(start) == ["from", start]
    assert source.start(start, ["items not requested"]) == ["from", start]
    assert source.start() == ["from", 0]
    assert (source.etag, source.total, source.key) == ("v1", 5, ())


def test_source_with_key_starts_after_key() -> None:
    source = resumable(lambda after: ["after", after], key=["day", "id"])
    assert source.start(7, ["2024-02-29", 5]) == ["after", ("2024-02-29", 5)]
    assert source.start() == ["after", None]
    assert source.key == ("day", "id")


def test_invalid_arguments_are_refused() -> None:
    def check(factory: Any, options: dict[str, Any], expected: str) -> None:
        with pytest.raises((TypeError, ValueError), match=expected):
            resumable(factory, **options)

    check_rows(
        named(
            [
                ([1, 2], {}, r"factory must be a function of the index or key to start at, got \[1, 2\]"),
                (list, {"key": "id"}, r"key must be a list of names, such as \['id'\], got the str 'id'"),
                (list, {"etag": 'a"b'}, "etag must be printable ASCII without quotes and spaces, got 'a\"b'"),
                (list, {"etag": 1}, "etag must be str or None, got 1"),
                (list, {"total": "5"}, "total must be int or None, got '5'"),
                (list, {"etag": "a b"}, "etag must be .*, got 'a b'"),
                (list, {"etag": "\u00e9"}, "etag must be printable ASCII"),
                (list, {"total": -1}, "total must be >= 0 items, got -1"),
                (list, {"total": 5, "key": ["id"]}, r"total cannot be combined with a key, got total=5 and"),
            ]
        ),
        check,
    )


@pytest.mark.parametrize("etag", ["", "v1", "!#~[]", None])
def test_printable_etag_and_zero_total_are_accepted(etag: str | None) -> None:
    assert resumable(list, etag=etag, total=0).etag == etag


class Plain:
    """An async iterator that cannot be closed."""

    def __init__(self, *items: Any) -> None:
        self._items = iter(items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        for item in self._items:
            return item
        raise StopAsyncIteration


closed: list[str] = []


async def generated(*items: Any) -> AsyncIterator[Any]:
    try:
        for item in items:
            yield item
    finally:
        closed.append("async")


def generated_in_a_thread(*items: Any) -> Iterator[Any]:
    try:
        yield from items
    finally:
        closed.append("sync")


async def all_of(source: Any) -> list[Any]:
    if isinstance(source, Batches):
        return [item async for batch in source for item in batch]
    return [item async for item in source] if hasattr(source, "__aiter__") else list(source)


KINDS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "an async generator": (lambda: generated(0, 1, 2, 3), ["async"]),
    "an async iterator": (lambda: Plain(0, 1, 2, 3), []),
    "a generator": (lambda: generated_in_a_thread(0, 1, 2, 3), ["sync"]),
    "a list": (lambda: [0, 1, 2, 3], []),
    "lists": (lambda: Batches(generated([0], [], [1, 2, 3])), ["async"]),
    "lists in a thread": (lambda: Batches(generated_in_a_thread([0], [], [1, 2, 3])), ["sync"]),
}


async def test_first_items_close_the_source() -> None:
    async def check(count: int, kind: str) -> None:
        make, expected = KINDS[kind]
        closed.clear()
        first = first_items(make(), count)
        assert isinstance(first, Batches) == kind.startswith("lists")
        assert await all_of(first) == [0, 1, 2, 3][:count]
        assert closed == expected

    await check_rows_async(cross(named([1, 2, 4, 5]), named(KINDS)), check, at_once=1)


@pytest.mark.parametrize("kind", KINDS)
async def test_first_zero_items_are_none(kind: str) -> None:
    assert await all_of(first_items(KINDS[kind][0](), 0)) == []


async def test_source_is_not_read_beyond_first_items() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 0
        yield 1
        raise AssertionError("a third is not wanted")

    assert await all_of(first_items(failing(), 2)) == [0, 1]
    assert await all_of(first_items((n if n < 2 else 1 // 0 for n in range(3)), 2)) == [0, 1]
