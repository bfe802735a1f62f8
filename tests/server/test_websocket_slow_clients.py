"""A slow WebSocket client gets the whole stream as long as it keeps reading."""

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import connect

import chunkwise
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import watched


async def read_slowly(port: int, pause: float, **options: Any) -> tuple[int, int | None]:
    """Read items with small buffers and a pause after each; return the number of items and the close code."""
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
async def test_slow_client_may_outlast_the_stall_limit(
    ping_interval: float | None,
) -> None:
    def rows() -> Iterator[str]:
        for _ in range(40):
            yield "x" * 100_000

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 2**20)  # the source ends at once
        return await chunkwise.respond(request, rows(), stall_seconds=1)

    async with asyncio.timeout(GUARD_SECONDS), watched(handler) as server:
        told = await read_slowly(server.port, 0.07, ping_interval=ping_interval, ping_timeout=None)
        assert told == (40, 1000)
        assert (await server.outcome()).end == "complete"


HANDSHAKE = (
    b"GET /1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
RESETS = struct.pack("ii", 1, 0)
HIGH_WATER_BYTES = 64 * 1024  # the default of asyncio's transports


async def test_client_that_leaves_in_the_handshake_is_gone() -> None:
    """The connection is lost in the same turn of the event loop in which the write succeeds."""
    full = asyncio.Event()

    async def fill(request: web.Request) -> web.StreamResponse:
        """Fill the buffer to just below asyncio's limit, so that the next response exceeds it."""
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        waiting = request.transport.get_write_buffer_size
        while waiting() < HIGH_WATER_BYTES - 1100:
            await response.write(b"x" * 1000)
        while (room := HIGH_WATER_BYTES - waiting()) > 40:
            await response.write(b"x" * (room - 30 if room < 900 else 500))
        await response.write_eof()
        return response

    async def handler(request: web.Request) -> web.StreamResponse:
        full.set()
        return await chunkwise.respond(request, iter([1, 2, 3]))

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(GUARD_SECONDS), watched(fill, handler, send_bytes=400_000) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", server.port))
            await loop.sock_sendall(client, b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n" + HANDSHAKE)
            await full.wait()
            await asyncio.sleep(0.05)
            client.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.05)
            for _ in range(30):  # blocks the loop: the server then sees the free buffer and the end together
                with suppress(BlockingIOError):
                    client.recv(2**20)
                time.sleep(0.01)
            while await loop.sock_recv(client, 2**20):
                pass
        assert (await server.outcome()).end == "client_gone"


async def test_disconnect_at_shutdown_is_not_complete() -> None:
    """After a shutdown has begun, aiohttp reads nothing and does not notice a lost connection."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 2**20)  # the source ends at once
        return await chunkwise.respond(request, ["x" * 100_000] * 20)

    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        connection.setblocking(False)
        async with asyncio.timeout(GUARD_SECONDS), watched(handler, grace_seconds=GUARD_SECONDS) as server:
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", server.port))
            await asyncio.get_running_loop().sock_sendall(connection, HANDSHAKE.replace(b"/1 ", b"/0 "))
            await asyncio.sleep(0.2)
            stopping = asyncio.create_task(server.runner.cleanup())
            await asyncio.sleep(0.2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
            connection.close()
            assert (await server.outcome()).end == "client_gone"
            await stopping
