"""flow/outbound.py: early ends. A cancelled or closed source runs its `finally` blocks as usual."""

import asyncio
import contextlib
import logging
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest

from chunkwise.errors import EncodeError
from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS
from tests.flow.producing import GUARD_SECONDS, Held, read_all, row, run, until


def outbound(source: AsyncIterator[object]) -> Outbound:
    return Outbound(source, FORMATS["json"].encoder())


async def read(stream: Outbound) -> bytes:
    pieces = stream.pieces()
    try:
        return b"".join([data async for data in pieces])
    finally:
        await pieces.aclose()


async def test_cancelling_reader_cancels_waiting_source() -> None:
    held = Held()
    reading = asyncio.create_task(read(outbound(held.rows())))
    await held.waiting.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (held.ended, held.cleaned) == ("CancelledError", True)


async def test_closing_pieces_cancels_waiting_source() -> None:
    held = Held()
    pieces = outbound(held.rows()).pieces()
    await anext(pieces)
    await pieces.aclose()
    assert (held.ended, held.cleaned) == ("CancelledError", True)


async def test_closing_pieces_closes_fast_source() -> None:
    ended: list[str] = []

    async def hot() -> AsyncIterator[dict[str, str]]:
        try:
            while True:
                yield row(0, 1000)
        except GeneratorExit:
            ended.append("closed")
            raise
        finally:
            await asyncio.sleep(0.001)
            ended.append("cleaned")

    pieces = outbound(hot()).pieces()
    await anext(pieces)
    await pieces.aclose()
    assert ended == ["closed", "cleaned"]


async def test_cancelling_reader_closes_fast_source() -> None:
    ended: list[str] = []

    async def hot() -> AsyncIterator[dict[str, str]]:
        try:
            while True:
                yield row(0, 1000)
        finally:
            await asyncio.sleep(0.001)
            ended.append("cleaned")

    started = asyncio.Event()

    async def reader() -> None:
        async for _ in outbound(hot()).pieces():
            started.set()

    reading = asyncio.create_task(reader())
    await started.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert ended == ["cleaned"]


async def test_second_cancellation_reaches_cleanup() -> None:
    cleaning = asyncio.Event()
    seen: list[str] = []

    async def slow_to_end() -> AsyncIterator[dict[str, str]]:
        try:
            yield row(0)
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled again")
                await asyncio.sleep(0)
                seen.append("cleaned")
                raise

    async def closes() -> None:
        pieces = outbound(slow_to_end()).pieces()
        await anext(pieces)
        await pieces.aclose()
        seen.append("went on")

    closing = asyncio.create_task(closes())
    await cleaning.wait()
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert seen == ["cancelled again", "cleaned"]


async def test_unread_pieces_do_not_start_source() -> None:
    held = Held()
    rows = held.rows()
    await outbound(rows).pieces().aclose()
    assert held.ended is None


async def test_source_handles_its_own_timeout() -> None:
    async def patient() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            yield row(1)
        await asyncio.sleep(0)
        yield row(2)

    assert read_all("json", await run(patient())) == [row(0), row(1), row(2)]


async def test_source_handles_timeout_with_ready_result() -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    timeouts: list[asyncio.Timeout] = []
    waiting = asyncio.Event()

    async def patient() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        try:
            async with asyncio.timeout(None) as timeout:
                timeouts.append(timeout)
                waiting.set()
                await future
        except TimeoutError:
            pass
        yield row(1)

    reading = asyncio.create_task(read(outbound(patient())))
    await waiting.wait()
    await asyncio.sleep(0)
    future.set_result(None)
    timeouts[0].reschedule(loop.time())
    async with asyncio.timeout(GUARD_SECONDS):
        assert read_all("json", await reading) == [row(0), row(1)]


async def test_task_group_in_source_fails_as_usual() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("gone")

    async def grouping() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.Event().wait()
        except* LookupError:
            pass
        yield row(1)

    assert read_all("json", await run(grouping())) == [row(0), row(1)]


async def test_timeout_around_reader_ends_source() -> None:
    held = Held()

    async def impatient() -> None:
        async with asyncio.timeout(None) as timeout:
            async for _ in outbound(held.rows()).pieces():
                timeout.reschedule(asyncio.get_running_loop().time())

    with pytest.raises(TimeoutError):
        await impatient()
    await until(lambda: held.cleaned)
    assert held.ended == "CancelledError"


async def test_cancelled_future_affects_only_source() -> None:
    future = asyncio.get_running_loop().create_future()
    waiting = asyncio.Event()

    async def asking() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        waiting.set()
        try:
            await future
        except asyncio.CancelledError:
            yield row(1)

    reading = asyncio.create_task(read(outbound(asking())))
    await waiting.wait()
    future.cancel()
    assert read_all("json", await reading) == [row(0), row(1)]


