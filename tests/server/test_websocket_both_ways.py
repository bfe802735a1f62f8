"""`respond` over a WebSocket: all kinds of sources, and both directions at once."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, web

import chunkwise
from chunkwise import StreamError, TruncatedError, respond
from tests.each_row import each_row, rows_at_once
from tests.flow.producing import GUARD_SECONDS
from tests.server.websocket_sources import END, Waiting, both_framings, counting, echoing, only_outcome
from tests.transports.watched import SMALL_BYTES, watched
from tests.transports.websocket_peer import Peer, opened
from tests.transports.websocket_peer import client_close as closing
from tests.transports.websocket_peer import client_frame as frame
from tests.transports.wire import streams

# ---- sources of all kinds


def in_a_thread() -> Iterator[int]:
    yield from range(3)


def report() -> dict[str, Any]:
    return {"users": counting(3), "total": asyncio.sleep(0, 3), "nested": [{"more": in_a_thread()}]}


async def reports() -> AsyncIterator[dict[str, Any]]:
    yield report()
    yield report()


REPORT = {"users": [0, 1, 2], "total": 3, "nested": [{"more": [0, 1, 2]}]}
SOURCES: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "a generator": (in_a_thread, [0, 1, 2]),
    "a list": (lambda: [0, "one", None], [0, "one", None]),
    "nothing": (list, []),
    "a document with live parts": (report, [REPORT]),
    "items with live parts": (reports, [REPORT, REPORT]),
}


@both_framings
@each_row("name", SOURCES)
async def test_any_kind_of_source_is_sent(name: str, subprotocol: str) -> None:
    make, items = SOURCES[name]
    async with watched(streams(make)) as server, opened(server.port, subprotocol=subprotocol) as peer:
        *messages, close = await peer.read_to_close()
    assert close.closing == (1000, f"complete; items={len(items)}")
    lines = b"\n".join(message.payload.removesuffix(b"\n") for message in messages).split(b"\n")
    assert [msgspec.json.decode(line) for line in lines if line] == items
    assert subprotocol or len(messages) == len(items)


# ---- both directions at once


@both_framings
async def test_reply_arrives_before_the_next_question(subprotocol: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[Any]:
            stream = chunkwise.items(request)
            async for item in stream:
                yield item
            yield [stream.items_seen, stream.end]
            await asyncio.sleep(0)
            yield "the rest"

        return await respond(request, source())

    async with watched(handler) as server, opened(server.port, subprotocol=subprotocol) as peer:
        for number in range(5):
            await peer.say_items(number)
            assert (await peer.read()).item == number
        await peer.send(frame(END % 5))
        assert (await peer.read()).item == [5, "proven"]
        assert (await peer.read()).item == "the rest"
        assert await peer.read_to_end() == (1000, "complete; items=7")
        assert (await only_outcome(server)).end == "complete"


async def test_client_close_with_count_proves_its_end() -> None:
    ends: list[Any] = []
    read = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[Any]:
            stream = chunkwise.items(request)
            try:
                ends.append([item async for item in stream] + [stream.end])
            except TruncatedError as error:
                ends.append([stream.items_seen, type(error)])
            with pytest.raises(StreamError, match="another items"):
                await anext(chunkwise.items(request))
            read.set()
            yield 1

        return await respond(request, source())

    for end in (closing(1000, "complete; items=2"), closing(1000), closing(1000, "complete; items=3")):
        read.clear()
        async with watched(handler) as server, opened(server.port) as peer:
            await peer.say_items(1, 2)
            await peer.send(end)
            await asyncio.wait_for(read.wait(), GUARD_SECONDS)
            with suppress(EOFError, ConnectionError):
                await peer.read_to_close()
    assert ends[0] == [1, 2, "proven"]
    assert ends[-2:] == [[2, TruncatedError]] * 2


ITEM = "x" * 10_000
AHEAD = 5 + 2 + 1
"""How many items of 10 KB may be produced and not read yet: one write of less than 48 KiB, two kernel buffers of 8 KiB
each (the kernel doubles the requested size), and one item that the source has just produced."""


@both_framings
async def test_slow_reader_slows_the_producer(subprotocol: str) -> None:
    made = 0

    async def hot() -> AsyncIterator[str]:
        nonlocal made
        while True:
            made += 1
            yield ITEM

    async def stands_still() -> None:
        before, quiet = -1, 0
        while quiet < 20:
            await asyncio.sleep(0.005)
            quiet = quiet + 1 if made == before else 0
            before = made

    async with (
        watched(streams(hot, stall_seconds=0), send_bytes=SMALL_BYTES) as server,
        opened(server.port, subprotocol=subprotocol, receive_bytes=SMALL_BYTES) as peer,
        asyncio.timeout(GUARD_SECONDS),
    ):
        read = 0
        while read < 20:
            await stands_still()
            assert read < made <= read + AHEAD
            read += (await peer.read()).payload.count(ITEM.encode())
        assert not server.has_more


async def send_until_it_waits(peer: Peer, items: list[str]) -> tuple[asyncio.Task[None], list[str]]:
    """Send each item in a message, in a task; when the server stops reading, return the task and the items sent."""
    sent: list[str] = []

    async def send() -> None:
        for item in items:
            await peer.say_items(item)
            sent.append(item)
        await peer.send(frame(END % len(items)))

    sending = asyncio.create_task(send())
    before = -1
    while len(sent) != before and not sending.done():
        before = len(sent)
        await asyncio.sleep(0.2)
    return sending, sent


async def test_unread_messages_slow_the_client() -> None:
    """Unread messages wait in the kernel (up to 10 MB on Linux), and in our queue and aiohttp's (64 KiB each)."""
    go = asyncio.Event()
    taken: list[str] = []
    transports: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[Any]:
            transports.append(request.transport)
            yield "begun"
            await go.wait()
            taken.extend([item async for item in chunkwise.items(request)])
            yield len(taken)

        return await respond(request, source())

    items = [f"{number:020000}" for number in range(1500)]
    async with watched(handler) as server, opened(server.port) as peer:
        assert (await peer.read()).item == "begun"
        sending, sent = await send_until_it_waits(peer, items)
        assert not sending.done()
        assert len(sent) < 1000
        assert not transports[0].is_reading()
        go.set()
        async with asyncio.timeout(GUARD_SECONDS):
            await sending
        assert (await peer.read()).item == 1500
        assert await peer.read_to_end() == (1000, "complete; items=2")
    assert taken == items


