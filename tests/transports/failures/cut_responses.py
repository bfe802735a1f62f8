"""HTTP responses of every format, framing and coding -> the items that a client must get when they are cut at any byte.

The bodies are written by hand with marks, so that the expected items do not depend on our decoders.
"""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import brotli  # type: ignore[import-untyped]
from aiohttp import ClientSession

import chunkwise
from chunkwise import FORMATS, StreamError, TruncatedError
from chunkwise.flow.inbound import ItemStream
from tests.each_row import each_row
from tests.transports.reading import LAST, read
from tests.transports.wire import body_of, chunked, url_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Mark = Literal["item", "maybe", "quiet", ""]
"""The state after some bytes: one more item is complete ("item"), or is complete if the body ends here ("maybe"); the
body may end here ("quiet"), or more bytes must follow ("")."""

Step = tuple[bytes, Mark]


class Body:
    """A stream, and its items after each of its bytes.

    Attributes:
        pieces: the bytes, in the parts that a content coding flushes.
        proves_end: whether the bytes alone prove the end.
        closed: for each size at which the format allows the end, the number of items.
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

    def items_after(self, size: int, *, closed: bool) -> list[Any]:
        """Return the items that are complete after ``size`` bytes, in a stream that continues, or was closed."""
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

END_RECORDS = {  # the start and end of an end record in each format
    "ndjson": (b' {"stream-end":', b"}\n"),
    "json-seq": (b'\x1e {"stream-end":', b"}\n"),
    "sse": (b"event: stream-end\ndata: ", b"\n\n"),
}
PROBLEM = {"title": "Internal Server Error", "status": 500}


def with_end(body: Body, status: str, problem: str = "") -> Body:
    """Return a body with an end record added."""
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
    """Return the pieces in a content coding, with a flush after each."""
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
    """Count the bytes that a coding's own engine decodes from the beginning of a coded stream."""
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
    """Return the body as it is sent; the borders of chunks differ from those of items."""
    if framing != "chunked":
        return data
    third = len(data) // 3
    return chunked(data[:third], data[third : 2 * third], data[2 * third :]) + LAST


def content_of(wire: bytes, framing: Framing) -> bytes:
    return body_of(b"\r\n\r\n" + wire) if framing == "chunked" else wire


class Answering:
    """A server that sends each client the current response, then closes; and a session to request it.

    Attributes:
        response: the bytes of the current response.
        url: the URL of the server.
    """

    def __init__(self, session: ClientSession, *, reset: bool) -> None:
        self.response = b""
        self.session = session
        self.url = ""
        self._reset = reset

    def protocol(self) -> asyncio.Protocol:
        """Serve one connection."""
        return _Connection(self.response, reset=self._reset)


class _Connection(asyncio.Protocol):
    _transport: asyncio.Transport

    def __init__(self, response: bytes, *, reset: bool) -> None:
        self._request = b""
        self._response = response
        self._reset = reset

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._request += data
        if self._request.endswith(b"\r\n\r\n"):
            self._transport.write(self._response)
            self._close()

    def _close(self) -> None:
        connection = self._transport.get_extra_info("socket")
        if not self._reset:
            self._transport.close()
        elif unsent(connection):  # a reset discards bytes that the client's kernel does not have
            asyncio.get_running_loop().call_later(0.001, self._close)
        else:
            reset(connection)
            self._transport.abort()


def unsent(connection: socket.socket) -> int:
    """Return how many bytes the client's kernel may not have yet."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def reset(connection: socket.socket) -> None:
    """Make the close of the connection a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def answering(*, reset: bool = False) -> AsyncIterator[Answering]:
    """Start a server whose responses `cuts` sets; with `reset` it ends each connection with a reset."""
    async with ClientSession() as session:
        it = Answering(session, reset=reset)
        server = await asyncio.get_running_loop().create_server(it.protocol, "127.0.0.1", 0)
        async with server:
            it.url = url_of(server.sockets[0].getsockname()[1])
            yield it


async def taken(it: Answering, reader: str) -> tuple[ItemStream, list[Any], StreamError | None]:
    """Read one response to its end; return the stream, its items, and the error after them."""
    if reader == "items":
        async with it.session.get(it.url) as response:
            inbound = chunkwise.items(response)
            return inbound, *await read(inbound)
    async with chunkwise.open_stream(it.session, it.url) as stream:
        return stream, *await read(stream)


class Cut:
    """One response that is cut off, and what a client must receive from it.

    Attributes:
        name: a description for reports.
        whole: whether nothing is missing.
        bytes: how many bytes of the content the response holds.
        silent: whether the cut response looks complete.
        items: the items that the response holds.
    """

    def __init__(self, body: Body, framing: Framing, coding: Coding, wire: bytes, size: int) -> None:
        self.name = f"{body.format}, {framing}, {coding}: byte {size} of {len(wire)}, after {wire[:size][-20:]!r}"
        self.whole = size == len(wire)
        self.bytes = bytes_in(content_of(wire[:size], framing), coding)
        closed = framing in CLOSED and not coding
        self.silent = closed and not body.proves_end and self.bytes in body.closed
        self.items = body.items_after(self.bytes, closed=closed)


def cuts(it: Answering, body: Body, framing: Framing, coding: Coding, *headers: str) -> Iterator[Cut]:
    """Let the server send a response cut after each of its bytes; yield what a client must receive."""
    data = coded(body.pieces, coding)
    wire = framed(data, framing)
    start = head_of(body, framing, coding, len(data), *headers)
    for size in range(len(wire) + 1):
        it.response = start + wire[:size]
        yield Cut(body, framing, coding, wire, size)


def check_cut(stream: ItemStream, body: Body, cut: Cut, came: list[Any], error: StreamError | None) -> None:
    """Check that a stream which stops early is reported as cut, after all its items."""
    assert came == cut.items, f"{cut.name}: got {came}, expected {cut.items}; {error!r}"
    assert type(error) is TruncatedError, f"{cut.name}: {error!r}"
    assert error.items_seen == stream.items_seen == len(came), f"{cut.name}: {error}"
    assert error.bytes_seen == stream.bytes_seen == cut.bytes, f"{cut.name}: {error}"
    assert error.format == (body.format if cut.bytes else error.format), f"{cut.name}: {error}"
    assert stream.end is None, f"{cut.name}: {stream.end}"


every_framing = each_row("framing", FRAMINGS)
