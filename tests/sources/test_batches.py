"""sources/batches.py: lists of items as a source, wherever a source is accepted."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import chunkwise
from chunkwise import Batches, EncodeError
from chunkwise.flow.outbound import Outbound, open_outbound
from chunkwise.formats import FORMATS
from tests.flow.producing import GUARD_SECONDS, NAMES, document, read_all, read_so_far, row, run, run_to_failure, until
from tests.tables import check_rows_async, cross, named

LISTS: list[list[dict[str, str]]] = [[row(0)], [], [row(1), row(2)], [row(index) for index in range(3, 2000)], []]
ROWS = [item for batch in LISTS for item in batch]

every_kind = pytest.mark.parametrize("kind", ["async", "in a thread"])


def repr_of(bad: Any) -> str:
    return type(bad).__name__


class Probe:
    """Lists of items that record which thread made them, and whether the source was closed."""

    def __init__(self, lists: list[Any], failure: Exception | None = None) -> None:
        self.lists = lists
        self.made = 0
        self.closed = False
        self.thread: int | None = None
        self._failure = failure

    def of(self, kind: str) -> Batches:
        return Batches(self._later() if kind == "async" else self._now())

    def _now(self) -> Iterator[list[Any]]:
        self.thread = threading.get_ident()
        try:
            for batch in self.lists:
                self.made += 1
                yield batch
            if self._failure is not None:
                raise self._failure
        finally:
            self.closed = True

    async def _later(self) -> AsyncIterator[list[Any]]:
        for batch in self._now():
            yield batch


async def test_batches_and_items_give_the_same_bytes() -> None:
    async def check(name: str, kind: str) -> None:
        probe = Probe(LISTS)
        data = await run(probe.of(kind), name)
        assert read_all(name, data) == ROWS
        assert data == await run(ROWS, name)
        assert probe.closed
        assert (probe.thread == threading.get_ident()) == (kind == "async")

    await check_rows_async(cross(named(NAMES), named(["async", "in a thread"])), check)


@every_kind
async def test_long_list_is_encoded_in_parts(kind: str) -> None:
    rows = [row(index, 1000) for index in range(1000)]
    pieces = [data async for data in Outbound(Probe([rows]).of(kind), FORMATS["ndjson"].encoder()).pieces()]
    assert max(map(len, pieces)) < 64 * 1024
    assert read_all("ndjson", b"".join(pieces)) == rows


async def test_list_is_sent_before_next_is_ready() -> None:
    go = asyncio.Event()

    async def lists() -> AsyncIterator[list[dict[str, str]]]:
        yield [row(0), row(1)]
        await go.wait()
        yield [row(2)]

    pieces = Outbound(Batches(lists()), FORMATS["ndjson"].encoder()).pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        assert read_so_far("ndjson", await anext(pieces)) == [row(0), row(1)]
        go.set()
        assert read_so_far("ndjson", b"".join([data async for data in pieces])) == [row(2)]


@pytest.mark.parametrize(("length", "most"), [(1, 520), (1000, 4)])
async def test_lists_are_not_pulled_far_ahead(length: int, most: int) -> None:
    probe = Probe([[row(0)] * length] * 3000)
    pieces = Outbound(probe.of("in a thread"), FORMATS["ndjson"].encoder()).pieces()
    await anext(pieces)
    made = -1
    while made != probe.made:  # it is waiting
        made = probe.made
        await asyncio.sleep(0.05)
    assert made <= most
    await pieces.aclose()
    assert probe.closed


async def test_element_that_is_no_list_is_refused_after_items() -> None:
    async def check(kind: str, bad: Any) -> None:
        probe = Probe([[row(0), row(1)], [row(2)], bad, [row(3)]])
        data, error = await run_to_failure(Outbound(probe.of(kind), FORMATS["ndjson"].encoder()))
        assert isinstance(error, EncodeError)
        assert f"got {type(bad).__name__} at index 2" in str(error)
        assert read_so_far("ndjson", data) == [row(0), row(1), row(2)]
        assert probe.closed

    await check_rows_async(
        cross(
            named(["async", "in a thread"]),
            {
                "dict": row(0),
                "tuple": ({"n": "0"},),
                "str": "ab",
                "NoneType": None,
                "int": 5,
            },
        ),
        check,
    )


@every_kind
async def test_failure_follows_earlier_batches(kind: str) -> None:
    probe = Probe([[row(0)], [row(1)]], LookupError("gone"))
    data, error = await run_to_failure(Outbound(probe.of(kind), FORMATS["json"].encoder()))
    assert repr(error) == "LookupError('gone')"
    assert read_so_far("json", data) == [row(0), row(1)]


@every_kind
async def test_abandoned_batches_are_closed(kind: str) -> None:
    probe = Probe(LISTS)
    pieces = Outbound(probe.of(kind), FORMATS["json"].encoder()).pieces()
    await anext(pieces)
    await pieces.aclose()
    await until(lambda: probe.closed)


class OneList:
    """An async iterator of one list that cannot be closed."""

    def __init__(self) -> None:
        self._lists = [[row(0), row(1)]]

    def __aiter__(self) -> AsyncIterator[list[Any]]:
        return self

    async def __anext__(self) -> list[Any]:
        if not self._lists:
            raise StopAsyncIteration
        return self._lists.pop()


async def test_iterator_of_lists_needs_no_close() -> None:
    assert [batch async for batch in Batches(OneList())] == [[row(0), row(1)]]


@every_kind
async def test_batches_may_be_part_of_a_document(kind: str) -> None:
    probe = Probe(LISTS)
    value = {"rows": probe.of(kind), "inside": [{"more": Batches([[1], [2, 3]])}], "last": 1}
    assert await document(value) == {"rows": ROWS, "inside": [{"more": [1, 2, 3]}], "last": 1}
    assert probe.closed


async def test_batches_used_twice_are_refused() -> None:
    lists = iter([[1], [2]])
    with pytest.raises(EncodeError, match="used twice"):
        await document({"a": Batches(lists), "b": Batches(lists)})


@every_kind
def test_unsent_document_closes_its_batches(kind: str) -> None:
    probe = Probe([[1]])
    batches = probe.of(kind)
    lists: Any = batches.lists

    async def left() -> None:
        if kind == "async":
            await anext(lists)
        else:
            next(lists)
        await chunkwise.body({"rows": batches}, "json").wait_closed()

    asyncio.run(left())
    assert probe.closed


@pytest.mark.parametrize("bad", [5, None, "ab", b"ab", {"a": [1]}, Probe([]).of], ids=repr_of)
def test_batches_argument_must_be_iterable(bad: Any) -> None:
    with pytest.raises(TypeError, match="iterable of lists, got"):
        Batches(bad)


@every_kind
async def test_exhausted_batches_are_refused(kind: str) -> None:
    batches = Probe(LISTS).of(kind)
    await run(batches)
    with pytest.raises(ValueError, match="generator that has ended"):
        open_outbound(batches, FORMATS["json"])
