"""Unusual handshakes and closes, and disconnects and stalls that are hard to notice."""

import asyncio
import logging
from collections.abc import AsyncIterator
from time import monotonic

import pytest
from aiohttp import web

import chunkwise
from chunkwise import respond
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import client_of, watched
from tests.transports.websocket_peer import Peer, connecting, handshake, opened
from tests.transports.websocket_peer import client_close as closing
from tests.transports.websocket_peer import client_frame as frame
from tests.transports.wire import streams


@pytest.mark.usefixtures("short_unread_limit")
@pytest.mark.parametrize("keepalive_seconds", [None, 0], ids=["default", "no pings"])
@pytest.mark.parametrize("leaving", ["reset", "half_close"])
async def test_disconnect_with_unread_messages_is_seen(leaving: str, keepalive_seconds: float | None) -> None:
    """While the handler does not read, asyncio notices neither a FIN nor a reset."""
    closed = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    handler = streams(source, keepalive_seconds=keepalive_seconds)
    async with watched(handler) as server, opened(server.port) as peer:
        await peer.read()
        await peer.send(frame("1" * 1000) * 600)  # 600 KB
        await asyncio.sleep(0.2)
        getattr(peer.client, leaving)()
        async with asyncio.timeout(GUARD_SECONDS):
            await closed.wait()


async def test_client_that_keeps_reading_never_stalls() -> None:
    """A message of one byte takes three bytes on the wire; written and waiting bytes must be counted alike."""

    async def hot() -> AsyncIterator[int]:
        while True:
            yield 1

    async with watched(streams(hot, stall_seconds=1.0)) as server, opened(server.port) as peer:
        begun, taken = monotonic(), 0
        while (seconds := monotonic() - begun) < 4:
            assert not server.has_more, f"{await server.outcome()} after reading {taken} bytes in {seconds:.1f} s"
            if (wanted := int(400_000 * seconds) - taken) > 0:
                taken += len(await peer.client.read(wanted))
                peer.client.came.clear()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "asked",
    [
        handshake(version="1.0"),
        handshake().replace(b"GET", b"HEAD"),
        handshake().replace(b"GET", b"POST"),
        handshake(Content_Length="5").replace(b"GET", b"POST") + b"hello",
    ],
    ids=["HTTP/1.0", "HEAD", "POST", "POST with a body"],
)
async def test_only_http_1_1_get_is_a_handshake(asked: bytes) -> None:
    """Other requests are ordinary HTTP requests (RFC 6455 §4.2.1)."""
    async with watched(streams(lambda: [1])) as server, client_of(server.port) as client:
        peer = Peer(client)
        await peer.send(asked)
        assert await peer.status() != 101


async def test_non_ascii_key_is_not_a_server_error(caplog: pytest.LogCaptureFixture) -> None:
    """aiohttp's can_prepare raises ValueError for such a key."""
    async with watched(streams(lambda: [1])) as server, client_of(server.port) as client:
        peer = Peer(client)
        await peer.send(handshake(Sec_WebSocket_Key="é" * 16))
        assert await peer.status() != 500
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_end_record_with_line_end_ends_the_upload() -> None:

    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[int]:
            async for item in chunkwise.items(request):
                yield item

        return await respond(request, source())

    async with watched(handler) as server, opened(server.port) as peer:
        await peer.send(frame(' {"stream-end":{"status":"complete","items":0}}\n'))
        assert await peer.read_to_end() == (1000, "complete; items=0")


async def test_reserved_close_code_is_not_sent_back() -> None:
    """RFC 6455 §7.4.1: a close frame must not contain 1006, but aiohttp accepts it."""

    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async with watched(streams(source)) as server, opened(server.port) as peer:
        await peer.read()
        await peer.send(b"\x88\x82\0\0\0\0\x03\xee")
        assert (await peer.read_to_close())[-1].closing[0] != 1006


async def test_reset_after_the_handshake_logs_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[int]:
            async for item in chunkwise.items(request):
                yield item

        return await respond(request, source())

    async with watched(handler) as server:
        ends = []
        for _ in range(20):
            async with connecting(server.port) as peer:
                peer.client.reset()
                ends.append((await server.outcome()).end)
        await asyncio.sleep(0.05)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert set(ends) == {"client_gone"}


async def test_close_with_unread_messages_is_seen() -> None:
    closed = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[int]:
            async for item in chunkwise.items(request):
                yield item
            try:
                await asyncio.Event().wait()
            finally:
                closed.set()

        return await respond(request, source())

    async with watched(handler) as server, opened(server.port) as peer:
        await peer.send(frame("1"), frame(' {"stream-end":{"status":"complete","items":1}}'))
        assert (await peer.read()).item == 1
        await peer.send(frame("1" * 1000) * 200, closing(1000))
        async with asyncio.timeout(GUARD_SECONDS):
            await closed.wait()
            assert (await server.outcome()).end == "client_gone"
