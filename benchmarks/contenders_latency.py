"""Contenders for three measurements: pings during fast streams, memory of idle streams, and time to the first byte.

A ping is a short request, whose response shows how long a stream delays other users of the same server. The rival of
chunkwise is a bare handler, which only writes each item with plain aiohttp.

The comparison is partly unfair. Consider these points when you read the figures:

- **Pings.** Two streams whose source never waits share the event loop with the handler that responds to pings. Plain
  aiohttp lets other tasks run only when the socket is full, and this client reads so fast that the socket is never
  full. With an occasional `sleep(0)` in the bare handler, the responses to pings would arrive sooner. A ping is due
  every 10 ms. It is sent late if the previous ping has no response yet. Its time is still measured from the moment when
  it was due, since a user's request at that moment would have to wait as well.
- **Idle streams.** Each stream has sent one event and waits. Unlike the bare handler, chunkwise checks for disconnected
  clients, sends keepalives and has a stall limit. The memory that the kernel uses for sockets is not measured.
- **First byte.** The client sends one request after the other on one connection. The source yields one item at once,
  and another one after one turn of the event loop. The bare handler negotiates no format, and cannot report a failure
  before the first item.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from benchmarks.contender import Contender, Figures, Task, WrongContent, allow_many_files, resident_kib
from benchmarks.draining import BUFFER_BYTES, LAST_CHUNK, Cut, body_of, connect, drain, read_head, request_text
from benchmarks.rows import event, row, rows
from benchmarks.serving import serve_aiohttp

PING_SECONDS = 0.01
"""The time between two pings, in seconds."""

SETTLE_SECONDS = 1.2
"""The time in seconds that streams are idle before memory is measured, long enough for chunkwise's periodic checks."""


async def bare(request: Any, items: AsyncIterator[Any], content_type: str, form: Callable[[Any], bytes]) -> Any:
    """Send each item with plain aiohttp, in a write of its own. ``form`` encodes an item."""
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": content_type})
    await response.prepare(request)
    async for item in items:
        await response.write(form(item))
    await response.write_eof()
    return response


def serve(_: int, source: Callable[[int], AsyncIterator[Any]], *, with_ours: bool, sse: bool = False) -> None:
    """Serve the items of ``source(1000)`` at /1000, a short text at /ping, and the server's memory at /resident."""
    from aiohttp import web

    import chunkwise

    def line(item: Any) -> bytes:
        return json.dumps(item).encode() + b"\n"

    def block(item: Any) -> bytes:
        return f"data: {json.dumps(item)}\n\n".encode()

    async def stream(request: Any) -> Any:
        items = source(int(request.match_info["count"]))
        if with_ours:
            return await chunkwise.respond(request, items, "sse" if sse else "ndjson")
        return await bare(request, items, *(("text/event-stream", block) if sse else ("application/x-ndjson", line)))

    async def ping(_: Any) -> Any:
        return web.Response(text="pong")

    async def resident(_: Any) -> Any:
        return web.Response(text=str(resident_kib()))

    allow_many_files()
    serve_aiohttp({"/ping": ping, "/resident": resident, "/{count}": stream})


# The code below measures pings.


class HotStream:
    """The client's side of a fast stream. It reads the data and discards it."""

    def __init__(self, port: int, count: int) -> None:
        self.connection = connect(port)
        self.connection.sendall(request_text(f"/{count}"))
        self.bytes = 0
        self.ended = False
        self._tail = b""

    def read(self, buffer: memoryview) -> None:
        """Read the bytes that are available, and set ``ended`` if they end with the last chunk."""
        size = self.connection.recv_into(buffer)
        if not size:
            raise Cut(f"the server closed a fast stream after {self.bytes} bytes, before the last chunk")
        self.bytes += size
        self._tail = (self._tail + buffer[max(0, size - 7) : size])[-7:]
        self.ended = self._tail == LAST_CHUNK


def ping_beside_streams(task: Task) -> Figures:
    """Measure the responses to pings while two streams of ``task.count`` rows run. Stop when the first stream ends."""
    if task.check:
        with connect(task.port) as connection:
            lines = body_of(drain(connection, request_text(f"/{task.count}"), keep=True)).splitlines()
        if [json.loads(line) for line in lines] != [row(index) for index in range(task.count)]:
            raise WrongContent(
                f"the {len(lines)} received rows differ in number or content from the {task.count} expected rows"
            )
    buffer = memoryview(bytearray(BUFFER_BYTES))
    request = request_text("/ping")
    with connect(task.port) as pinger, selectors.DefaultSelector() as selector:
        drain(pinger, request)
        streams = [HotStream(task.port, task.count) for _ in range(2)]
        for stream in streams:
            selector.register(stream.connection, selectors.EVENT_READ, stream)
        selector.register(pinger, selectors.EVENT_READ)
        started = time.perf_counter()
        waits: list[float] = []
        due, asked = started, False
        while asked or not any(stream.ended for stream in streams):
            now = time.perf_counter()
            if not asked and now >= due:
                pinger.sendall(request)
                asked = True
            ready = selector.select(None if asked else max(0.0, due - now))
            # The response to a ping is read first, so that reading the streams does not add to its time.
            for key, _ in sorted(ready, key=lambda pair: pair[0].data is not None):
                if key.data is None:
                    read_pong(pinger)
                    waits.append(time.perf_counter() - due)
                    due, asked = due + PING_SECONDS, False
                else:
                    key.data.read(buffer)
                    if key.data.ended:
                        selector.unregister(key.fileobj)
        seconds = time.perf_counter() - started
        for stream in streams:
            stream.connection.close()
    cuts = statistics.quantiles(waits, n=100, method="inclusive") if len(waits) > 1 else waits * 99
    return {
        "seconds": seconds,
        "p99_ms": cuts[98] * 1000,
        "median_ms": cuts[49] * 1000,
        "items": len(waits),
        "bytes": sum(stream.bytes for stream in streams),
    }


