"""Uploads of `open_stream` over WebSockets: a source is sent completely, or the WebSocket is closed with an error."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, web

from chunkwise import (
    LimitError,
    RemoteError,
    StalledError,
    StreamError,
    TruncatedError,
    body,
    items,
    open_stream,
    respond,
)
from chunkwise.client import websocket
from tests.flow.producing import GUARD_SECONDS, until
from tests.transports.websocket_peer import CLOSE, PING, Peer, close, complete, frame, server
from tests.transports.wire import serving


class Source:
    """A source that counts its items.

    Attributes:
        made: how many items were requested.
        closed: how often the source was closed.
    """

    def __init__(self, count: int = 10**9, *, size: int = 0, pause: float = 0) -> None:
        self.made = 0
        self.closed = 0
        self._count = count
        self._size = size
        self._pause = pause

    async def items(self) -> AsyncIterator[str]:
        try:
            for _ in range(self._count):
                self.made += 1
                yield "x" * self._size
                if self._pause:
                    await asyncio.sleep(self._pause)
        finally:
            self.closed += 1


async def sent(url: str, upload: Any, **options: Any) -> tuple[list[Any], Exception | None]:
    """Send a source; return the items of the response, and the error after them."""
    came: list[Any] = []
    try:
        async with (
            asyncio.timeout(GUARD_SECONDS),
            ClientSession() as session,
            open_stream(session, url, data=upload, **options) as stream,
        ):
            async for item in stream:
                came.append(item)  # noqa: PERF401 - the items before an error are kept
    except Exception as error:
        return came, error
    return came, None


def echoing(**options: Any) -> Callable[[web.Request], Any]:
    async def source(request: web.Request) -> AsyncIterator[Any]:
        async for item in items(request, **options):
            yield item

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, source(request))

    return handler


def ws(port: int) -> str:
    return f"ws://127.0.0.1:{port}/0"


async def test_slow_source_is_not_a_stall() -> None:
    source = Source(3, pause=0.3)

    async def talk(peer: Peer) -> None:
        while (each := await peer.hear()) is not None:
            if each.opcode == CLOSE:
                return
            await peer.say('"took it"')
            if b"stream-end" in each.payload:
                await peer.send(complete(4))

    async with server(talk) as url:
        assert await sent(url, body(source.items(), "ndjson"), idle_seconds=0.8) == (["took it"] * 4, None)
    assert source.closed == 1


async def test_server_that_reads_nothing_is_a_stall() -> None:
    source, over = Source(size=200_000), asyncio.Event()

    async def talk(peer: Peer) -> None:
        for _ in range(8):  # the server sends messages, but reads nothing
            await peer.send(frame("", PING))
            await asyncio.sleep(0.1)
        await over.wait()

    async with server(talk, receive_bytes=4096) as url:
        came, error = await sent(url, body(source.items(), "ndjson"), idle_seconds=0.5)
        over.set()
    assert came == []
    assert isinstance(error, StalledError), repr(error)
    assert "read nothing" in str(error)
    assert source.closed == 1


async def test_source_can_be_sent_once() -> None:
    source = Source(2)
    upload = body(source.items(), "ndjson")
    async with serving(echoing()) as port:
        assert await sent(ws(port), upload) == (["", ""], None)
        came, error = await sent(ws(port), upload)
    assert came == []
    assert isinstance(error, StreamError)
    assert "once" in str(error)
    assert source.closed == 1


async def test_early_server_end_closes_the_source() -> None:
    source = Source(size=1000)

    async def talk(peer: Peer) -> None:
        await peer.hear()
        await peer.say('"enough"')
        await peer.send(complete(1))
        await peer.hear_all()

    async with server(talk) as url:
        assert await sent(url, body(source.items(), "ndjson")) == (["enough"], None)
    assert source.closed == 1


async def test_leaving_early_closes_the_source() -> None:
    source = Source(pause=0.01)
    async with serving(echoing()) as port, ClientSession() as session:
        async with open_stream(session, ws(port), data=body(source.items(), "ndjson")) as stream:
            assert await anext(aiter(stream)) == ""
        assert source.closed == 1


@pytest.mark.parametrize(("code", "status"), [(1007, 422), (1009, 413), (1011, 500)])
async def test_refused_item_gives_the_status(code: int, status: int) -> None:
    source = Source(size=1000)

    async def talk(peer: Peer) -> None:
        await peer.hear()
        await peer.say("1")
        await peer.send(close(code, "no more of that"))
        await peer.hear_all()

    async with server(talk) as url:
        came, error = await sent(url, body(source.items(), "ndjson"))
    assert came == [1]
    assert isinstance(error, RemoteError), repr(error)
    assert (error.status, error.problem["title"]) == (status, "no more of that")
    assert source.closed == 1


@pytest.mark.parametrize(
    ("options", "status"), [({"type": int}, 422), ({"max_item_bytes": 10}, 413)], ids=["type", "limit"]
)
async def test_refused_item_gives_its_position(options: dict[str, Any], status: int) -> None:
    async def given() -> AsyncIterator[Any]:
        yield 1
        yield 2
        yield "x" * 100

    async with serving(echoing(**options)) as port:
        came, error = await sent(ws(port), body(given(), "ndjson"))
    assert came == [1, 2]
    assert isinstance(error, RemoteError), repr(error)
    assert error.status == status
    assert "item 2" in str(error)
    assert not isinstance(error, LimitError)


@pytest.mark.parametrize("idle_seconds", [0, 5])
async def test_lost_server_ends_the_upload(idle_seconds: float) -> None:
    source = Source(size=1000)

    async def talk(peer: Peer) -> None:
        await peer.hear()

    async with server(talk) as url:
        came, error = await sent(url, body(source.items(), "ndjson"), idle_seconds=idle_seconds)
    assert came == []
    assert isinstance(error, TruncatedError), repr(error)
    assert source.closed == 1


async def test_closed_connection_is_not_a_stall() -> None:
    async def talk(peer: Peer) -> None:
        await peer.hear()

    upload = body([], "ndjson")
    async with server(talk) as url, ClientSession() as session, session.ws_connect(url) as connection:
        writing = websocket._UploadSocket(connection, upload)
        await writing.send(b"1")
        await connection.receive()
        await until(writing.is_closing)
        assert not writing.watch.check(), "a closed connection needs no more checks"
    assert upload.failure is None
    await upload.wait_closed()


async def test_silent_server_does_not_delay_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "_CLOSE_SECONDS", 0.05)
    heard: list[int] = []

    async def fails() -> AsyncIterator[int]:
        yield 1
        raise LookupError

    async def talk(peer: Peer) -> None:
        while (each := await peer.hear()) is not None:  # read to the end of the connection, which follows the close
            heard.append(each.code if each.opcode == CLOSE else 0)
        await peer.say("1")
        await peer.send(complete(1))

    async with server(talk) as url:
        came, error = await sent(url, body(fails(), "ndjson"))
    assert heard == [0, 1011]
    assert isinstance(error, LookupError)
    assert came in ([], [1])


async def test_items_before_a_source_failure_arrive() -> None:
    failed = asyncio.Event()

    async def source() -> AsyncIterator[Any]:
        yield 0
        await asyncio.sleep(0.2)
        failed.set()
        raise ValueError("the source")

    async def talk(peer: Peer) -> None:
        await peer.say("1", "2", "3", "4", "5")
        await peer.hear_all()

    came: list[Any] = []

    async def read(session: ClientSession, url: str) -> None:
        async with open_stream(session, url, data=body(source(), "ndjson")) as stream:
            async for item in stream:
                came.append(item)
                if item == 1:  # the client is busy with the first item while all others arrive
                    await failed.wait()
                    await asyncio.sleep(0.1)

    async with server(talk) as url, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(ValueError, match="the source"):
            await read(session, url)
    assert came == [1, 2, 3, 4, 5]
