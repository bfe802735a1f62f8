"""speedups/items.pxi and its fallback: items are collected until the batch is full or its time is over."""

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic
from types import ModuleType
from typing import Any

import pytest

from chunkwise.flow import gathering
from chunkwise.flow.gathering import ENOUGH, enough
from tests.tables import check_rows, cross, named

Gather = Callable[[Any, Any], Any]


@pytest.fixture
def gather(code: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Gather:
    """Run the test with `flow.gathering.gather` on the compiled code, then on the fallback."""
    monkeypatch.setattr(gathering, "gather_items", code.gather_items)
    return gathering.gather


class Level:
    """A level that is full after the given number of items or seconds."""

    def __init__(self, size: int, seconds: float = 60) -> None:
        self.items: list[Any] = []
        self.taken: list[list[Any]] = []
        self._size, self._seconds = size, seconds

    def room(self) -> tuple[int, float]:
        return self._size, monotonic() + self._seconds

    def take(self) -> None:
        self.taken.append(self.items[:])
        self.items.clear()


def run(producer: Any, level: Level) -> Any:
    """Run a producer step by step, as `Outbound` does; return the futures that it has yielded."""
    waited = []
    try:
        while True:
            if (signal := producer.send(None)) is ENOUGH:
                level.take()
            else:
                waited.append(signal)
    except StopIteration:
        level.take()
    return waited


class Source:
    """An iterator of numbers that can be closed, and raises an error before the number `fails_at`."""

    def __init__(self, count: int, fails_at: int = -1) -> None:
        self.closed, self._count, self._fails_at, self._next = 0, count, fails_at, 0

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        if self._next == self._fails_at:
            raise LookupError("no more rows")
        if self._next == self._count:
            raise StopAsyncIteration
        self._next += 1
        return self._next - 1

    async def aclose(self) -> None:
        self.closed += 1


async def counted(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def test_items_are_collected_up_to_batch_size(gather: Gather) -> None:
    def check(make: Callable[[int], Any], size: int) -> None:
        level = Level(size)
        assert run(gather(make(7), level), level) == []
        whole = 7 // size * size
        assert level.taken == [[*range(start, start + size)] for start in range(0, whole, size)] + [[*range(whole, 7)]]

    check_rows(cross(named([Source, counted]), named([1, 2, 3, 7, 100])), check)


def test_item_is_a_batch_after_the_deadline(gather: Gather) -> None:
    level = Level(100, seconds=0)
    run(gather(counted(3), level), level)
    assert level.taken == [[0], [1], [2], []]


def test_futures_of_source_reach_event_loop(gather: Gather) -> None:
    loop = asyncio.new_event_loop()
    try:
        future = loop.create_future()

        async def waits() -> AsyncIterator[int]:
            yield 0
            future.set_result(1)
            yield await future
            await asyncio.sleep(0)
            yield 2

        level = Level(100)
        assert run(gather(waits(), level), level) == [None]
        assert level.taken == [[0, 1, 2]]
    finally:
        loop.close()


def test_source_is_closed_however_it_ends(gather: Gather) -> None:
    level, source = Level(2), Source(3)
    run(gather(source, level), level)
    assert source.closed == 1
    level, source = Level(2), Source(9, fails_at=3)
    with pytest.raises(LookupError, match="no more rows"):
        run(gather(source, level), level)
    assert (source.closed, level.taken, level.items) == (1, [[0, 1]], [2])


def test_cancelled_producer_closes_its_source(gather: Gather) -> None:
    level, source = Level(2), Source(9)
    producer = gather(source, level)
    assert producer.send(None) is ENOUGH
    with pytest.raises(asyncio.CancelledError):
        producer.throw(asyncio.CancelledError())
    assert source.closed == 1
    producer = gather(source, level)
    assert producer.send(None) is ENOUGH
    producer.close()
    assert source.closed == 2


def test_object_without_anext_is_refused(code: ModuleType) -> None:
    with pytest.raises(TypeError):
        run(code.gather_items([1], Level(1), enough, monotonic), Level(1))
