"""flow/gathering_pure.py and flow/gathering_compiled.pyx: items gathered until there is no more room or time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import pytest

from chunkwise.flow import gathering_pure
from chunkwise.flow.gathering_pure import ENOUGH

Gather = Callable[[Any, Any], Any]


@pytest.fixture(params=["compiled", "pure"])
def gather_items(request: pytest.FixtureRequest) -> Gather:
    if request.param == "pure":
        return gathering_pure.gather_items
    compiled = pytest.importorskip("chunkwise.flow.gathering_compiled", reason="built without a compiler")
    made: Gather = compiled.gather_items
    return made


class Level:
    """Room for some items at a time, until some time; tells how often it was asked."""

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
    """Step a producer as `outbound` does, and return what it has waited for otherwise."""
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
    """Numbers, by hand; fails before `fails_at`."""

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


@pytest.mark.parametrize("make", [Source, counted])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_items_come_in_order_as_many_at_once_as_there_is_room_for(
    gather_items: Gather, make: Callable[[int], Any], size: int
) -> None:
    level = Level(size)
    assert run(gather_items(make(7), level), level) == []
    whole = 7 // size * size
    assert level.taken == [[*range(start, start + size)] for start in range(0, whole, size)] + [[*range(whole, 7)]]


def test_each_item_is_a_batch_where_there_is_no_time(gather_items: Gather) -> None:
    level = Level(100, seconds=0)
    run(gather_items(counted(3), level), level)
    assert level.taken == [[0], [1], [2], []]


def test_what_the_source_waits_for_comes_through(gather_items: Gather) -> None:
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
        assert run(gather_items(waits(), level), level) == [None]
        assert level.taken == [[0, 1, 2]]
    finally:
        loop.close()


def test_a_source_is_closed_however_it_ends(gather_items: Gather) -> None:
    level, source = Level(2), Source(3)
    run(gather_items(source, level), level)
    assert source.closed == 1
    level, source = Level(2), Source(9, fails_at=3)
    with pytest.raises(LookupError, match="no more rows"):
        run(gather_items(source, level), level)
    assert (source.closed, level.taken, level.items) == (1, [[0, 1]], [2])


def test_a_producer_that_is_given_up_closes_its_source(gather_items: Gather) -> None:
    level, source = Level(2), Source(9)
    producer = gather_items(source, level)
    assert producer.send(None) is ENOUGH
    with pytest.raises(asyncio.CancelledError):
        producer.throw(asyncio.CancelledError())
    assert source.closed == 1
    producer = gather_items(source, level)
    assert producer.send(None) is ENOUGH
    producer.close()
    assert source.closed == 2


def test_what_is_no_source_is_told(gather_items: Gather) -> None:
    with pytest.raises(TypeError):
        run(gather_items([1], Level(1)), Level(1))
