"""flow/document.py: live parts are written in document order at any depth; awaitables start together."""

import asyncio
import gc
import sys
import threading
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import attrs
import msgspec
import pytest

from chunkwise.errors import EncodeError
from chunkwise.flow.document import discard, live_parts
from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS
from chunkwise.sources.batches import Batches
from tests.flow.producing import GUARD_SECONDS, LIVE_NAMES, Held, document, read_so_far, run, run_to_failure
from tests.tables import check_rows_async, named


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number
        await asyncio.sleep(0)


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


class Report(msgspec.Struct, rename="camel"):
    user_names: Any
    page_count: Any = 7


@dataclass
class Section:
    title: str
    rows: Any


@attrs.define
class Page:
    size: int
    lines: Any


class Iterating:
    def __aiter__(self) -> AsyncIterator[int]:
        return numbers(2)


class Waiting:
    def __await__(self) -> Any:
        yield from later("waited").__await__()
        return "waited"


CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "async iterator": (lambda: {"a": 1, "b": numbers(3), "c": 2}, {"a": 1, "b": [0, 1, 2], "c": 2}),
    "sync iterator": (lambda: {"a": iter("xyz"), "b": range(3)}, {"a": ["x", "y", "z"], "b": [0, 1, 2]}),
    "generator expression": (lambda: {"a": (n * n for n in range(4))}, {"a": [0, 1, 4, 9]}),
    "awaitable": (lambda: {"a": later(1), "b": [later(2), later(3)]}, {"a": 1, "b": [2, 3]}),
    "empty": (lambda: {"a": numbers(0), "b": iter(()), "c": later({})}, {"a": [], "b": [], "c": {}}),
    "own iterable": (lambda: {"a": Iterating(), "b": Waiting()}, {"a": [0, 1], "b": "waited"}),
    "in a list": (lambda: {"a": [1, numbers(2), [numbers(1), 5]]}, {"a": [1, [0, 1], [[0], 5]]}),
    "in a tuple": (lambda: {"a": (later(1), (numbers(2),))}, {"a": [1, [[0, 1]]]}),
    "in a deep dict": (lambda: {"a": {"b": {"c": numbers(2)}}, "d": later(3)}, {"a": {"b": {"c": [0, 1]}}, "d": 3}),
    "in a Struct": (lambda: Report(numbers(2)), {"userNames": [0, 1], "pageCount": 7}),
    "in a dataclass": (lambda: {"s": Section("t", iter([1]))}, {"s": {"title": "t", "rows": [1]}}),
    "in attrs": (lambda: {"p": Page(1, later([2]))}, {"p": {"size": 1, "lines": [2]}}),
    "awaited into an iterator": (lambda: {"a": later(numbers(2)), "b": later(later(1))}, {"a": [0, 1], "b": 1}),
    "awaited into a document": (lambda: later({"a": later(1), "b": numbers(1)}), {"a": 1, "b": [0]}),
    "iterators of iterators": (lambda: {"a": (numbers(n) for n in range(3))}, {"a": [[], [0], [0, 1]]}),
    "iterators of documents": (lambda: {"a": ({"n": later(n)} for n in range(2))}, {"a": [{"n": 0}, {"n": 1}]}),
    "names that need escapes": (lambda: {'q"\n': numbers(1), "é": later("ü")}, {'q"\n': [0], "é": "ü"}),
    "names that are numbers": (lambda: {1: numbers(1), 2.5: 2}, {"1": [0], "2.5": 2}),
}  # fmt: skip


async def test_live_parts_are_written_in_order() -> None:
    async def check(case: str) -> None:
        make, expected = CASES[case]
        assert await document(make()) == expected

    await check_rows_async(named(CASES), check)


@pytest.mark.parametrize("name", LIVE_NAMES)
async def test_items_may_contain_live_parts(name: str) -> None:
    async def items() -> AsyncIterator[Any]:
        yield {"plain": 0}
        yield {"live": numbers(2)}
        yield {"plain": 1}
        yield {"plain": 2}
        yield {"wait": later("x")}

    data = await run(items(), name)
    assert read_so_far(name, data) == [{"plain": 0}, {"live": [0, 1]}, {"plain": 1}, {"plain": 2}, {"wait": "x"}]


async def test_csv_refuses_live_parts() -> None:
    async def items() -> AsyncIterator[Any]:
        yield {"a": 1}
        yield {"a": numbers(2)}

    with pytest.raises(EncodeError, match="cannot contain an iterator") as caught:
        await run(items(), "csv")
    assert caught.value.item_index == 1


@pytest.mark.parametrize("wrap", [lambda live: {"a": live}, lambda live: [{"a": (1, live)}], lambda live: (live,)])
async def test_nested_item_is_written_at_once(wrap: Callable[[Any], Any]) -> None:
    held = Held(ready=1)
    pieces = Outbound([wrap(held.rows())], FORMATS["json"].encoder(document=True)).pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        first = await anext(pieces)
        assert first.endswith(b'[{"n":"0","pad":""}')
        held.go.set()
        rest = [data async for data in pieces]
    assert b"".join([first, *rest]).count(b'{"n":') == 2