async def test_source_may_catch_one_cancellation() -> None:
    waiting = asyncio.Event()

    async def stubborn() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        yield row(1)
        await asyncio.sleep(0)
        yield row(2)

    reading = asyncio.create_task(read(outbound(stubborn())))
    await waiting.wait()
    await asyncio.sleep(0)
    reading.cancel()
    assert read_all("json", await reading) == [row(0), row(1), row(2)]


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "hot"])
async def test_source_catching_all_cancellations_ends(waits: bool) -> None:
    made = 0
    closed = False

    async def stubborn() -> AsyncIterator[dict[str, str]]:
        nonlocal made, closed
        try:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600 if waits and made == 1 else 0)
                made += 1
                yield row(made)
        finally:
            closed = True

    pieces = outbound(stubborn()).pieces()
    await anext(pieces)
    async with asyncio.timeout(GUARD_SECONDS):
        await pieces.aclose()
    assert closed
    assert made < 1000


async def test_error_while_closing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def untidy() -> AsyncIterator[dict[str, str]]:
        try:
            yield row(0)
            await asyncio.Event().wait()
        finally:
            raise LookupError("while closing")

    pieces = outbound(untidy()).pieces()
    await anext(pieces)
    with caplog.at_level(logging.ERROR, "chunkwise"):
        await pieces.aclose()
    assert [record.message for record in caplog.records] == ["a source raised an error while it was being closed"]


async def test_source_keeps_one_context() -> None:
    name: ContextVar[str] = ContextVar("name", default="none")
    seen: list[str] = []

    async def naming() -> AsyncIterator[dict[str, str]]:
        name.set("mine")
        yield row(0)
        await asyncio.sleep(0)
        seen.append(name.get())
        yield row(1)
        await asyncio.Event().wait()

    pieces = outbound(naming()).pieces()
    await anext(pieces)
    await anext(pieces)
    await pieces.aclose()
    assert seen == ["mine"]


async def test_awaited_task_is_cancelled_and_awaited() -> None:
    seen: list[str] = []

    async def works() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            seen.append("the task has ended")

    async def waits() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        try:
            await asyncio.create_task(works())
        except asyncio.CancelledError:
            seen.append("the source was cancelled")
            raise

    pieces = outbound(waits()).pieces()
    await anext(pieces)
    await asyncio.sleep(0)  # let the task begin
    await pieces.aclose()
    assert seen == ["the task has ended", "the source was cancelled"]


async def test_second_cancellation_reaches_awaited_task() -> None:
    cleaning = asyncio.Event()
    seen: list[str] = []

    async def works() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled again")
                raise

    async def waits() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        try:
            await asyncio.create_task(works())
        finally:
            seen.append("the source has ended")

    reading = asyncio.create_task(read(outbound(waits())))
    for _ in range(9):
        await asyncio.sleep(0)
    for _ in range(2):
        reading.cancel()
        await cleaning.wait()
        await asyncio.sleep(0)
    async with asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert seen == ["cancelled again", "the source has ended"]


@pytest.mark.parametrize("live", [False, True])
async def test_encode_error_hides_wrong_item_count(live: bool) -> None:
    async def parts() -> AsyncIterator[object]:
        yield object()

    items = [1, {"a": parts()} if live else object()]
    pieces = Outbound(items, FORMATS["ndjson"].encoder(), count=3).pieces()
    with pytest.raises(EncodeError, match="JSON cannot represent a value of type object"):
        b"".join([data async for data in pieces])


async def test_encode_error_hides_later_source_error() -> None:
    async def rows() -> AsyncIterator[object]:
        yield 1
        yield object()  # collected while the first item is being written
        raise LookupError

    with pytest.raises(EncodeError, match="JSON cannot represent a value of type object"):
        await read(outbound(rows()))


async def test_cancellation_keeps_its_message() -> None:
    seen: list[object] = []
    waits = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:  # anyio identifies its own cancellations by their message
            seen.append(error.args)
            raise

    task = asyncio.create_task(read(outbound(source())))
    await waits.wait()
    await asyncio.sleep(0)
    task.cancel("mine")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [("mine",)]


def test_blocked_source_does_not_block_exit() -> None:
    script = """
        import asyncio, queue
        from chunkwise.flow.outbound import Outbound
        from chunkwise.formats import FORMATS

        def source():
            yield 1
            queue.Queue().get()

        async def main():
            pieces = Outbound(source(), FORMATS["ndjson"].encoder()).pieces()
            print(await anext(pieces))
            await pieces.aclose()

        asyncio.run(main())
        print("ended")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("b'1\\n'\nended\n", "")
