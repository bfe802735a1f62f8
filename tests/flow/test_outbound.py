"""flow/outbound.py: when it writes. Ready items are written at once, and fast sources in large pieces."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from chunkwise.errors import EncodeError
from chunkwise.flow import gathering
from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS, Encoder, Format
from tests.flow.producing import GUARD_SECONDS, NAMES, Held, read_all, read_so_far, row, run, run_to_failure

every_format = pytest.mark.parametrize("name", NAMES)


def counting(name: str) -> tuple[Format, list[int]]:
    """A custom format that wraps another format and records the sizes of the batches."""
    batches: list[int] = []

    class Counting:
        def __init__(self, inner: Encoder) -> None:
            self._inner = inner
            self.start, self.finish = inner.start, inner.finish
            self.open_item, self.close_item, self.fail = inner.open_item, inner.close_item, inner.fail

        def encode(self, batch: Sequence[Any]) -> bytes:
            batches.append(len(batch))
            return self._inner.encode(batch)

    def make(**options: Any) -> Encoder:
        return Counting(FORMATS[name].encoder(**options))

    return replace(FORMATS[name], encoder=make), batches


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock, because a busy machine would split a fast stream into more pieces."""
    monkeypatch.setattr(gathering, "OLDEST_SECONDS", 3600.0)


async def hot(count: int, size: int = 100) -> AsyncIterator[dict[str, str]]:
    for index in range(count):
        yield row(index, size)


@every_format
@pytest.mark.usefixtures("stopped_clock")
async def test_ready_items_are_written_before_a_wait(name: str) -> None:
    held = Held(ready=3)
    pieces = Outbound(held.rows(), FORMATS[name].encoder()).pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        first = await anext(pieces)
        assert read_so_far(name, first) == [row(0), row(1), row(2)]
        assert not held.go.is_set()
        held.go.set()
        rest = [data async for data in pieces]
    assert read_all(name, b"".join([first, *rest])) == [row(0), row(1), row(2), row(3)]


@every_format
async def test_empty_source_is_a_complete_stream(name: str) -> None:
    assert read_all(name, await run(hot(0), name)) == []
    assert read_all(name, await run(iter(()), name)) == []


@every_format
@pytest.mark.usefixtures("stopped_clock")
async def test_fast_source_is_written_in_large_pieces(name: str) -> None:
    stream = Outbound(hot(20_000), FORMATS[name].encoder())
    pieces = [data async for data in stream.pieces()]
    size = sum(map(len, pieces))
    assert size > 2_000_000
    assert len(pieces) <= size / (48 * 1024) + 8
    assert max(map(len, pieces)) < 160 * 1024
    assert len(read_all(name, b"".join(pieces))) == stream.items_sent == 20_000


@every_format
@pytest.mark.usefixtures("stopped_clock")
async def test_many_items_need_one_encode_call(name: str) -> None:
    counted, batches = counting(name)
    stream = Outbound(hot(20_000, size=10), counted.encoder())
    async for _ in stream.pieces():
        pass
    assert sum(batches) == 20_000
    assert len(batches) <= 20_000 / 200 + 40


async def test_large_items_are_written_one_by_one() -> None:
    made = 0

    async def large() -> AsyncIterator[dict[str, str]]:
        nonlocal made
        for index in range(200):
            made += 1
            yield row(index, 100_000)

    stream = Outbound(large(), FORMATS["ndjson"].encoder())
    ahead = [made - stream.items_sent async for _ in stream.pieces()]
    assert made == 200
    assert len(ahead) >= 180
    assert max(ahead) <= 1


async def test_computing_source_is_written_before_end() -> None:
    made = 0

    async def computing() -> AsyncIterator[dict[str, str]]:
        nonlocal made
        for index in range(8):
            time.sleep(0.06)  # longer than the time that ready items may wait
            made += 1
            yield row(index)

    pieces = Outbound(computing(), FORMATS["json"].encoder()).pieces()
    first = await anext(pieces)
    assert read_so_far("json", first) == [row(0)]
    assert made == 1
    await pieces.aclose()


async def test_fast_source_lets_other_tasks_run() -> None:
    turns, done = 0, False

    async def tick() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    pieces = [data async for data in Outbound(hot(20_000), FORMATS["json"].encoder()).pieces()]
    done = True
    await ticking
    assert len(pieces) > 20
    assert turns >= len(pieces) - 1


async def test_sleep_zero_in_source_causes_a_write() -> None:
    async def polite() -> AsyncIterator[dict[str, str]]:
        for index in range(5):
            yield row(index)
            await asyncio.sleep(0)

    pieces = [data async for data in Outbound(polite(), FORMATS["ndjson"].encoder()).pieces()]
    assert [read_so_far("ndjson", data) for data in pieces if data] == [[row(index)] for index in range(5)]


