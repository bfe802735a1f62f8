"""flow/gathering.py: items gathered from each kind of source, batches encoded at once, and when a write is due."""

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from math import inf
from typing import Any

import pytest

from chunkwise.errors import EncodeError
from chunkwise.flow.gathering import ENOUGH, OLDEST_SECONDS, WRITE_BYTES, Box, Level, gather
from chunkwise.formats import FORMATS
from chunkwise.sources.batches import Batches
from tests.flow.producing import GUARD_SECONDS
from tests.tables import check_rows, check_rows_async, cross, named


def box(size: int = 0, *, worth_writing: bool = False, half_made: bool = False, since: float = inf) -> Box:
    """Return a box with the given number of bytes. By default its content is never old enough to be written."""
    made = Box()
    made.buffer += b"x" * size
    made.worth_writing, made.half_made, made.since = worth_writing, half_made, since
    return made


def level(batch_items: int = 1, *, name: str = "ndjson", since: float = inf) -> tuple[Level, Box]:
    """Return a level that is full after the given number of items."""
    into = box(since=since)
    made = Level(FORMATS[name].encoder(), into)
    made.batch_items = batch_items
    return made, into


def test_write_is_due_in_these_cases() -> None:
    def check(ready: Box, keeps_up: bool, stalled: bool, failed: bool) -> None:
        assert ready.is_due(stalled=False, failed=False) is keeps_up
        assert ready.is_due(stalled=True, failed=False) is stalled
        assert ready.is_due(stalled=False, failed=True) is failed

    check_rows(
        {
            "nothing": (box(), False, False, False),
            "nothing for long": (box(worth_writing=True, half_made=True, since=-inf), False, False, False),
            "a write": (box(WRITE_BYTES), True, True, True),
            "a byte less": (box(WRITE_BYTES - 1), False, False, False),
            "a head": (box(5, since=-inf), False, False, False),
            "part of an item": (box(5, half_made=True), False, True, False),
            "an item": (box(5, worth_writing=True), False, True, True),
            "an old one": (box(5, worth_writing=True, since=-inf), True, True, True),
        },
        check,
    )


def test_take_returns_and_removes_bytes() -> None:
    ready = box(5, since=-inf)
    assert ready.take() == b"x" * 5
    assert (bytes(ready.buffer), ready.worth_writing) == (b"", True)
    assert ready.since > 0
    assert ready.take() == b""


def test_batch_size_adapts_to_item_size() -> None:
    gathering, into = level()
    sizes = []
    for _ in range(10):
        sizes.append(gathering.batch_items)
        gathering.items += [0] * gathering.batch_items
        assert gathering.encode() is None
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 256]
    assert (gathering.count, into.buffer.count(b"0\n"), into.worth_writing) == (sum(sizes), sum(sizes), True)
    for size, fitting in ((1000, 16), (5000, 3), (200_000, 1), (1000, 2)):
        gathering.items += ["x" * size] * 4
        assert gathering.encode() is None
        assert gathering.batch_items == fitting
    assert gathering.items == []


def test_items_without_bytes_are_accepted() -> None:
    gathering, into = level(name="text")
    gathering.items += ["", ""]
    assert gathering.encode() is None
    assert (gathering.count, bytes(into.buffer), gathering.batch_items) == (2, b"", 2)


def test_batch_ends_when_oldest_item_is_too_old() -> None:
    gathering, into = level(5, since=100)
    gathering.items += [1, 2]
    assert gathering.room() == (3, 100 + OLDEST_SECONDS)
    into.since = 200
    assert gathering.room() == (3, 200 + OLDEST_SECONDS)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_live_item_follows_earlier_items(before: int) -> None:
    gathering, into = level()
    live = {"rows": iter([1])}
    gathering.items += [*range(before), live, 8, 9]
    assert gathering.encode() == (live,)
    assert bytes(into.buffer) == b"".join(b"%d\n" % number for number in range(before))
    assert into.worth_writing is (before > 0)
    assert (gathering.count, gathering.items) == (before, [8, 9])


@pytest.mark.parametrize("before", [0, 1, 3])
def test_encode_error_follows_earlier_items(before: int) -> None:
    gathering, into = level()
    gathering.items += [5, 6]
    gathering.encode()
    gathering.items += [*range(before), object(), 8]
    for _ in range(2):
        with pytest.raises(EncodeError) as caught:
            gathering.encode()
        assert caught.value.item_index == gathering.count == 2 + before
        assert into.buffer == b"5\n6\n" + b"".join(b"%d\n" % number for number in range(before))
        assert gathering.items[1:] == [8]


@types.coroutine
def gathered(source: Any, into: Level) -> Generator[Any, None, list[list[Any]]]:
    """Run `gather` as `Outbound` does; return the items collected at each step."""
    producer = gather(source, into)
    batches: list[list[Any]] = []
    try:
        while True:
            signal = producer.send(None)
            if signal is ENOUGH:
                batches.append(into.items[:])
                into.items.clear()
            else:
                yield signal
    except StopIteration:
        return [*batches, into.items]
    finally:
        producer.close()


async def numbers() -> AsyncIterator[int]:
    for number in range(5):
        yield number
        await asyncio.sleep(0)


def numbers_in_a_thread() -> Iterator[int]:
    yield from range(5)


async def lists() -> AsyncIterator[list[int]]:
    yield [0, 1, 2, 3]
    await asyncio.sleep(0)
    yield []
    yield [4]


SOURCES: dict[str, Callable[[], Any]] = {
    "async": numbers,
    "a generator": numbers_in_a_thread,
    "an iterable": lambda: range(5),
    "lists": lambda: Batches(lists()),
    "lists in a thread": lambda: Batches([[0, 1, 2, 3], [], [4]]),
    "a list": lambda: [0, 1, 2, 3, 4],
    "a tuple": lambda: (0, 1, 2, 3, 4),
    "a set": lambda: {0, 1, 2, 3, 4},
    "a frozen set": lambda: frozenset(range(5)),
}


async def test_items_of_any_source_keep_their_order() -> None:
    async def check(size: int, kind: str) -> None:
        into, _ = level(size)
        async with asyncio.timeout(GUARD_SECONDS):
            batches = await gathered(SOURCES[kind](), into)
        whole = 5 // size * size
        assert batches == [[*range(start, start + size)] for start in range(0, whole, size)] + [[*range(whole, 5)]]
        there_before = kind in ("a list", "a tuple", "a set", "a frozen set")
        assert into.made is not there_before, "items of a list do not cause a write"

    await check_rows_async(cross(named([1, 2, 3, 5, 100]), named(SOURCES)), check)


@pytest.mark.parametrize(("since", "expected"), [(inf, [[0, 1, 2, 3, 4]]), (-inf, [[0, 1, 2, 3], [4], []])])
async def test_old_list_does_not_wait_for_next(since: float, expected: list[list[int]]) -> None:
    into, _ = level(100, since=since)
    assert await gathered(Batches(lists()), into) == expected


def test_abandoned_source_of_lists_is_closed() -> None:
    ended: list[str] = []

    async def endless() -> AsyncIterator[list[int]]:
        try:
            while True:
                yield [0]
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    into, _ = level(1)
    producer = gather(Batches(endless()), into)
    assert producer.send(None) is ENOUGH
    assert producer.throw(asyncio.CancelledError()) is None, "it waits for the source to clean up"
    with pytest.raises(asyncio.CancelledError):
        producer.send(None)
    assert ended == ["ended"]
