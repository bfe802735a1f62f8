"""A stream that ends is whole: answers of every format, framing and coding, cut behind each of their bytes.

What must come of a cut is known here from how the bodies are written down, not from our decoders.
"""

import asyncio
import fcntl
import random
import socket
import struct
import sys
import termios
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal, Self

import brotli  # type: ignore[import-untyped]
import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise import FORMATS, RemoteError, StalledError, StreamError, TruncatedError
from chunkwise.flow.inbound import ItemStream
from chunkwise.transports.stream import Stream
from tests.flow.producing import GUARD_SECONDS, until
from tests.needs import needs_linux
from tests.transports.reading import LAST, read
from tests.transports.wire import body_of, chunked, url_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Mark = Literal["item", "maybe", "quiet", ""]
"""What is known behind some bytes: one more item is whole; or it would be if nothing followed; or nothing follows that
must; or more must follow."""

Step = tuple[bytes, Mark]


class Body:
    """A stream, and what can be known of it behind each of its bytes.

    Attributes:
        pieces: its bytes, as they are flushed by a coding.
        proves_end: whether its bytes tell whether they are all.
        closed: where it may end for all that its grammar knows, with the number of items that it then has.
    """

    def __init__(self, format: str, items: list[Any], *steps: Step, proves_end: bool = False) -> None:
        self.format = format
        self.items = items
        self.steps = steps
        self.proves_end = proves_end
        self.pieces = [b""]
        self.closed: dict[int, int] = {}
        self._ends: list[int] = []
        size = 0
        for data, mark in steps:
            size += len(data)
            self.pieces[-1] += data
            if mark == "item":
                self._ends.append(size)
                self.pieces.append(b"")
            if mark:
                self.closed[size] = len(self._ends) + (mark == "maybe")
        assert len(self._ends) == len(items)
        self.data = b"".join(self.pieces)

    def items_behind(self, size: int, *, closed: bool) -> list[Any]:
        """Those that are known to be whole behind that many bytes: of a stream that goes on, or was just closed."""
        count = sum(end <= size for end in self._ends)
        return self.items[: self.closed.get(size, count) if closed else count]


BODIES = {
    "json": Body(
        "json",
        [{"n": 1, "t": "ä😀"}, -12500.0, 'é"\\😀', 20, [[], {"a": {}}], "]"],
        (' [{"n":1,"t":"ä😀"}'.encode(), "item"),
        (b",-12.5e3,", "item"),
        (rb'"\u00e9\"\\\ud83d\ude00"', "item"),
        (b", 20 ", "item"),
        (b',[[],{"a":{}}]', "item"),
        (b',"]"', "item"),
        (b"\n]", ""),
        proves_end=True,
    ),
    "ndjson": Body(
        "ndjson",
        [{"n": 1, "t": "ä😀"}, -12500.0, 'é"\\\n', ["}"], True],
        (b"", "quiet"),
        ('{"n":1,"t":"ä😀"}'.encode(), "maybe"),
        (b"\n", "item"),
        (b"-12.5e3\n", "item"),
        (rb'"\u00e9\"\\\n"', "maybe"),
        (b"\r", "maybe"),
        (b"\n", "item"),
        (b"\n", "quiet"),
        (b'["}"]', "maybe"),
        (b"\n", "item"),
        (b"true", "maybe"),
        (b"\n", "item"),
    ),
    "json-seq": Body(
        "json-seq",
        [{"n": 1, "t": "ä😀"}, -12500.0, 'é"\\\n', ["}"], True],
        (b"", "quiet"),
        ('\x1e{"n":1,"t":"ä😀"}'.encode(), "item"),
        (b"\n", "quiet"),
        (b"\x1e-12.5e3\n", "item"),
        (b'\x1e"\\u00e9\\"\\\\\\n"', "item"),
        (b"\n", "quiet"),
        (b'\x1e["}"]', "item"),
        (b"\n", "quiet"),
        (b"\x1etrue\n", "item"),
    ),
    "sse": Body(
        "sse",
        [{"n": 1, "t": "ä😀"}, -12500.0, 'é"', [1, 2]],
        (b"", "quiet"),
        ('id: 0\ndata: {"n":1,"t":"ä😀"}\n\n'.encode(), "item"),
        (b"data:-12.5e3\r\n\r", "item"),
        (b"\n", "quiet"),
        (": ä\n".encode(), "quiet"),
        (b"\n", "quiet"),
        (rb'data: "\u00e9\""' + b"\n\n", "item"),
        (b"data: [1,\ndata: 2]\n\n", "item"),
    ),
    "csv": Body(
        "csv",
        [{"n": "1", "t": "ä😀"}, {"n": "-12.5", "t": 'a"\r\n,b'}, {"n": "", "t": ""}],
        (b"", "quiet"),
        (b"\xef\xbb\xbf", "quiet"),
        (b"n,t\r\n", "quiet"),
        ("1,ä😀\r\n".encode(), "item"),
        (b'-12.5,"a""\r\n,b"\r\n', "item"),
        (b'"",\n', "item"),
    ),
    "text": Body(
        "text",
        ["ä😀", "", "-12.5", "b\u2028c"],
        (b"", "quiet"),
        ("ä😀\n".encode(), "item"),
        (b"\r\n", "item"),
        (b"-12.5\n", "item"),
        ("b\u2028c\n".encode(), "item"),
    ),
}

