"""A slow client gets the end of a stream, too: nobody is cut off as long as it takes something."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import connect

import chunkwise
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import watched


async def read_slowly(port: int, pause: float, **options: Any) -> tuple[int, int | None]:
    """Read item by item with a pause behind each and with small buffers; return how many came, and the close's code."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    count = 0
    async with connect(f"ws://127.0.0.1:{port}/0", sock=connection, proxy=None, max_queue=1, **options) as websocket:
        async for _ in websocket:
            count += 1
            await asyncio.sleep(pause)
    return count, websocket.close_code


@pytest.mark.parametrize("ping_interval", [None, 0.3])
async def test_a_client_that_needs_longer_than_the_stall_limit_for_the_rest_gets_it(
    ping_interval: float | None,
) -> None:
    def rows() -> Iterator[str]:
        for _ in range(40):
            yield "x" * 100_000

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 2**20)  # the source is through at once
        return await chunkwise.respond(request, rows(), stall_seconds=1)

    async with asyncio.timeout(GUARD_SECONDS), watched(handler) as server:
        told = await read_slowly(server.port, 0.07, ping_interval=ping_interval, ping_timeout=None)
        assert told == (40, 1000)
        assert (await server.outcome()).end == "complete"
