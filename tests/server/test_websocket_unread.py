"""WebSocket messages that no handler reads: the source still ends when its client leaves."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from chunkwise import items, respond
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import watched
from tests.transports.websocket_peer import TEXT, opened
from tests.transports.websocket_peer import client_close as closing
from tests.transports.websocket_peer import client_frame as frame
from tests.transports.wire import serving, streams

END = b' {"stream-end":{"status":"complete","items":%d}}'


async def ends_soon(handler: Any, *sent: bytes, leaving: str) -> None:
    async with watched(handler) as it, opened(it.port) as peer:
        await peer.send(*sent)
        assert (await peer.read()).opcode == TEXT
        if leaving == "close":
            await peer.send(closing(1001))
        else:
            peer.client.reset()
        async with asyncio.timeout(GUARD_SECONDS):
            assert (await it.outcome()).end == "client_gone"


@pytest.mark.parametrize("leaving", ["close", "reset"])
@pytest.mark.parametrize("reads", ["all", "one"])
async def test_disconnect_after_the_last_read_is_seen(reads: str, leaving: str) -> None:
    async def source(request: web.Request) -> AsyncIterator[Any]:
        if reads == "all":
            assert [item async for item in items(request)] == [1]
        else:
            async for item in items(request):
                assert item == 1
                break
        yield "subscribed"
        await asyncio.Event().wait()

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, source(request))

    await ends_soon(handler, frame("1"), *[frame(END % 1)] * (reads == "all"), leaving=leaving)


@pytest.mark.usefixtures("short_unread_limit")
async def test_close_after_an_unread_message_is_seen() -> None:
    async def source() -> AsyncIterator[Any]:
        yield "begun"
        await asyncio.Event().wait()

    message = frame('"' + "x" * 70_000 + '"')
    await ends_soon(streams(source, keepalive_seconds=0), message, leaving="close")


async def test_proven_upload_is_processed_to_its_end() -> None:
    saved: list[Any] = []
    over = asyncio.Event()

    async def source(request: web.Request) -> AsyncIterator[Any]:
        try:
            rows = [item async for item in items(request)]
            await asyncio.sleep(0.1)  # as a database would take
            saved.extend(rows)
            yield len(rows)
        finally:
            over.set()

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, source(request))

    async with serving(handler) as port, opened(port) as peer, asyncio.timeout(GUARD_SECONDS):
        await peer.send(frame("1"), frame("2"), closing(1000, "complete; items=2"))
        await over.wait()
    assert saved == [1, 2]
