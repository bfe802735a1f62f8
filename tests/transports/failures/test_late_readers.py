"""A reader that is slower than a close, a reset or a stall gets every item received before."""

import asyncio
import random
import socket
import zlib
from typing import Any, Literal, Self

import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise import StalledError, TruncatedError
from chunkwise.client.stream import Stream
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, until
from tests.needs import needs_linux
from tests.transports.failures.cut_responses import (
    BODIES,
    Coding,
    Cut,
    Framing,
    coded,
    content_of,
    every_framing,
    framed,
    head_of,
    reset,
    unsent,
)
from tests.transports.wire import chunked, url_of

End = Literal["close", "reset", "stall"]


class ByHand:
    """A server of one connection; the test controls its bytes and its end.

    Attributes:
        url: the URL of the server.
        taken: how many bytes the kernel has accepted.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = url_of(self._listener.getsockname()[1])
        self.taken = 0
        self._client: socket.socket

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self._client.close()

    async def answer(self, data: bytes) -> None:
        """Wait for the request, and send a response as fast as the kernel accepts it."""
        loop = asyncio.get_running_loop()
        self._client, _ = await loop.sock_accept(self._listener)
        self._client.setblocking(False)
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += await loop.sock_recv(self._client, 65536)
        await self.send(data)

    async def send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        while data:
            await loop.sock_sendall(self._client, data[:16384])
            self.taken += len(data[:16384])
            data = data[16384:]

    def delivered(self) -> int:
        """How many bytes at least the client's kernel has received."""
        return self.taken - unsent(self._client)

    def end(self, how: End) -> None:
        if how == "reset":
            reset(self._client)
        if how != "stall":
            self._client.close()


def knows_of_the_end(stream: Stream) -> bool:
    content = stream.response.content
    return content.exception() is not None or content.is_eof()


def is_paused(stream: Stream) -> bool:
    """Whether aiohttp has stopped reading, because its buffer is full."""
    return bool(stream.response.content._protocol._reading_paused)


ends = each_row("end", ["close", "reset", "stall"])


@needs_linux
@ends
@every_framing
@each_row("coding", ["", "gzip"])
@each_row("format", BODIES)
async def test_late_reader_gets_everything_received(format: str, coding: Coding, framing: Framing, end: End) -> None:
    body = BODIES[format]
    data = coded(body.pieces, coding)
    wire = framed(data, framing)
    size = len(wire) - (14 if framing == "chunked" or coding else 3)  # in the middle of a record
    cut = Cut(body, framing, coding, wire, size)
    sizes = (Cut(body, framing, coding, wire, at).bytes for at in range(size))
    first = next(at for at, known in enumerate(sizes) if body.items_after(known, closed=False))
    came: list[Any] = []

    async def slowly(stream: Stream) -> None:
        async for item in stream:
            if not came:
                await server.send(wire[first:size])
                await until(lambda: server.delivered() == server.taken)
                server.end(end)
                await until(lambda: knows_of_the_end(stream))
            came.append(item)
            await asyncio.sleep(0.001)

    async with asyncio.timeout(GUARD_SECONDS), ByHand() as server, ClientSession() as session:
        answering = asyncio.create_task(server.answer(head_of(body, framing, coding, len(data)) + wire[:first]))
        async with chunkwise.open_stream(session, server.url, idle_seconds=0.5 if end == "stall" else 60) as stream:
            with pytest.raises(StalledError if end == "stall" else TruncatedError) as caught:
                await slowly(stream)
        await answering
    expected = cut.items if end == "close" else body.items_after(cut.bytes, closed=False)
    assert came == expected, caught.value
    assert stream.items_seen == len(came)
    assert stream.bytes_seen == cut.bytes


NOISE = random.Random(1).randbytes(60 * 40_000).hex()
ROWS = [b'{"n":%d,"noise":"%b"}\n' % (n, NOISE[120 * n : 120 * n + 120].encode()) for n in range(40_000)]


async def read_late(
    end: Literal["close", "reset"], framing: Framing, coding: Coding, wire: bytes, *, fits: bool = False
) -> None:
    """Read many rows, the last of which is cut, after the server has filled all buffers."""
    start = head_of(BODIES["ndjson"], framing, coding, len(wire) + 1)
    came: list[int] = []

    async def late(stream: Stream) -> None:
        async for item in stream:
            came.append(item["n"])
            if len(came) == 1:
                await until(lambda: answering.done() if fits else is_paused(stream))
                if end == "reset":
                    await until_nothing_moves(server)
                    answering.cancel()
                    delivered.append(server.delivered())
                    server.end("reset")
            elif len(came) % 1000 == 0:
                await asyncio.sleep(0)

    async def answer() -> None:
        await server.answer(start + wire)
        if end == "close":
            server.end("close")

    delivered: list[int] = []
    async with asyncio.timeout(GUARD_SECONDS), ByHand() as server, ClientSession() as session:
        answering = asyncio.create_task(answer())
        async with chunkwise.open_stream(session, server.url) as stream:
            with pytest.raises(TruncatedError) as caught:
                await late(stream)
        await asyncio.wait([answering])
    content = content_of(wire[: delivered[0] - len(start)] if delivered else wire, framing)
    if coding == "gzip":
        content = zlib.decompressobj(31).decompress(content)
    assert came == list(range(len(came)))
    assert len(came) >= content.count(b"\n") > 1000
    assert caught.value.items_seen == stream.items_seen == len(came)
    assert caught.value.bytes_seen == stream.bytes_seen >= len(content)
    assert not fits or delivered == [len(start + wire)]


async def until_nothing_moves(server: ByHand) -> None:
    seen = -1
    while seen < (seen := server.delivered()):
        await asyncio.sleep(0.02)


@needs_linux
@each_row("end", ["close", "reset"])
@every_framing
@each_row("coding", ["", "gzip"])
async def test_full_buffers_lose_no_bytes(coding: Coding, framing: Framing, end: Literal["close", "reset"]) -> None:
    data = coded([b"".join(ROWS[at : at + 500]) for at in range(0, len(ROWS), 500)], coding)[:-9]
    wire = chunked(*(data[at : at + 60_000] for at in range(0, len(data), 60_000))) if framing == "chunked" else data
    await read_late(end, framing, coding, wire)


@needs_linux
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_more_chunks_than_aiohttp_buffers_arrive(
    end: Literal["close", "reset"],
) -> None:
    await read_late(end, "chunked", "", chunked(*(b'{"n":%d}\n' % n for n in range(60_000))))


@needs_linux
@every_framing
async def test_reset_after_full_buffers_loses_nothing(framing: Framing) -> None:
    data = b"".join(ROWS[:4500])[:-9]
    wire = chunked(data) if framing == "chunked" else data
    assert len(wire) > 600_000
    await read_late("reset", framing, "", wire, fits=True)