END_RECORDS = {  # behind the same bodies
    "ndjson": (b' {"stream-end":', b"}\n"),
    "json-seq": (b'\x1e {"stream-end":', b"}\n"),
    "sse": (b"event: stream-end\ndata: ", b"\n\n"),
}
PROBLEM = {"title": "Internal Server Error", "status": 500}


def with_end(body: Body, status: str, problem: str = "") -> Body:
    """A body with an end record."""
    before, after = END_RECORDS[body.format]
    record = f'{{"status":"{status}","items":{len(body.items)}{problem}}}'
    return Body(body.format, body.items, *body.steps, (before + record.encode() + after, ""), proves_end=True)


COMPLETE = {name: with_end(BODIES[name], "complete") for name in END_RECORDS}
FAILED = {
    name: with_end(BODIES[name], "failed", ',"problem":{"title":"Internal Server Error","status":500}')
    for name in END_RECORDS
}

Framing = Literal["chunked", "length", "close", "HTTP/1.0"]
FRAMINGS: tuple[Framing, ...] = ("chunked", "length", "close", "HTTP/1.0")
CLOSED: tuple[Framing, ...] = ("close", "HTTP/1.0")
Coding = Literal["", "gzip", "br", "zstd"]


def coded(pieces: list[bytes], coding: Coding) -> bytes:
    """Pieces in a content coding, each flushed."""
    engine: Any
    if coding == "gzip":
        engine = zlib.compressobj(wbits=31)
        return b"".join(
            [engine.compress(piece) + engine.flush(zlib.Z_SYNC_FLUSH) for piece in pieces] + [engine.flush()]
        )
    if coding == "br":
        engine = brotli.Compressor(quality=1)
        return b"".join([engine.process(piece) + engine.flush() for piece in pieces] + [engine.finish()])
    if coding == "zstd":
        engine = zstd.ZstdCompressor()
        return b"".join([engine.compress(piece, engine.FLUSH_BLOCK) for piece in pieces] + [engine.flush()])
    return b"".join(pieces)


def bytes_in(data: bytes, coding: Coding) -> int:
    """How many bytes a coding's own engine has behind the beginning of a coded stream."""
    if coding == "gzip":
        return len(zlib.decompressobj(31).decompress(data))
    if coding == "br":
        return len(brotli.Decompressor().process(data))
    if coding == "zstd":
        return len(zstd.ZstdDecompressor().decompress(data))
    return len(data)


