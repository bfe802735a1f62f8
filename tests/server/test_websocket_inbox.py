"""server/websocket_inbox.py: a source gets all messages of its client before it is closed, even if it reads late."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import TruncatedError, respond
from chunkwise.formats.messages import SUBPROTOCOL
from chunkwise.server import websocket_inbox
from chunkwise.transports.tcp import unsent_bytes
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import watched
from tests.transports.websocket_peer import client_close, client_frame, opened
from tests.transports.wire import serving

Source = Callable[["Reader", web.Request], AsyncIterator[Any]]


class Reader:
    """A handler whose source begins to read after its client has left.

    Attributes:
        left: set by the test when the client has left.
        closed: set when the source is closed.
        items: the items that the source has read.
        written: how many items it has written.
        error: the exception that ended it.
    """

    def __init__(self, source: Source) -> None:
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        self.closed = asyncio.Event()
        self.items: list[Any] = []
        self.written = 0
        self.error: BaseException | None = None
        self._source = source

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await respond(request, self._observed(request))

    async def _observed(self, request: web.Request) -> AsyncIterator[Any]:
        self.begun.set()
        try:
            await self.left.wait()
            async for item in self._source(self, request):
                self.written += 1
                yield item
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.closed.set()


async def read_only(reader: Reader, request: web.Request) -> AsyncIterator[Any]:
    async for item in chunkwise.items(request):
        reader.items.append(item)
    if request.protocol is None:
        yield None  # never reached: it makes this function a generator


async def echo(reader: Reader, request: web.Request) -> AsyncIterator[Any]:
    yield "hello"
    async for item in chunkwise.items(request):
        reader.items.append(item)
        yield item


async def work_first(reader: Reader, request: web.Request) -> AsyncIterator[Any]:
    await asyncio.sleep(1.2)  # longer than two periodic checks
    async for item in read_only(reader, request):
        yield item


async def read_slowly(reader: Reader, request: web.Request) -> AsyncIterator[Any]:
    async for item in chunkwise.items(request):
        reader.items.append(item)
        await asyncio.sleep(0.05)
    if request.protocol is None:
        yield None


async def read_one_and_write(reader: Reader, request: web.Request) -> AsyncIterator[Any]:
    messages = chunkwise.items(request)
    reader.items.append(await anext(messages))
    async for text in write_only(reader, request):
        yield text


async def write_only(_reader: Reader, _request: web.Request) -> AsyncIterator[Any]:
    while True:
        yield "x" * 50_000  # large enough to be written at once


@pytest.mark.parametrize("source", [read_only, echo, work_first])
async def test_disconnect_after_sending_loses_nothing(source: Source) -> None:
    reader = Reader(source)
    async with serving(reader.handle) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        async with session.ws_connect(f"http://127.0.0.1:{port}/0") as websocket:
            for index in range(20):
                await websocket.send_json({"n": index})
        await reader.begun.wait()
        reader.left.set()
        await reader.closed.wait()
    assert [item["n"] for item in reader.items] == list(range(20))
    assert isinstance(reader.error, TruncatedError)  # the close had no number of items


async def test_full_queue_is_read_after_a_disconnect() -> None:
    reader = Reader(read_only)
    async with watched(reader.handle) as server, asyncio.timeout(GUARD_SECONDS):
        async with opened(server.port) as peer:
            await peer.send(*[client_frame(f'"{index}{"x" * 2000}"') for index in range(100)])
            await reader.begun.wait()
            peer.client.half_close()
            reader.left.set()
            await reader.closed.wait()
        outcome = await server.outcome()
    assert [item.rstrip("x") for item in reader.items] == [str(index) for index in range(100)]
    assert outcome.end == "client_gone"


async def test_writing_source_is_slowed_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_inbox, "_UNEXPECTED_SECONDS", 0.5)
    reader = Reader(write_only)
    async with watched(reader.handle) as server, asyncio.timeout(GUARD_SECONDS):
        async with opened(server.port) as peer:
            await peer.send(client_frame("1"))
            await reader.begun.wait()
            peer.client.reset()
        await asyncio.sleep(0.1)
        reader.left.set()
        outcome = await server.outcome()
    assert outcome.end == "client_gone"
    assert reader.written <= 0.5 / websocket_inbox._PAUSE_SECONDS + 2


LINES = "".join(f'{{"n":{index}}}\n' for index in range(40))
END = ' {"stream-end":{"status":"complete","items":40}}\n'


@pytest.mark.parametrize("end", ["", END])
async def test_items_of_the_last_message_are_all_read(end: str) -> None:
    """40 items of 50 ms each take longer than the second that a source has after its last item."""
    reader = Reader(read_slowly)
    async with watched(reader.handle) as server, asyncio.timeout(GUARD_SECONDS):
        async with opened(server.port, subprotocol=SUBPROTOCOL) as peer:
            await peer.send(client_frame(LINES + end))
            await reader.begun.wait()
            peer.client.half_close()
            reader.left.set()
            await reader.closed.wait()
        await server.outcome()
    assert [item["n"] for item in reader.items] == list(range(40))
    assert isinstance(reader.error, TruncatedError) == (end == "")


async def test_writes_after_a_disconnect_lose_nothing() -> None:
    """The client would reply to a write with a reset, after which the kernel discards unread bytes."""
    reader = Reader(echo)
    texts = [f'"{index}{"x" * 4000}"' for index in range(250)]  # more than aiohttp reads while the source does not read
    async with watched(reader.handle) as server, asyncio.timeout(GUARD_SECONDS):
        async with opened(server.port) as peer:
            await reader.begun.wait()
            await peer.send(*[client_frame(text) for text in texts], client_close(1000))
            while unsent_bytes(peer.client.sock):  # wait until the server's kernel has all bytes
                await asyncio.sleep(0.01)
        reader.left.set()
        await reader.closed.wait()
        outcome = await server.outcome()
    assert [item.rstrip("x") for item in reader.items] == [str(index) for index in range(250)]
    assert outcome.end == "client_gone"


async def test_source_that_stops_reading_is_closed() -> None:
    reader = Reader(read_one_and_write)
    async with watched(reader.handle) as server, asyncio.timeout(GUARD_SECONDS), opened(server.port) as peer:
        await peer.send(client_frame("1"), client_frame("2"))
        await reader.begun.wait()
        peer.client.half_close()
        await asyncio.sleep(0.1)
        reader.left.set()
        outcome = await server.outcome()
    assert (outcome.end, reader.items, outcome.items) == ("client_gone", [1], 0)
    assert reader.written <= websocket_inbox._WRITING_SECONDS / websocket_inbox._PAUSE_SECONDS + 2
