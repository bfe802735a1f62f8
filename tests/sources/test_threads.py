"""sources/threads.py: a sync iterable is pulled in its own thread, in batches, never far ahead, always closed."""

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from chunkwise.sources.threads import _Thread, batches_in_thread
from tests.tables import check_rows_async, cross, named

GUARD_SECONDS = 30


def pulled(source: Iterable[Any], count: int | Callable[[], int] = 16) -> AsyncGenerator[list[Any], None]:
    hop_items = count if callable(count) else lambda: count
    return batches_in_thread(source, hop_items)


async def everything(source: Iterable[Any], count: int = 16) -> list[Any]:
    async with asyncio.timeout(GUARD_SECONDS):
        return [item async for batch in pulled(source, count) for item in batch]


async def until_set(event: threading.Event) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        while not event.is_set():
            await asyncio.sleep(0.001)


async def test_items_are_delivered_in_order() -> None:
    async def check(count: int, items: int) -> None:
        assert await everything(iter(range(items)), count) == list(range(items))

    await check_rows_async(cross(named([1, 2, 16, 256]), named([0, 1, 16, 17, 1000])), check)


async def test_source_runs_in_one_thread() -> None:
    threads = set()

    def source() -> Iterator[int]:
        try:
            for number in range(500):
                threads.add(threading.get_ident())
                yield number
        finally:
            threads.add(threading.get_ident())

    assert len(await everything(source(), 10)) == 500
    assert len(threads) == 1
    assert threads.isdisjoint({threading.get_ident()})


async def test_blocked_source_does_not_delay_others() -> None:
    release = threading.Event()

    def blocking() -> Iterator[int]:
        assert release.wait(GUARD_SECONDS)
        yield 1

    blocked = [asyncio.ensure_future(everything(blocking())) for _ in range(40)]  # more threads than a shared pool has
    try:
        assert await everything(iter(range(100))) == list(range(100))
    finally:
        release.set()
    assert await asyncio.gather(*blocked) == [[1]] * 40


async def test_many_items_need_one_call_to_thread() -> None:
    hops = 0

    def hop_items() -> int:
        nonlocal hops
        hops += 1
        return 100

    batches = [batch async for batch in pulled(iter(range(10_000)), hop_items)]
    assert sum(map(len, batches)) == 10_000
    assert hops <= 10_000 / 100 + 1


async def test_ready_items_are_delivered_at_once() -> None:
    release = threading.Event()

    def blocking() -> Iterator[int]:
        yield 1
        assert release.wait(GUARD_SECONDS)
        yield 2

    batches = pulled(blocking())
    async with asyncio.timeout(GUARD_SECONDS):
        assert await anext(batches) == [1]
        release.set()
        assert [batch async for batch in batches] == [[2]]


async def test_source_is_pulled_at_most_one_call_ahead() -> None:
    made = 0
    hop_is_full = threading.Event()

    def endless() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            if made == 10:
                hop_is_full.set()
            yield made

    batches = pulled(endless(), 10)
    await anext(batches)
    await until_set(hop_is_full)
    await batches.aclose()  # closes the source in its thread, after the running call
    assert made == 10


async def test_slow_consumer_gets_all_items() -> None:
    release, ended = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 1
        assert release.wait(GUARD_SECONDS)
        yield from (2, 3)
        ended.set()

    batches = pulled(source(), 100)
    received = await anext(batches)
    release.set()
    await until_set(ended)
    for _ in range(5):
        await asyncio.sleep(0.001)  # the loop is notified that the call is done
    assert received + [item async for batch in batches for item in batch] == [1, 2, 3]


async def test_stopped_consumer_closes_source_in_thread() -> None:
    threads: dict[str, int] = {}

    def source() -> Iterator[int]:
        threads["next"] = threading.get_ident()
        try:
            while True:
                yield 0
        finally:
            threads["close"] = threading.get_ident()

    batches = pulled(source())
    await anext(batches)
    await batches.aclose()
    assert threads["close"] == threads["next"]
    assert threads["close"] != threading.get_ident()


async def test_blocked_source_is_closed_when_it_returns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocking, release, closed = threading.Event(), threading.Event(), threading.Event()
    threads = set()

    def source() -> Iterator[int]:
        threads.add(threading.get_ident())
        try:
            blocking.set()
            assert release.wait(GUARD_SECONDS)
            yield 1
            raise AssertionError("pulled after the cancellation")
        finally:
            threads.add(threading.get_ident())
            closed.set()

    task = asyncio.ensure_future(everything(source(), 100))
    await until_set(blocking)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0.001)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_set(closed)
    assert len(threads) == 1
    assert caplog.records == []


async def test_error_of_source_follows_its_items() -> None:
    def failing() -> Iterator[int]:
        yield from range(40)
        raise LookupError("gone")

    received: list[int] = []

    async def take() -> None:
        async for batch in pulled(failing()):
            received.extend(batch)

    with pytest.raises(LookupError, match="gone"):
        await take()
    assert received == list(range(40))


async def test_error_in_iter_of_source_is_raised() -> None:
    class Never:
        def __iter__(self) -> Iterator[int]:
            raise LookupError("no rows")

    with pytest.raises(LookupError, match="no rows"):
        await everything(Never())


async def test_late_failure_of_source_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocking, release = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        blocking.set()
        assert release.wait(GUARD_SECONDS)
        raise LookupError("too late")
        yield

    task = asyncio.ensure_future(everything(source()))
    await until_set(blocking)
    task.cancel()
    await asyncio.sleep(0)
    with caplog.at_level(logging.WARNING):
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        await asyncio.sleep(0)
    message = "a source raised an error while it was being closed"
    assert [(record.name, record.message) for record in caplog.records] == [("chunkwise", message)]


async def test_error_while_closing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def untidy() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            raise LookupError("while closing")

    batches = pulled(untidy())
    await anext(batches)
    with caplog.at_level(logging.ERROR):
        await batches.aclose()
    message = "a source raised an error while it was being closed"
    assert [(record.name, record.message) for record in caplog.records] == [("chunkwise", message)]


async def test_source_has_context_of_consumer() -> None:
    name: ContextVar[str] = ContextVar("name")
    name.set("request 7")
    assert await everything(name.get() for _ in range(2)) == ["request 7", "request 7"]


async def test_threads_end_with_their_sources() -> None:
    for _ in range(5):
        await everything(iter(range(3)))
    async with asyncio.timeout(GUARD_SECONDS):
        while any(thread.name.startswith("chunkwise-source") for thread in threading.enumerate()):
            await asyncio.sleep(0.001)


async def test_stop_iteration_from_iter_is_an_error() -> None:
    class Odd:
        def __iter__(self) -> Iterator[int]:
            raise StopIteration

    with pytest.raises(RuntimeError, match="__iter__ raised StopIteration"):
        await everything(Odd())


async def test_cancelled_call_is_not_made() -> None:
    go = threading.Event()
    made: list[str] = []
    thread = _Thread()
    try:
        first = thread.call(go.wait)
        waiting = thread.call(made.append, "cancelled")
        last = thread.call(made.append, "last")
        waiting.cancel()
        await asyncio.sleep(0)  # the thread sees the cancellation
        go.set()
        async with asyncio.timeout(GUARD_SECONDS):
            await first
            await last
    finally:
        go.set()
        thread.end()
    assert made == ["last"]