async def test_unread_replies_slow_the_client() -> None:
    items = [f"{number:020000}" for number in range(1500)]
    async with (
        watched(echoing(stall_seconds=0), send_bytes=SMALL_BYTES) as server,
        opened(server.port, receive_bytes=SMALL_BYTES) as peer,
    ):
        sending, sent = await send_until_it_waits(peer, items)
        assert not sending.done()
        assert len(sent) < 1000
        assert [(await peer.read()).item for _ in items] == items
        await sending
        assert await peer.read_to_end() == (1000, "complete; items=1500")


@rows_at_once(1)  # tracemalloc measures the whole process
@both_framings
async def test_64_mb_need_little_memory(subprotocol: str) -> None:
    """This measures both sides together; benchmarks/memory.py uses 1 GB and one process per side."""

    async def many() -> AsyncIterator[str]:
        for number in range(6400):
            yield f"{number:010000}"

    protocols = [subprotocol] * bool(subprotocol)
    async with watched(echoing()) as server, ClientSession() as session:
        url = f"ws://127.0.0.1:{server.port}/0"
        async with session.ws_connect(url, protocols=protocols) as websocket:
            tracemalloc.start()
            try:
                sending = asyncio.create_task(send_all(websocket, many()))
                came = 0
                async for item in chunkwise.items(websocket):
                    assert int(item[-8:]) == came
                    came += 1
                await sending
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert (await only_outcome(server)).end == "complete"
    assert came == 6400
    assert peak < 4 * 2**20


async def send_all(websocket: ClientWebSocketResponse, items: AsyncIterator[str]) -> None:
    count = 0
    async for item in items:
        await websocket.send_json(item)
        count += 1
    await websocket.send_str(END % count)


async def test_hundred_streams_run_side_by_side() -> None:
    async with watched(echoing(), streams(lambda: Waiting(1).items())) as server, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(opened(server.port)) for _ in range(100)]
        idle = [await stack.enter_async_context(opened(server.port, "/1")) for _ in range(5)]
        for count in range(3):
            for index, peer in enumerate(peers):
                await peer.say_items([index, count])
            for index, peer in enumerate(peers):
                assert (await peer.read()).item == [index, count]
        for peer in peers:
            await peer.send(frame(END % 3))
        assert [await peer.read_to_end() for peer in peers] == [(1000, "complete; items=3")] * 100
        assert [(await server.outcome()).end for _ in peers] == ["complete"] * 100
        assert [(await peer.read()).item for peer in idle] == [1] * 5
        assert not server.has_more