async def test_header_is_not_written_without_an_item() -> None:
    held = Held(ready=0)
    pieces = Outbound(held.rows(), FORMATS["json"].encoder()).pieces()
    first = asyncio.ensure_future(anext(pieces))
    await held.waiting.wait()
    assert not first.done()
    held.go.set()
    assert await first == b'[{"n":"0","pad":""}'
    await pieces.aclose()


async def test_silent_source_yields_empty_pieces() -> None:
    held = Held(ready=1)
    stream = Outbound(held.rows(), FORMATS["json"].encoder(), quiet_seconds=0.001)
    pieces = stream.pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        assert read_so_far("json", await anext(pieces)) == [row(0)]
        assert [await anext(pieces) for _ in range(3)] == [b""] * 3
        stream.quiet_seconds = None
        held.go.set()
        assert b"".join([data async for data in pieces]) == b',{"n":"1","pad":""}]'


@pytest.mark.parametrize("wakes_up_after", [0, 0.0001])
async def test_busy_source_without_items_counts_as_silent(wakes_up_after: float) -> None:
    noticed = asyncio.Event()

    async def polling() -> AsyncIterator[dict[str, str]]:
        while not noticed.is_set():
            await asyncio.sleep(wakes_up_after)
        yield row(0)

    stream = Outbound(polling(), FORMATS["json"].encoder(), quiet_seconds=0.05)
    pieces = stream.pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        assert await anext(pieces) == b""
        noticed.set()
        assert read_all("json", b"".join([data async for data in pieces])) == [row(0)]


async def test_wake_before_wait_is_not_lost() -> None:
    held = Held(ready=1)
    stream = Outbound(held.rows(), FORMATS["json"].encoder())
    pieces = stream.pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        first = await anext(pieces)
        stream.wake()
        assert await anext(pieces) == b""
        held.go.set()
        assert read_all("json", first + b"".join([data async for data in pieces])) == [row(0), row(1)]


@every_format
async def test_failure_is_raised_after_earlier_items(name: str) -> None:
    async def failing() -> AsyncIterator[dict[str, str]]:
        for index in range(3):
            yield row(index)
        raise LookupError("gone")

    data, error = await run_to_failure(Outbound(failing(), FORMATS[name].encoder()))
    assert repr(error) == "LookupError('gone')"
    assert read_so_far(name, data) == [row(0), row(1), row(2)]


async def test_cancellation_follows_earlier_items() -> None:
    async def failing() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        raise asyncio.CancelledError

    data, error = await run_to_failure(Outbound(failing(), FORMATS["json"].encoder()))
    assert type(error) is asyncio.CancelledError
    assert read_so_far("json", data) == [row(0)]


@every_format
async def test_encode_error_is_raised_after_earlier_items(name: str) -> None:
    ended = False

    async def mixed() -> AsyncIterator[Any]:
        nonlocal ended
        try:
            for index in range(1000):
                yield {"n": str(index), "pad": object() if index == 700 else ""}
        finally:
            await asyncio.sleep(0)
            ended = True

    stream = Outbound(mixed(), FORMATS[name].encoder())
    data, error = await run_to_failure(stream)
    assert isinstance(error, EncodeError)
    assert error.item_index == stream.items_sent == 700
    assert read_so_far(name, data) == [row(index) for index in range(700)]
    assert ended


@every_format
async def test_failure_of_sync_source_follows_its_items(name: str) -> None:
    def failing() -> Iterator[dict[str, str]]:
        for index in range(700):
            yield row(index)
        raise LookupError("gone")

    data, error = await run_to_failure(Outbound(failing(), FORMATS[name].encoder()))
    assert repr(error) == "LookupError('gone')"
    assert read_so_far(name, data) == [row(index) for index in range(700)]


@pytest.mark.parametrize("count", [1, 3])
async def test_wrong_item_count_fails_after_last_item(count: int) -> None:
    stream = Outbound([row(0), row(1)], FORMATS["ndjson"].encoder(stream_end=True), count=count)
    data, error = await run_to_failure(stream)
    assert repr(error) == f"RuntimeError('the source ended after 2 items, expected {count}')"
    assert read_so_far("ndjson", data) == [row(0), row(1)]
    assert not stream.complete


async def test_expected_item_count_ends_the_stream() -> None:
    stream = Outbound([row(0), row(1)], FORMATS["ndjson"].encoder(stream_end=True), count=2)
    assert b"".join([data async for data in stream.pieces()]).endswith(b"\n")
    assert stream.complete


async def test_nested_iterators_have_a_depth_limit() -> None:
    async def inside(depth: int) -> AsyncIterator[Any]:
        yield inside(depth - 1) if depth else 0

    data = await run({"a": inside(50)}, document=True)
    assert data == b'{"a":' + b"[" * 51 + b"0" + b"]" * 51 + b"}"
    with pytest.raises(EncodeError, match="64"):
        await run({"a": inside(100_000)}, document=True)
