"""speedups/items.pxi and its fallback: they return the items of batches one by one, like an async generator."""

import asyncio
import collections.abc
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import pytest

from chunkwise.flow import inbound
from chunkwise.formats import FORMATS
from chunkwise.formats.speedups import Items

MakeItems = Callable[[AsyncIterator[list[Any]]], Items]


@pytest.fixture
def make_items(code: ModuleType) -> MakeItems:
    """Run the test with the compiled class, then with the fallback."""
    make: MakeItems = code.Items
    return make


async def lists(*batches: list[Any] | Exception) -> AsyncIterator[list[Any]]:
    for batch in batches:
        await asyncio.sleep(0)
        if isinstance(batch, Exception):
            raise batch
        yield batch


ODD: list[Any] = [
    None,
    (),
    (1, 2),
    (ValueError(),),
    StopIteration(3),
    StopAsyncIteration(4),
    RuntimeError,
    [5],
    {},
    iter([6]),
]


async def test_items_of_any_type_are_returned_unchanged(make_items: MakeItems) -> None:
    got = [item async for item in make_items(lists(ODD, [1], ODD))]
    assert all(item is sent for item, sent in zip(got, [*ODD, 1, *ODD], strict=True))


async def test_empty_batches_are_skipped(make_items: MakeItems) -> None:
    assert [item async for item in make_items(lists([], [1], [], [], [2], []))] == [1, 2]
    assert [item async for item in make_items(lists())] == []


async def test_iteration_after_the_end_stays_ended(make_items: MakeItems) -> None:
    iterator = aiter(make_items(lists([1])))
    assert await anext(iterator) == 1
    for _ in range(3):
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
    assert await anext(iterator, "none") == "none"


async def test_error_is_raised_after_earlier_items(make_items: MakeItems) -> None:
    iterator = aiter(make_items(lists([1, 2], LookupError("here"), [3])))
    assert [await anext(iterator), await anext(iterator)] == [1, 2]
    with pytest.raises(LookupError, match="here"):
        await anext(iterator)
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


async def test_next_batch_is_requested_after_last_item(make_items: MakeItems) -> None:
    asked = 0

    async def counted() -> AsyncIterator[list[int]]:
        nonlocal asked
        for number in range(3):
            asked += 1
            yield [number, number]

    assert [(item, asked) async for item in make_items(counted())] == [(0, 1), (0, 1), (1, 2), (1, 2), (2, 3), (2, 3)]


async def test_remaining_counts_the_current_batch(make_items: MakeItems) -> None:
    items = make_items(lists([1, 2, 3], [4]))
    assert items.remaining() == 0
    assert [(item, items.remaining()) async for item in items] == [(1, 2), (2, 1), (3, 0), (4, 0)]
    assert items.remaining() == 0


async def test_rest_of_current_batch_can_be_taken(make_items: MakeItems) -> None:
    items = make_items(lists([1, 2, 3], [4]))
    assert items.rest() == []
    async for item in items:
        assert item == 1
        break
    assert items.rest() == [2, 3]
    assert items.rest() == []
    assert [item async for item in items] == [4]


async def test_item_awaitable_works_with_asyncio(make_items: MakeItems) -> None:
    iterator = aiter(make_items(lists([1, 2, 3, 4])))
    waiting: Any = anext(iterator)
    assert isinstance(waiting, collections.abc.Awaitable)
    assert await waiting == 1
    assert await asyncio.wait_for(iterator.__anext__(), 5) == 2
    assert list(await asyncio.gather(iterator.__anext__())) == [3]
    step = iterator.__anext__().__await__()
    with pytest.raises(StopIteration) as caught:
        next(step)
    assert caught.value.value == 4


async def test_concurrent_requests_get_different_items(make_items: MakeItems) -> None:
    iterator = aiter(make_items(lists([1, 2, 3, 4], [5])))
    got = [await anext(iterator)]
    got += await asyncio.gather(*[iterator.__anext__() for _ in range(3)])
    assert got + [item async for item in iterator] == [1, 2, 3, 4, 5]


async def test_late_await_returns_next_item_or_fails(make_items: MakeItems) -> None:
    iterator = aiter(make_items(lists([1, 2, 3])))
    assert await anext(iterator) == 1
    first, second = iterator.__anext__(), iterator.__anext__()
    assert [await second, await first] == [2, 3]
    late = aiter(make_items(lists([1, 2])))
    assert await anext(late) == 1
    held = late.__anext__()
    assert await late.__anext__() == 2
    with pytest.raises((RuntimeError, StopAsyncIteration)):  # the compiled code cannot request another batch here
        await held


async def test_abandoned_items_are_freed(make_items: MakeItems) -> None:
    class Item:
        holder: Any = None

    item = Item()
    items = make_items(lists([item, item]))
    item.holder = items  # a reference cycle
    async for _ in items:
        break
    seen = weakref.ref(item)
    del item, items, _
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    gc.collect()
    assert seen() is None


async def test_stream_uses_selected_class() -> None:
    stream = inbound.Inbound(lists(), FORMATS["ndjson"].decoder, lambda: True)  # type: ignore[arg-type]  # no bytes
    assert [item async for item in stream] == []
    assert type(stream._items) is Items