def read_pong(connection: socket.socket) -> None:
    """Read the response to a ping."""
    _, rest = read_head(connection)
    while len(rest) < 4:
        rest += connection.recv(4)


# The code below measures idle streams.


async def one_event_and_wait(_: int) -> AsyncIterator[Any]:
    """Yield one event, then wait until the source is closed."""
    yield event(0)
    await asyncio.get_running_loop().create_future()


def open_idle_streams(task: Task) -> Figures:
    """Open ``task.count`` idle streams and return by how much each one increases the server's memory.

    As a warm-up, a tenth as many streams are opened before the measurement. Their memory is not counted.
    """
    allow_many_files()
    open_before: list[socket.socket] = []
    with connect(task.port) as asker:
        open_before = [*_open_many(task.port, max(1, task.count // 10))]
        before = _resident(asker)
        started = time.perf_counter()
        streams = [*_open_many(task.port, task.count)]
        seconds = time.perf_counter() - started
        after = _resident(asker)
        for connection in streams + open_before:
            connection.close()
    return {"seconds": seconds, "kib_each": (after - before) / task.count, "items": task.count}


def _open_many(port: int, count: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    while len(opened) < count:
        some = [connect(port) for _ in range(min(100, count - len(opened)))]
        for connection in some:
            connection.sendall(request_text("/1", Accept="text/event-stream"))
        for connection in some:
            _, data = read_head(connection)
            while b"\n\n" not in data:
                more = connection.recv(65536)
                if not more:
                    raise Cut("an idle stream ended before its first event")
                data += more
            if json.dumps(event(0)).replace(" ", "").encode() not in data.replace(b" ", b""):
                raise WrongContent(f"an idle stream began with {data!r}, expected the event {event(0)!r}")
        opened += some
    return opened


def _resident(asker: socket.socket) -> float:
    time.sleep(SETTLE_SECONDS)
    return float(body_of(drain(asker, request_text("/resident"), keep=True)))


# The code below measures the time to the first byte.


async def two_items(_: int) -> AsyncIterator[Any]:
    """Yield one item at once, and another one after giving the event loop one turn."""
    yield row(0)
    await asyncio.sleep(0)
    yield row(1)


def ask_for_first_bytes(task: Task) -> Figures:
    """Send ``task.count`` requests, one by one, on one connection. Return the median time to the body's first byte."""
    waits: list[float] = []
    request = request_text("/2", Accept="*/*")
    with connect(task.port) as connection:
        for _ in range(task.count):
            drained = drain(connection, request, keep=task.check)
            waits.append(drained.first_byte_seconds)
            if task.check and [json.loads(line) for line in body_of(drained).splitlines()] != [row(0), row(1)]:
                raise WrongContent(f"received {bytes(drained.body)!r}, expected the rows {row(0)!r} and {row(1)!r}")
    return {"seconds": sum(waits), "first_byte_ms": statistics.median(waits) * 1000, "items": task.count}


PINGS = "chunkwise respond(), p99 of pings"
BARE_PINGS = "aiohttp write() a row, p99 of pings"
IDLE = "chunkwise respond(), idle SSE streams"
BARE_IDLE = "aiohttp StreamResponse, idle SSE streams"
FIRST_BYTE = "chunkwise respond(), first byte"
BARE_FIRST_BYTE = "aiohttp StreamResponse, first byte"

HOT = [
    Contender(name=PINGS, server=partial(serve, source=rows, with_ours=True), client=ping_beside_streams),
    Contender(name=BARE_PINGS, server=partial(serve, source=rows, with_ours=False), client=ping_beside_streams),
]

SILENT = [
    Contender(
        name=IDLE, server=partial(serve, source=one_event_and_wait, with_ours=True, sse=True), client=open_idle_streams
    ),
    Contender(
        name=BARE_IDLE,
        server=partial(serve, source=one_event_and_wait, with_ours=False, sse=True),
        client=open_idle_streams,
    ),
]

FIRST = [
    Contender(name=FIRST_BYTE, server=partial(serve, source=two_items, with_ours=True), client=ask_for_first_bytes),
    Contender(
        name=BARE_FIRST_BYTE, server=partial(serve, source=two_items, with_ours=False), client=ask_for_first_bytes
    ),
]