async def test_item_of_blocking_iterator_is_written_at_once() -> None:
    release = threading.Event()

    def blocking() -> Iterator[int]:
        yield 1
        assert release.wait(GUARD_SECONDS)
        yield 2

    pieces = Outbound([{"a": {"b": blocking()}}], FORMATS["json"].encoder(document=True)).pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        assert await anext(pieces) == b'{"a":{"b":[1'
        release.set()
        assert b"".join([data async for data in pieces]) == b",2]}}"


async def test_start_of_item_is_written_before_live_part() -> None:
    held = Held(ready=0)

    async def users() -> AsyncIterator[Any]:
        yield {"id": 1, "roles": held.rows()}

    pieces = Outbound([{"users": users()}], FORMATS["json"].encoder(document=True)).pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        assert await anext(pieces) == b'{"users":[{"id":1,"roles":['
        held.go.set()
        assert b"".join([data async for data in pieces]) == b'{"n":"0","pad":""}]}]}'


async def test_item_that_fails_at_once_writes_nothing() -> None:
    async def failing() -> AsyncIterator[Any]:
        raise ValueError("at once")
        yield

    async def users() -> AsyncIterator[Any]:
        yield {"id": 1, "roles": failing()}

    stream = Outbound([{"users": users()}], FORMATS["json"].encoder(document=True))
    data, error = await run_to_failure(stream)
    assert (data, str(error)) == (b"", "at once")


async def test_awaitables_are_started_together() -> None:
    started: list[str] = []
    both = asyncio.Barrier(3)

    async def part(name: str) -> str:
        started.append(name)
        await both.wait()  # continues only when all three are running
        return name

    async with asyncio.timeout(GUARD_SECONDS):
        data = await run({"a": part("a"), "b": {"c": part("c")}, "d": [part("d")]}, document=True)
    assert started == ["a", "c", "d"]
    assert data == b'{"a":"a","b":{"c":"c"},"d":["d"]}'


async def test_ready_part_does_not_wait_for_next() -> None:
    release = asyncio.Event()

    async def slow() -> str:
        await release.wait()
        return "late"

    value = {"first": later("soon"), "between": 1, "second": slow()}
    pieces = Outbound([value], FORMATS["json"].encoder(document=True)).pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        assert await anext(pieces) == b'{"first":"soon","between":1,"second":'
        release.set()
        assert b"".join([data async for data in pieces]) == b'"late"}'


async def test_future_may_be_used_twice() -> None:
    future = asyncio.ensure_future(later("x"))
    coroutine = later("y")
    assert await document({"a": future, "b": future, "c": [coroutine, coroutine]}) == {
        "a": "x",
        "b": "x",
        "c": ["y", "y"],
    }


async def test_failed_part_cancels_the_others() -> None:
    others: list[str] = []

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            others.append("cancelled")
            raise

    async def failing() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await run({"a": failing(), "b": other(), "c": [other(), later(1)], "d": failing()}, document=True)
    gc.collect()  # a coroutine that was never awaited would warn here
    assert others == ["cancelled", "cancelled"]


async def test_closing_stream_cancels_awaitables() -> None:
    others: list[str] = []
    held = Held()

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            others.append("ended")

    pieces = Outbound([{"a": held.rows(), "b": other()}], FORMATS["json"].encoder(document=True)).pieces()
    await anext(pieces)
    await pieces.aclose()
    gc.collect()
    assert others == ["ended"]
    assert (held.ended, held.cleaned) == ("CancelledError", True)


async def test_live_items_after_failure_are_closed() -> None:
    async def items() -> AsyncIterator[Any]:
        yield {"bad": object()}
        yield {"live": later(1)}
        yield later(2)

    with pytest.raises(EncodeError):
        await run(items())
    gc.collect()


async def test_unencodable_part_error_has_item_index() -> None:
    async def items() -> AsyncIterator[Any]:
        yield {"fine": numbers(1)}
        yield {"live": numbers(1), "bad": object()}

    with pytest.raises(EncodeError, match="object") as caught:
        await run(items(), "ndjson")
    assert caught.value.item_index == 1


def nested(depth: int, inside: Any) -> Any:
    for _ in range(depth):
        inside = {"a": inside}
    return inside


@pytest.mark.skipif(sys.gettrace() is not None, reason="what traces (coverage) takes of the same stack")
async def test_live_part_may_be_at_depth_200() -> None:
    data = await run(nested(199, numbers(2)), document=True)
    assert data == b'{"a":' * 199 + b"[0,1]" + b"}" * 199


@pytest.mark.parametrize("inside", [lambda: numbers(1), lambda: later(1)], ids=["iterator", "awaitable"])
@pytest.mark.parametrize("depth", [200, 600, 20_000])
async def test_document_over_depth_limit_is_refused(depth: int, inside: Callable[[], Any]) -> None:
    with pytest.raises(EncodeError, match=r"nested|at depth 201 of a document"):
        await run(nested(depth, inside()), document=True)
    gc.collect()


