"""client/reconnecting.py: after its `async with`, a stream sends no request and leaves nothing open."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise.client.stream import Stream
from chunkwise.sources.resumable import resumable
from tests.flow.producing import GUARD_SECONDS
from tests.transports.wire import serving


def item(index: int) -> dict[str, str]:
    return {"n": str(index)}


async def rows(start: int) -> AsyncIterator[Any]:
    for index in range(start, 100_000):
        yield item(index)


async def test_abandoned_stream_sends_no_request() -> None:
    asked = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await chunkwise.respond(request, resumable(rows), compress=False)

    async with serving(handler) as port, ClientSession() as session:
        async with chunkwise.open_stream(session, f"http://127.0.0.1:{port}/0") as stream:
            came = [await anext(stream)]
        with pytest.raises(chunkwise.TruncatedError, match="read it inside its `async with`") as caught:  # noqa: PT012 - the first items are kept
            async for batch in stream.batches():
                came += batch
        await asyncio.sleep(0.05)  # a request would be sent in this time
    assert came == [item(index) for index in range(len(came))]
    assert (asked, stream.reconnects, caught.value.items_seen) == (1, 0, len(came))


@pytest.mark.parametrize("while_it", ["waits", "is answered"])
async def test_leaving_during_a_reconnect_closes_all(while_it: str) -> None:
    asked: asyncio.Queue[int] = asyncio.Queue()
    answers, ended = asyncio.Event(), asyncio.Event()

    async def endless(start: int) -> AsyncIterator[Any]:
        try:
            yield item(start)
            if start:
                await asyncio.Event().wait()
            raise web.HTTPServiceUnavailable
        finally:
            if start:
                ended.set()

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.put_nowait(0)
        if "Range" in request.headers:
            if while_it == "waits":
                raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"})
            await answers.wait()
        return await chunkwise.respond(request, resumable(endless), "ndjson", compress=False)

    async def rest(stream: Stream) -> list[Any]:
        return [each async for each in stream]

    async with serving(handler) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        async with chunkwise.open_stream(session, f"http://127.0.0.1:{port}/0", format="ndjson") as stream:
            reading = asyncio.create_task(rest(stream))
            for _ in range(2):
                await asked.get()
            await asyncio.sleep(0.05)  # wait until the second response arrives
        answers.set()
        with pytest.raises(chunkwise.TruncatedError, match="read it inside its `async with`"):
            await reading
        if while_it == "is answered":
            await ended.wait()
    assert asked.empty()
