"""What attacks on flow found, once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

import chunkwise
from chunkwise.errors import EncodeError, TruncatedError
from chunkwise.flow.document import discard
from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS


async def text_of(source: Any, *, document: bool = False, name: str = "json") -> bytes:
    stream = Outbound([source] if document else source, FORMATS[name].encoder(document=document))
    return b"".join([piece async for piece in stream.pieces()])


async def test_a_read_that_was_interrupted_does_not_look_whole_to_a_second_loop() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"[1,2,"
        raise ValueError

    stream = chunkwise.items(chunks(), format="json")
    with pytest.raises(ValueError):
        [item async for item in stream]
    with pytest.raises(TruncatedError, match="interrupted by ValueError"):
        [item async for item in stream]


async def test_a_read_that_timed_out_does_not_look_whole_to_a_second_loop() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"1\n"
        await asyncio.Event().wait()

    stream = chunkwise.items(chunks(), format="ndjson")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            [item async for item in stream]
    with pytest.raises(TruncatedError, match="interrupted by CancelledError"):
        [item async for item in stream]


async def test_a_loop_that_was_left_goes_on_in_batches_where_it_stopped() -> None:
    stream = chunkwise.items([b"1\n2\n3\n", b"4\n"], format="ndjson")
    async for item in stream:
        assert item == 1
        break
    assert [batch async for batch in stream.batches()] == [[2, 3], [4]]


async def test_a_cancellation_reaches_the_source_with_its_message() -> None:
    seen: list[Any] = []
    waits = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:  # as anyio tells its own cancellations
            seen.append(error.args)
            raise

    task = asyncio.create_task(text_of(source()))
    await waits.wait()
    await asyncio.sleep(0)
    task.cancel("mine")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [("mine",)]


def test_a_source_that_blocks_for_ever_does_not_keep_the_process() -> None:
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


async def test_an_iterable_that_cannot_begin_fails_the_stream() -> None:
    class Odd:
        def __iter__(self) -> Iterator[int]:
            raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await text_of(Odd())


async def test_one_iterator_in_two_places_is_refused() -> None:
    numbers = iter([1, 2])
    with pytest.raises(EncodeError, match="two places"):
        await text_of({"a": numbers, "b": numbers}, document=True)


async def test_a_tagged_struct_keeps_its_tag_around_live_parts() -> None:
    class Report(msgspec.Struct, tag=True):
        rows: Any

    assert await text_of(Report(iter([1])), document=True) == b'{"type":"Report","rows":[1]}'


async def test_a_struct_that_is_an_array_cannot_hold_live_parts() -> None:
    class Pair(msgspec.Struct, array_like=True):
        rows: Any

    with pytest.raises(EncodeError, match="array"):
        await text_of(Pair(iter([1])), document=True)


async def test_a_source_that_is_not_run_is_closed_only_if_running_would_close_it() -> None:
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
