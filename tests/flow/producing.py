"""Sources that tests control, and rows that every format can hold."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec

from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS

NAMES = list(FORMATS)
LIVE_NAMES = [name for name in NAMES if name != "csv"]
"""The formats in which items may contain iterators and awaitables."""

GUARD_SECONDS = 30
"""The number of seconds after which a hanging test fails."""


def row(index: int, size: int = 0) -> dict[str, str]:
    """Return an item that every format decodes unchanged: its values are strings, because of CSV."""
    return {"n": str(index), "pad": "x" * size}


def decoded(name: str, items: Iterable[Any]) -> list[Any]:
    """Return rows as a format decodes them: the text format returns lines."""
    return [msgspec.json.decode(item) if name == "text" else item for item in items]


def read_all(name: str, data: bytes) -> list[Any]:
    """Decode a complete stream."""
    decoder = FORMATS[name].decoder()
    return decoded(name, [*decoder.feed(data), *decoder.finish(framed=True)])


def read_so_far(name: str, data: bytes) -> list[Any]:
    """Decode a stream that has not ended."""
    return decoded(name, FORMATS[name].decoder().feed(data))


async def run(source: Any, name: str = "json", *, document: bool = False) -> bytes:
    """Return all bytes of a source."""
    stream = Outbound([source] if document else source, FORMATS[name].encoder(document=document))
    async with asyncio.timeout(GUARD_SECONDS):
        return b"".join([data async for data in stream.pieces()])


async def run_to_failure(stream: Outbound) -> tuple[bytes, BaseException]:
    """Return the bytes of a stream that must fail, and its error."""
    data = b""
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            async for piece in stream.pieces():
                data += piece
    except BaseException as error:
        return data, error
    raise AssertionError("the stream did not fail")


async def document(value: Any) -> Any:
    """Write a value with live parts as a JSON document and decode it."""
    return msgspec.json.decode(await run(value, document=True))


async def until(true: Callable[[], bool]) -> None:
    """Yield to the event loop until a condition is true."""
    async with asyncio.timeout(GUARD_SECONDS):
        while not true():
            await asyncio.sleep(0)


class Held:
    """An async generator of rows that waits for the test before it continues, and records how it ended.

    Attributes:
        waiting: set while the generator waits.
        go: set it to let the generator continue.
        ended: "whole", or the class of the exception that ended the generator.
        cleaned: whether the cleanup of the generator, which takes several steps of the event loop, has finished.
    """

    def __init__(self, ready: int = 1) -> None:
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()
        self.ended: str | None = None
        self.cleaned = False
        self._ready = ready

    async def rows(self) -> AsyncIterator[dict[str, str]]:
        try:
            for index in range(self._ready):
                yield row(index)
            self.waiting.set()
            await self.go.wait()
            yield row(self._ready)
            self.ended = "whole"
        except BaseException as error:
            self.ended = type(error).__name__
            raise
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            self.cleaned = True