def head_of(body: Body, framing: Framing, coding: Coding, size: int, *headers: str) -> bytes:
    lines = [
        f"{'HTTP/1.0' if framing == 'HTTP/1.0' else 'HTTP/1.1'} 200 OK",
        f"Content-Type: {FORMATS[body.format].content_type}",
        *([f"Content-Encoding: {coding}"] if coding else []),
        *{"chunked": ["Transfer-Encoding: chunked"], "length": [f"Content-Length: {size}"]}.get(framing, []),
        *headers,
        *(["Connection: close"] if framing == "close" else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def framed(data: bytes, framing: Framing) -> bytes:
    """The body as it stands on the wire: where there are chunks, they are none of the items."""
    if framing != "chunked":
        return data
    third = len(data) // 3
    return chunked(data[:third], data[third : 2 * third], data[2 * third :]) + LAST


def content_of(wire: bytes, framing: Framing) -> bytes:
    return body_of(b"\r\n\r\n" + wire) if framing == "chunked" else wire


class Answers(asyncio.Protocol):
    """A server that gives each request the answer of the moment, and closes.

    Attributes:
        answer: the bytes.
        reset: whether it resets the connection, once the client's kernel has them.
    """

    answer = b""
    reset = False
    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._asked += data
        if self._asked.endswith(b"\r\n\r\n"):
            self._transport.write(Answers.answer)
            self._close()

    def _close(self) -> None:
        connection = self._transport.get_extra_info("socket")
        if not Answers.reset:
            self._transport.close()
        elif unsent(connection):
            asyncio.get_running_loop().call_later(0.001, self._close)
        else:
            reset(connection)
            self._transport.abort()


def unsent(connection: socket.socket) -> int:
    """How many bytes the client's kernel may not have yet."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def reset(connection: socket.socket) -> None:
    """Let the connection be reset when it is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def asking(*, reset: bool = False) -> AsyncIterator[tuple[ClientSession, str]]:
    """A session, and the URL of the answers."""
    Answers.reset = reset
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0)
    async with server, ClientSession() as session:
        yield session, url_of(server.sockets[0].getsockname()[1])


async def taken(session: ClientSession, url: str, reader: str) -> tuple[ItemStream, list[Any], StreamError | None]:
    """Read one answer to its end; give the stream, what came, and the error behind it."""
    if reader == "items":
        async with session.get(url) as response:
            inbound = chunkwise.items(response)
            return inbound, *await read(inbound)
    async with chunkwise.open_stream(session, url) as stream:
        return stream, *await read(stream)


class Cut:
    """One answer that was cut, and what must come of it.

    Attributes:
        name: what it is, for people.
        whole: whether it is the whole answer.
        bytes: how many bytes of the content come of it.
        silent: whether it looks whole.
        items: those that come.
    """

    def __init__(self, body: Body, framing: Framing, coding: Coding, wire: bytes, size: int) -> None:
        self.name = f"{body.format}, {framing}, {coding}: byte {size} of {len(wire)}, behind {wire[:size][-20:]!r}"
        self.whole = size == len(wire)
        self.bytes = bytes_in(content_of(wire[:size], framing), coding)
        closed = framing in CLOSED and not coding
        self.silent = closed and not body.proves_end and self.bytes in body.closed
        self.items = body.items_behind(self.bytes, closed=closed)


def cuts(body: Body, framing: Framing, coding: Coding, *headers: str) -> Iterator[Cut]:
    """Put each cut of an answer on the server; give what must come of it."""
    data = coded(body.pieces, coding)
    wire = framed(data, framing)
    start = head_of(body, framing, coding, len(data), *headers)
    for size in range(len(wire) + 1):
        Answers.answer = start + wire[:size]
        yield Cut(body, framing, coding, wire, size)


def check_cut(stream: ItemStream, body: Body, cut: Cut, came: list[Any], error: StreamError | None) -> None:
    """That a stream which stops early says so, behind all that came."""
    assert came == cut.items, f"{cut.name}: {came} came, expected {cut.items}; {error!r}"
    assert type(error) is TruncatedError, f"{cut.name}: {error!r}"
    assert error.items_seen == stream.items_seen == len(came), f"{cut.name}: {error}"
    assert error.bytes_seen == stream.bytes_seen == cut.bytes, f"{cut.name}: {error}"
    assert error.format == (body.format if cut.bytes else error.format), f"{cut.name}: {error}"
    assert stream.end is None, f"{cut.name}: {stream.end}"


every_framing = pytest.mark.parametrize("framing", FRAMINGS)


@pytest.mark.parametrize("reader", ["open_stream", "items"])
@every_framing
@pytest.mark.parametrize("format", BODIES)
async def test_every_cut_that_can_be_known_is_told(format: str, framing: Framing, reader: str) -> None:
    body = BODIES[format]
    async with asking() as (session, url):
        for cut in cuts(body, framing, ""):
            stream, came, error = await taken(session, url, reader)
            if cut.whole or cut.silent:
                end = "proven" if format == "json" else "framed" if framing in ("chunked", "length") else "unknown"
                assert (came, error, stream.end) == (cut.items, None, end), cut.name
                assert (stream.items_seen, stream.bytes_seen) == (len(came), cut.bytes), cut.name
            else:
                check_cut(stream, body, cut, came, error)


@every_framing
@pytest.mark.parametrize(
    ("format", "coding"),
    [*((name, "gzip") for name in BODIES), ("ndjson", "br"), ("ndjson", "zstd"), ("csv", "br"), ("csv", "zstd")],
)
async def test_every_cut_of_a_coded_stream_is_told(format: str, coding: Coding, framing: Framing) -> None:
    body = BODIES[format]
    async with asking() as (session, url):
        for cut in cuts(body, framing, coding):
            stream, came, error = await taken(session, url, "open_stream")
            if cut.whole:
                # Behind a gzip member or a zstd frame another might have come, where only the close ends the body.
                framed = framing in ("chunked", "length") or coding == "br"
                end = "proven" if format == "json" else "framed" if framed else "unknown"
                assert (came, error, stream.end) == (body.items, None, end), cut.name
                assert (stream.items_seen, stream.bytes_seen) == (len(came), len(body.data)), cut.name
            else:
                check_cut(stream, body, cut, came, error)


@every_framing
@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("format", COMPLETE)
async def test_every_cut_before_the_end_of_an_end_record_is_told(format: str, coding: Coding, framing: Framing) -> None:
    body = COMPLETE[format]
    async with asking() as (session, url):
        for cut in cuts(body, framing, coding, "Preference-Applied: stream-end"):
            stream, came, error = await taken(session, url, "open_stream")
            if cut.whole:
                assert (came, error, stream.end) == (body.items, None, "proven"), cut.name
            else:
                check_cut(stream, body, cut, came, error)


@every_framing
@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("format", FAILED)
async def test_a_failure_that_is_told_in_the_stream_is_raised_as_soon_as_it_came(
    format: str, coding: Coding, framing: Framing
) -> None:
    body = FAILED[format]
    async with asking() as (session, url):
        for cut in cuts(body, framing, coding, "Preference-Applied: stream-end"):
            stream, came, error = await taken(session, url, "open_stream")
            if cut.bytes < len(body.data):
                check_cut(stream, body, cut, came, error)
            else:
                assert came == body.items, cut.name
                assert isinstance(error, RemoteError), f"{cut.name}: {error!r}"
                assert (error.problem, error.status, error.item_index) == (PROBLEM, 500, len(came)), cut.name
                assert stream.end is None, cut.name


End = Literal["close", "reset", "stall"]


@needs_linux
@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("format", BODIES)
async def test_every_reset_loses_nothing_that_came_before_it(format: str, framing: Framing) -> None:
    body = BODIES[format]
    async with asking(reset=True) as (session, url):
        for cut in cuts(body, framing, ""):
            stream, came, error = await taken(session, url, "open_stream")
            if cut.whole:
                assert (came, error) == (body.items, None), cut.name
            else:
                check_cut(stream, body, cut, came, error)


@needs_linux
@pytest.mark.parametrize("framing", CLOSED)
@pytest.mark.parametrize(("format", "reader"), [*((name, "open_stream") for name in BODIES), ("ndjson", "items")])
async def test_a_reset_is_never_the_end(format: str, framing: Framing, reader: str) -> None:
    body = BODIES[format]
    async with asking(reset=True) as (session, url):
        for cut in cuts(body, framing, ""):
            stream, came, error = await taken(session, url, reader)
            assert came in [body.items_behind(cut.bytes, closed=closed) for closed in (True, False)], cut.name
            if not (body.proves_end and cut.whole):
                assert type(error) is TruncatedError, f"{cut.name}: {error!r}"
                assert (error.items_seen, error.bytes_seen, stream.end) == (len(came), cut.bytes, None), cut.name


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("format", BODIES)
async def test_every_cut_of_what_aiohttp_has_decompressed_is_told_by_its_framing(format: str, framing: Framing) -> None:
    body = BODIES[format]
    async with asking() as (session, url):
        for cut in cuts(body, framing, "gzip"):
            stream, came, error = await taken(session, url, "items")
            if cut.whole:
                assert (came, error, stream.end) == (body.items, None, "proven" if format == "json" else "unknown")
            else:
                check_cut(stream, body, cut, came, error)


class ByHand:
    """A server of one connection, whose bytes and whose end the test holds in its hands.

    Attributes:
        url: where it is.
        taken: how many bytes the kernel took.
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
        """Wait for the request, and send an answer, as fast as it is taken."""
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
        """How many bytes the client's kernel has, at least."""
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
    """Whether aiohttp reads no more, because it has so much that nobody took."""
    return bool(stream.response.content._protocol._reading_paused)


ends = pytest.mark.parametrize("end", ["close", "reset", "stall"])


@needs_linux
@ends
@every_framing
@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("format", BODIES)
async def test_a_reader_that_is_slower_than_the_end_gets_all_that_came(
    format: str, coding: Coding, framing: Framing, end: End
) -> None:
    body = BODIES[format]
    data = coded(body.pieces, coding)
    wire = framed(data, framing)
    size = len(wire) - (14 if framing == "chunked" or coding else 3)  # not behind a record
    cut = Cut(body, framing, coding, wire, size)
    sizes = (Cut(body, framing, coding, wire, at).bytes for at in range(size))
    first = next(at for at, known in enumerate(sizes) if body.items_behind(known, closed=False))
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
        async with chunkwise.open_stream(session, server.url, idle_seconds=0.1 if end == "stall" else 60) as stream:
            with pytest.raises(StalledError if end == "stall" else TruncatedError) as caught:
                await slowly(stream)
        await answering
    expected = cut.items if end == "close" else body.items_behind(cut.bytes, closed=False)
    assert came == expected, caught.value
    assert stream.items_seen == len(came)
    assert stream.bytes_seen == cut.bytes


NOISE = random.Random(1).randbytes(60 * 40_000).hex()
ROWS = [b'{"n":%d,"noise":"%b"}\n' % (n, NOISE[120 * n : 120 * n + 120].encode()) for n in range(40_000)]


async def read_late(
    end: Literal["close", "reset"], framing: Framing, coding: Coding, wire: bytes, *, fits: bool = False
) -> None:
    """Read many rows, which end in the middle, when the server has sent as many as the buffers take."""
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
@pytest.mark.parametrize("end", ["close", "reset"])
@every_framing
@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_of_more_than_all_buffers_hold_nothing_that_came_is_lost(
    coding: Coding, framing: Framing, end: Literal["close", "reset"]
) -> None:
    data = coded([b"".join(ROWS[at : at + 500]) for at in range(0, len(ROWS), 500)], coding)[:-9]
    wire = chunked(*(data[at : at + 60_000] for at in range(0, len(data), 60_000))) if framing == "chunked" else data
    await read_late(end, framing, coding, wire)


@needs_linux
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_of_more_chunks_than_aiohttp_takes_at_once_nothing_that_came_is_lost(
    end: Literal["close", "reset"],
) -> None:
    await read_late(end, "chunked", "", chunked(*(b'{"n":%d}\n' % n for n in range(60_000))))


@needs_linux
@every_framing
async def test_a_reset_behind_all_that_the_buffers_hold_loses_nothing(framing: Framing) -> None:
    data = b"".join(ROWS[:4500])[:-9]
    wire = chunked(data) if framing == "chunked" else data
    assert len(wire) > 600_000
    await read_late("reset", framing, "", wire, fits=True)
