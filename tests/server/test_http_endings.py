"""The raw bytes of HTTP responses: how they end with HTTP/1.0, a failing signal, a Unix socket, an unread body."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.server.endings import ending, failing, rows
from tests.transports.watched import SMALL_BYTES, client_of, watched
from tests.transports.wire import connected, serving, streams


async def exchanged(port: int, request: bytes) -> bytes:
    """Send a request; return all bytes up to the end of the connection."""
    async with connected(port) as wire:
        wire.writer.write(request)
        return await wire.read_to_end()


def app_with(signal: Any) -> web.Application:
    app = web.Application()
    app.on_response_prepare.append(signal)
    return app


async def two() -> AsyncIterator[int]:
    yield 1
    yield 2


async def test_http_1_0_keep_alive_ends_with_the_stream() -> None:
    async with serving(streams(two, "ndjson")) as port:
        answer = await exchanged(port, b"GET /0 HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n1\n2\n")


async def test_content_length_from_a_signal_fails() -> None:
    async def signal(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Length"] = "2"

    async with serving(streams(two, "ndjson"), app=app_with(signal)) as port:
        answer = await exchanged(port, b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")  # the head says two bytes, and none are sent


async def test_failing_signal_closes_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def signal(request: web.Request, response: web.StreamResponse) -> None:
        raise ConnectionResetError  # for example from a cache: the client has not left

    async with serving(streams(two, "ndjson"), app=app_with(signal)) as port:
        assert await exchanged(port, b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert "failed" in caplog.text


async def test_unix_socket_http_1_0_failure_is_visible(tmp_path: Path) -> None:
    # By default nginx's proxy_pass uses HTTP/1.0, and sends the response on as a complete chunked response.
    path = str(tmp_path / "socket")
    app = web.Application()
    app.router.add_get("/", streams(failing, "ndjson"))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, path).start()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")
        came, how = await ending(reader)
        writer.close()
    finally:
        await runner.cleanup()
    assert not (came.startswith(b"HTTP/1.0 200") and how == "closed"), came


async def test_failing_signal_sends_no_end_record() -> None:
    async def signal(request: web.Request, response: web.StreamResponse) -> None:
        raise web.HTTPForbidden

    app = web.Application()
    app.on_response_prepare.append(signal)
    async with watched(streams(rows, "ndjson"), app=app) as server, client_of(server.port) as client:
        await client.ask(Prefer="stream-end")
        await client.read_to_end()
    assert not client.came or client.came.startswith(b"HTTP/")


async def test_items_before_a_failure_reach_the_client() -> None:
    # A close with unread bytes in the kernel is a reset, which discards bytes that were not sent yet.
    async def source() -> AsyncIterator[str]:
        for _ in range(20):
            yield "x" * 1000
        raise RuntimeError

    loop = asyncio.get_running_loop()
    async with (
        watched(streams(source, "ndjson", compress=False)) as server,
        client_of(server.port, receive_bytes=SMALL_BYTES) as client,
    ):
        request = b"POST /0 HTTP/1.1\r\nHost: test\r\nPrefer: stream-end\r\nContent-Length: 9999999\r\n\r\n"
        sending = asyncio.create_task(loop.sock_sendall(client.sock, request + b"z" * 9_999_999))
        await asyncio.sleep(0.3)  # by now the server has finished, or waits for this client
        await client.read_to_end()
        sending.cancel()
        with suppress(ConnectionError, asyncio.CancelledError):
            await sending
    assert client.came.count(b"x" * 1000) == 20
    assert b'"failed"' in client.came
