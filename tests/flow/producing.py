"""Sources that tests hold in their hands, and rows that every format carries."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec

from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS

NAMES = list(FORMATS)
LIVE_NAMES = [name for name in NAMES if name != "csv"]
"""The formats whose items may have live parts."""

GUARD_SECONDS = 30
"""Ends a test that hangs; no test waits so long otherwise."""


def row(index: int, size: int = 0) -> dict[str, str]:
    """An item that all formats give back as it was: only text, as CSV knows it."""
    return {"n": str(index), "pad": "x" * size}


def decoded(name: str, items: Iterable[Any]) -> list[Any]:
    """What came of rows: the text format gives the lines in which they were sent."""
    return [msgspec.json.decode(item) if name == "text" else item for item in items]


def read_all(name: str, data: bytes) -> list[Any]:
    """The items of a whole stream."""
    decoder = FORMATS[name].decoder()
    return decoded(name, [*decoder.feed(data), *decoder.finish(framed=True)])


def read_so_far(name: str, data: bytes) -> list[Any]:
    """The items of a stream that goes on."""
    return decoded(name, FORMATS[name].decoder().feed(data))


async def run(source: Any, name: str = "json", *, document: bool = False) -> bytes:
    """All bytes of a source."""
    stream = Outbound([source] if document else source, FORMATS[name].encoder(document=document))
    async with asyncio.timeout(GUARD_SECONDS):
        return b"".join([data async for data in stream.pieces()])


async def run_to_failure(stream: Outbound) -> tuple[bytes, BaseException]:
    """The bytes of a stream that must fail, and how it failed."""
    data = b""
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            async for piece in stream.pieces():
                data += piece
    except BaseException as error:
        return data, error
    raise AssertionError("the stream did not fail")


async def document(value: Any) -> Any:
    """A value with live parts, written as a JSON document and read back."""
    return msgspec.json.decode(await run(value, document=True))


async def until(true: Callable[[], bool]) -> None:
    """Give the loop turns until something is true."""
    async with asyncio.timeout(GUARD_SECONDS):
        while not true():
            await asyncio.sleep(0)


class Held:
    """An async generator of rows that goes on only when it is let go, and tells how it ended.

    Attributes:
        waiting: set while it waits to be let go.
        go: let it go.
        ended: what it saw at its end: "whole", or the class of the exception.
        cleaned: whether its cleaning up, which takes some turns of the loop, came to its end.
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