async def test_document_containing_itself_is_refused() -> None:
    loop: dict[str, Any] = {"live": numbers(1)}
    loop["self"] = loop
    with pytest.raises(EncodeError):
        await run(loop, document=True)


async def test_nested_awaitables_have_a_depth_limit() -> None:
    async def forever() -> Any:
        return forever()

    with pytest.raises(EncodeError, match=r"nested|at depth 201 of a document"):
        await run({"a": forever()}, document=True)
    gc.collect()


async def test_large_document_uses_little_memory() -> None:
    async def users() -> AsyncIterator[dict[str, Any]]:
        for index in range(100_000):
            yield {
                "id": index,
                "name": f"user {index}",
                "mail": f"user.{index}@example.org",
                "tags": ["a", "b", "c"] * 4,
            }

    async def settings() -> AsyncIterator[str]:
        yield "dark"

    value = {"users": users(), "settings": {"themes": settings()}, "total": later(100_000)}
    pieces = Outbound([value], FORMATS["json"].encoder(document=True)).pieces()
    size, start, end = 0, b"", b""
    tracemalloc.start()
    try:
        async for data in pieces:
            size += len(data)
            start = start or data[:10]
            end = (end + data)[-60:]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 10_000_000
    assert peak < 8 * 2**20
    assert start == b'{"users":['
    assert end.endswith(b'],"settings":{"themes":["dark"]},"total":100000}')


async def test_large_members_are_written_separately() -> None:
    value = {**{f"name {index}": "x" * 10_000 for index in range(300)}, "live": later(1)}
    stream = Outbound([value], FORMATS["json"].encoder(document=True))
    sizes = [len(data) async for data in stream.pieces()]
    assert sum(sizes) > 3_000_000
    assert max(sizes) < 100_000


async def test_unused_document_closes_without_warning() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    numbered = (number for number in range(3))
    value = {"a": later(1), "b": [numbers(2), {"c": later(2)}], "d": task, "e": numbered, "f": "text"}
    assert len(live_parts(value)) == 5
    await discard(value)
    await asyncio.wait({task})
    gc.collect()
    assert task.cancelled()
    assert list(numbered) == []


async def test_parts_without_close_are_skipped() -> None:
    ended: list[str] = []

    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append("rows")

    opened = rows()
    await anext(opened)
    waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    await discard({"plain": iter([1]), "type": One, "rows": opened, "later": waiting})
    assert ended == ["rows"]
    assert waiting.cancelled()


async def test_iterator_used_twice_is_refused() -> None:
    numbers = iter([1, 2])
    with pytest.raises(EncodeError, match="used twice"):
        await run({"a": numbers, "b": numbers}, document=True)


@pytest.mark.parametrize("make", [lambda: iter([1, 2]), lambda: (n for n in [1, 2]), lambda: Batches(iter([[1]]))])
async def test_iterator_from_awaitable_is_written_once(make: Any) -> None:
    async def given(value: Any) -> Any:
        return value

    numbers, later = make(), asyncio.ensure_future(given(make()))
    for value in ({"a": numbers, "b": given(numbers)}, {"a": later, "b": later}):
        with pytest.raises(EncodeError, match="exhausted or used twice"):
            await run(value, document=True)


async def test_exhausted_generator_is_refused() -> None:
    async def rows() -> AsyncGenerator[int, None]:
        yield 1

    spent, closed = (n for n in [1, 2]), rows()
    assert [*spent] == [1, 2]
    await anext(closed)
    await closed.aclose()
    for generator in (spent, closed):
        with pytest.raises(EncodeError, match="is exhausted"):
            await run({"a": generator}, document=True)
    again = rows()
    with pytest.raises(EncodeError, match="is exhausted") as caught:
        await run([{"a": again}, {"a": again}])
    assert caught.value.item_index == 1


async def test_tagged_struct_keeps_its_tag() -> None:
    class Report(msgspec.Struct, tag=True):
        rows: Any

    assert await run(Report(iter([1])), document=True) == b'{"type":"Report","rows":[1]}'


async def test_array_struct_with_live_parts_is_refused() -> None:
    class Pair(msgspec.Struct, array_like=True):
        rows: Any

    with pytest.raises(EncodeError, match="array"):
        await run(Pair(iter([1])), document=True)


async def test_only_iterators_and_awaitables_are_closed() -> None:
    closed = []

    class Channel:
        def __aiter__(self) -> AsyncIterator[int]:
            raise NotImplementedError

        async def aclose(self) -> None:
            closed.append("channel")

    def rows() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("rows")

    begun = rows()
    next(begun)
    await discard({"channel": Channel(), "rows": begun})
    assert closed == ["rows"]


@dataclass
class One:
    """Its class is not a struct and has no members."""

    n: int = 0
