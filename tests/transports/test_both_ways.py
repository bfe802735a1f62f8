"""An upload and its response at the same time, over HTTP and WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web

import chunkwise
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS
from tests.transports.wire import serving

METHODS = {"http": "POST", "ws": "GET"}
every_wire = each_row("wire", METHODS)


@chunkwise.streaming(format=["ndjson", "json"])
async def shout(request: web.Request) -> AsyncIterator[str]:
    async for word in chunkwise.items(request):
        yield word.upper()


@every_wire
async def test_reply_arrives_before_the_next_word(wire: str) -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()

    async def asked() -> AsyncIterator[str]:
        while (word := await words.get()) is not None:
            yield word

    body = chunkwise.body(asked(), "ndjson")
    async with (
        asyncio.timeout(GUARD_SECONDS),
        serving(shout) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, f"{wire}://127.0.0.1:{port}/0", data=body, method=METHODS[wire]) as stream,
    ):
        for word in ("a", "é", "c"):
            words.put_nowait(word)
            assert await anext(stream) == word.upper()
        words.put_nowait(None)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert (stream.end, stream.items_seen) == ("proven", 3)


@every_wire
async def test_server_may_send_before_the_first_item(wire: str) -> None:
    greeted = asyncio.Event()

    async def name() -> AsyncIterator[str]:
        await greeted.wait()
        yield "Tom"

    @chunkwise.streaming(format="ndjson")
    async def greet(request: web.Request) -> AsyncIterator[str]:
        yield "name?"
        async for word in chunkwise.items(request):
            yield f"hello {word}"

    came = []
    body = chunkwise.body(name(), "ndjson")
    async with (
        asyncio.timeout(GUARD_SECONDS),
        serving(greet) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, f"{wire}://127.0.0.1:{port}/0", data=body, method=METHODS[wire]) as stream,
    ):
        async for item in stream:
            came.append(item)
            greeted.set()
    assert came == ["name?", "hello Tom"]


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_exhausted_generator_is_refused(kind: str) -> None:
    async def asynchronous() -> AsyncIterator[int]:
        yield 1

    source: Any = asynchronous() if kind == "async" else iter_of_one()
    if kind == "async":
        assert [item async for item in source] == [1]
    else:
        assert list(source) == [1]
    with pytest.raises(ValueError, match="generator that has ended"):
        chunkwise.body(source, "ndjson")


def iter_of_one() -> Any:
    yield 1
