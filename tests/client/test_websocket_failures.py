"""A client whose source fails, or whose server is silent: a close with the reason; pings lose no items."""

import asyncio

import pytest
from aiohttp import ClientSession

from chunkwise import DecodeError, RemoteError, StalledError, body, open_stream
from chunkwise.formats.messages import SUBPROTOCOL
from tests.client.test_websocket_uploads import Source as BigSource
from tests.client.test_websocket_uploads import sent
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS
from tests.transports.failures.test_websocket_cuts import End, cut_at
from tests.transports.failures.test_websocket_matrix import (
    Reading,
    Source,
    every_count,
    every_pace,
    in_both_framings,
    raised_by,
)
from tests.transports.failures.websocket_readers import READERS, heard_by, hearing, masks
from tests.transports.watched import watched
from tests.transports.websocket_peer import CLOSE, PING, Frame, Peer, complete, frame, server

every_failure = each_row("ending", ["exception", "http exception", "cancelled"])


async def exchange(session: ClientSession, url: str, source: Source) -> None:
    """Send a source, and read the reply."""
    async with open_stream(session, url, data=body(source.items(), "ndjson"), idle_seconds=2) as stream:
        async for _ in stream:
            pass


@every_count
@every_failure
@every_pace
async def test_server_sees_that_the_client_failed(count: int, ending: str, hot: bool) -> None:
    source, reading = Source(count, ending, hot=hot), Reading()
    async with watched(reading.handle) as it, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        url = f"ws://127.0.0.1:{it.port}/0"
        with pytest.raises(raised_by(ending)):
            await exchange(session, url, source)
        await reading.over.wait()
    assert reading.came == source.given
    assert isinstance(reading.error, RemoteError), repr(reading.error)
    assert (reading.error.status, reading.error.problem["title"]) == (500, "the source failed")


@in_both_framings
@every_count
@every_failure
async def test_client_failure_closes_with_1011(subprotocol: str, count: int, ending: str) -> None:
    source = Source(count, ending)
    heard: list[Frame] = []

    async def talk(peer: Peer) -> None:
        while (each := await peer.hear()) is not None:
            heard.append(each)
            if each.opcode == CLOSE:
                await peer.send(complete(0))

    async with server(talk, subprotocol=subprotocol) as url, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(raised_by(ending)):
            await exchange(session, url, source)
    assert (heard[-1].code, heard[-1].reason) == (1011, "the source failed")


@each_row("reader", READERS)
@each_row("end", ["FIN", "RST"])
async def test_ping_before_a_disconnect_loses_nothing(reader: str, end: End) -> None:
    mask = masks(reader)
    data = frame("1", mask=mask) + frame("", PING, mask=mask) + frame("2", mask=mask) + complete(2, mask=mask)
    async with hearing(reader, pause=0.1) as hear:
        assert await hear(cut_at(data, end)) == ([1, 2], None, "proven", 2)


@pytest.mark.parametrize("reader", ["open_stream", "items"])
async def test_defect_after_an_item_raises_at_once(reader: str) -> None:
    async def talk(peer: Peer) -> None:
        await peer.send(frame("1\nnil\n"))
        await peer.hear_all()

    async with hearing(reader, subprotocol=SUBPROTOCOL, idle_seconds=1) as hear:
        came = await hear(talk)
    assert came.items == [1]
    assert type(came.error) is DecodeError, repr(came.error)


@pytest.mark.parametrize("reader", READERS)
async def test_close_reason_needs_ascii_digits(reader: str) -> None:
    came = await heard_by(
        reader, cut_at(frame("1", mask=masks(reader)) + complete("\u0661", mask=masks(reader)), "FIN")
    )
    assert came.error is not None


async def test_stalled_upload_drops_its_connection() -> None:
    async def talk(peer: Peer) -> None:
        await asyncio.sleep(3)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(GUARD_SECONDS):
            while await loop.sock_recv(peer.client.sock, 65536):
                taken.append(1)

    taken: list[int] = []
    source = BigSource(size=5_000_000)
    async with server(talk, receive_bytes=4096) as url:
        _, error = await sent(url, body(source.items(), "ndjson"), idle_seconds=0.5)
    assert isinstance(error, StalledError)
    assert len(taken) < 50, len(taken)


async def test_sending_server_does_not_delay_leaving() -> None:
    async def talk(peer: Peer) -> None:
        await peer.say("1")
        while True:
            await peer.send(frame("", PING))
            await asyncio.sleep(0.1)

    async with (
        server(talk) as url,
        ClientSession() as session,
        asyncio.timeout(GUARD_SECONDS),
        open_stream(session, url) as stream,
    ):
        assert await anext(stream) == 1
