"""What attacks on flow found, once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS


async def text_of(source: Any, *, document: bool = False, name: str = "json") -> bytes:
    stream = Outbound([source] if document else source, FORMATS[name].encoder(document=document))
    return b"".join([piece async for piece in stream.pieces()])


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
