"""flow/items_pure.py and flow/items_compiled.pyx: items one by one, as an async generator would give them."""

import asyncio
import collections.abc
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chunkwise.flow import inbound, items_pure
from chunkwise.formats import FORMATS
from chunkwise.formats.speedups import twins


@pytest.fixture(params=["compiled", "pure"])
def twin(request: pytest.FixtureRequest) -> type[items_pure.Items]:
    if request.param == "pure":
        return items_pure.Items
    compiled = pytest.importorskip("chunkwise.flow.items_compiled", reason="built without a compiler")
    made: type[items_pure.Items] = compiled.Items
    return made


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


async def test_items_of_any_kind_come_as_they_are(twin: type[items_pure.Items]) -> None:
    got = [item async for item in twin(lists(ODD, [1], ODD))]
    assert all(item is sent for item, sent in zip(got, [*ODD, 1, *ODD], strict=True))


async def test_lists_without_items_are_none(twin: type[items_pure.Items]) -> None:
    assert [item async for item in twin(lists([], [1], [], [], [2], []))] == [1, 2]
    assert [item async for item in twin(lists())] == []


async def test_the_end_stays_the_end(twin: type[items_pure.Items]) -> None:
    iterator = aiter(twin(lists([1])))
    assert await anext(iterator) == 1
    for _ in range(3):
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
    assert await anext(iterator, "none") == "none"


async def test_an_error_comes_behind_the_items(twin: type[items_pure.Items]) -> None:
    iterator = aiter(twin(lists([1, 2], LookupError("here"), [3])))
    assert [await anext(iterator), await anext(iterator)] == [1, 2]
    with pytest.raises(LookupError, match="here"):
        await anext(iterator)
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


async def test_a_list_is_asked_for_when_the_one_before_it_was_given(twin: type[items_pure.Items]) -> None:
    asked = 0

    async def counted() -> AsyncIterator[list[int]]:
        nonlocal asked
        for number in range(3):
            asked += 1
            yield [number, number]

    assert [(item, asked) async for item in twin(counted())] == [(0, 1), (0, 1), (1, 2), (1, 2), (2, 3), (2, 3)]


async def test_the_rest_of_a_list_can_be_taken(twin: type[items_pure.Items]) -> None:
    items = twin(lists([1, 2, 3], [4]))
    assert items.rest() == []
    async for item in items:
        assert item == 1
        break
    assert items.rest() == [2, 3]
    assert items.rest() == []
    assert [item async for item in items] == [4]


async def test_what_gives_an_item_can_be_waited_for_in_any_way(twin: type[items_pure.Items]) -> None:
    iterator = aiter(twin(lists([1, 2, 3, 4])))
    waiting: Any = anext(iterator)
    assert isinstance(waiting, collections.abc.Awaitable)
    assert await waiting == 1
    assert await asyncio.wait_for(iterator.__anext__(), 5) == 2
    assert list(await asyncio.gather(iterator.__anext__())) == [3]
    step = iterator.__anext__().__await__()
    with pytest.raises(StopIteration) as caught:
        next(step)
    assert caught.value.value == 4


async def test_items_asked_for_at_once_are_not_one_and_the_same(twin: type[items_pure.Items]) -> None:
    iterator = aiter(twin(lists([1, 2, 3, 4], [5])))
    got = [await anext(iterator)]
    got += await asyncio.gather(*[iterator.__anext__() for _ in range(3)])
    assert got + [item async for item in iterator] == [1, 2, 3, 4, 5]


async def test_an_item_that_is_awaited_late_is_not_made_up(twin: type[items_pure.Items]) -> None:
    iterator = aiter(twin(lists([1, 2, 3])))
    assert await anext(iterator) == 1
    first, second = iterator.__anext__(), iterator.__anext__()
    assert [await second, await first] == [2, 3]
    late = aiter(twin(lists([1, 2])))
    assert await anext(late) == 1
    held = late.__anext__()
    assert await late.__anext__() == 2
    with pytest.raises((RuntimeError, StopAsyncIteration)):  # the compiled one cannot wait for another list there
        await held


async def test_items_that_were_left_are_let_go(twin: type[items_pure.Items]) -> None:
    class Item:
        holder: Any = None

    item = Item()
    items = twin(lists([item, item]))
    item.holder = items  # a circle
    async for _ in items:
        break
    seen = weakref.ref(item)
    del item, items, _
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    gc.collect()
    assert seen() is None


async def test_the_stream_has_the_compiled_one_where_it_is_there() -> None:
    stream = inbound.Inbound(lists(), FORMATS["ndjson"].decoder, lambda: True)  # type: ignore[arg-type]  # no bytes
    assert [item async for item in stream] == []
    assert type(stream._items).__module__ == f"chunkwise.flow.items_{twins.KIND}"


@pytest.mark.parametrize(("pure", "kind"), [("", twins.KIND), ("1", "pure")])
def test_one_variable_chooses_the_twins_of_the_flow_too(pure: str, kind: str) -> None:
    code = "from chunkwise.flow import twins as t; print(t.Items.__module__, t.gather_items.__module__)"
    environment = {**os.environ, "CHUNKWISE_PURE": pure or os.environ.get("CHUNKWISE_PURE", "")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout.decode().split() == [f"chunkwise.flow.items_{kind}", f"chunkwise.flow.gathering_{kind}"]
