"""Failing sources and slow signals over a WebSocket: every item before the failure is sent."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from chunkwise import items, respond
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import watched
from tests.transports.websocket_peer import client_frame as frame
from tests.transports.websocket_peer import connecting, opened
from tests.transports.wire import serving, streams


async def test_reading_source_waits_for_a_slow_signal() -> None:
    async def slow(_request: web.BaseRequest, _response: web.StreamResponse) -> None:
        await asyncio.sleep(0.5)

    async def echo(request: web.Request) -> web.StreamResponse:
        return await respond(request, (item async for item in items(request)))

    app = web.Application()
    app.on_response_prepare.append(slow)
    async with watched(echo, app=app) as it, connecting(it.port) as peer, asyncio.timeout(GUARD_SECONDS):
        assert await peer.status() == 101
        await peer.send(frame("1"))
        assert (await peer.read()).item == 1


async def test_items_before_an_invalid_string_are_sent() -> None:
    async def source() -> AsyncIterator[Any]:
        for item in ("a", "b", msgspec.Raw(b'"\\ud800"')):
            yield item

    async with serving(streams(source, "text")) as port, opened(port) as peer, asyncio.timeout(GUARD_SECONDS):
        frames = await peer.read_to_close()
    assert [each.payload for each in frames[:-1]] == [b"a", b"b"]
    assert frames[-1].closing[0] == 1011


async def test_items_before_a_too_large_one_are_sent() -> None:
    async def live() -> AsyncIterator[Any]:
        yield 1

    async def source() -> AsyncIterator[Any]:
        yield "before"
        yield {"blob": "x" * (65 * 2**20), "live": live()}

    async with serving(streams(source)) as port, connecting(port) as peer, asyncio.timeout(GUARD_SECONDS):
        assert await peer.status() == 101
        frames = await peer.read_to_close()
    assert [each.item for each in frames[:-1]] == ["before"]
    assert frames[-1].closing[0] == 1011
