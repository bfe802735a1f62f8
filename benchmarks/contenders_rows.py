"""Contenders that send 200,000 rows of an async generator as a JSON array over HTTP.

The comparison is unfair in these ways:

- The generator never waits. A database would be slower than all contenders, and hide their differences.
- The measured times include the creation of the rows, which takes a third of the fastest contender's time. It takes
  equally long for all contenders, so their measured times differ by smaller factors than their own work does.
- FastAPI writes JSON Lines instead of an array, and pydantic checks each row. Its endpoint declares
  ``AsyncIterable[dict[str, Any]]``, so that pydantic's compiled serializer does the work. Without this annotation
  FastAPI takes three to four times as long. Both variants are in the table.
- One of the targets compares chunkwise with a plain aiohttp handler that encodes each row with `json.dumps`. With
  orjson this handler is faster. Both variants are in the table.
- uvicorn runs on uvloop and httptools. aiohttp, and therefore chunkwise, runs on asyncio's own loop.
- chunkwise lets other tasks run after each write, and checks for stalled and disconnected clients. A loop over rows in
  a plain aiohttp handler does neither (see `contenders_latency`).
- The client reads the response and discards it. It runs on another core than the server, so the server loses no
  processor time to it.
- "bare loop" creates the same rows, encodes as many of them per call as chunkwise, and discards the bytes. Unlike
  chunkwise it does not measure the time and the size of a batch, and it has no client. `sendfile` sends bytes that were
  prepared in advance.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

import msgspec

from benchmarks.contender import Contender, Figures, Task, WrongContent
from benchmarks.draining import body_of, connect, drain, request_text
from benchmarks.rows import row, row_text, rows
from benchmarks.serving import serve_aiohttp, serve_asgi, serve_sockets

ROWS_IN_A_CALL = 256
"""The rows that the bare loop encodes at once: the most that chunkwise does (`_MAX_BATCH` in `flow/gathering.py`)."""

# Servers. Each one responds to a request for /1000 with 1000 rows.


async def ours(request: Any) -> Any:
    """Send the rows with `chunkwise.respond`."""
    import chunkwise

    return await chunkwise.respond(request, rows(int(request.match_info["count"])), "json")


async def write_a_row(request: Any, *, with_orjson: bool = False) -> Any:
    """Send each row with plain aiohttp, in a write of its own."""
    from aiohttp import web

    encode: Callable[[Any], bytes] = _standard
    if with_orjson:
        import orjson

        encode = orjson.dumps
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    before = b"["
    async for item in rows(int(request.match_info["count"])):
        await response.write(before + encode(item))
        before = b","
    await response.write(b"]")
    await response.write_eof()
    return response


def _standard(item: Any) -> bytes:
    return json.dumps(item).encode()


async def buffered(request: Any) -> Any:
    """Collect all rows, then send them as one body with plain aiohttp."""
    import orjson
    from aiohttp import web

    everything = [item async for item in rows(int(request.match_info["count"]))]
    return web.Response(body=orjson.dumps(everything), content_type="application/json")


def serve_handler(_: int, handler: Any) -> None:
    """Run an aiohttp server with one of the handlers above. A request to /1000 gets 1000 rows."""
    import chunkwise  # noqa: F401 - so that all aiohttp servers begin with the same memory

    if handler is buffered:
        import orjson  # noqa: F401 - before the first request, so that its memory is not measured
    serve_aiohttp({"/{count}": handler})


def serve_fastapi(_: int, *, hinted: bool) -> None:
    """Serve JSON Lines with FastAPI and an endpoint that yields rows.

    If ``hinted`` is set, the endpoint has a return annotation, which makes FastAPI faster.
    """
    from fastapi import FastAPI

    app = FastAPI()

    async def with_hint(count: int) -> AsyncIterable[dict[str, Any]]:
        async for item in rows(count):
            yield item

    async def without(count: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - measured without the annotation
        async for item in rows(count):
            yield item

    app.get("/{count}")(with_hint if hinted else without)
    serve_asgi(app)


def serve_starlette(_: int) -> None:
    """Serve the rows with Starlette's StreamingResponse and a generator that encodes each row with orjson."""
    import orjson
    from starlette.applications import Starlette
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    async def parts(count: int) -> AsyncIterator[bytes]:
        before = b"["
        async for item in rows(count):
            yield before + orjson.dumps(item)
            before = b","
        yield b"]"

    async def handle(request: Any) -> Any:
        return StreamingResponse(parts(int(request.path_params["count"])), media_type="application/json")

    serve_asgi(Starlette(routes=[Route("/{count}", handle)]))


def serve_node(_: int, way: str) -> None:
    """Replace this process with Node, which runs the server in `contenders_node.mjs`."""
    script = Path(__file__).with_name("contenders_node.mjs")
    os.execvp("node", ["node", str(script), way])


def serve_file(ready: int) -> None:
    """Serve prepared bytes with `sendfile`. It shows how fast the kernel can send the same rows at most."""

    @cache
    def file_of(count: int) -> IO[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the file stays open until the process ends
        file.write(b"[" + b",".join(row_text(index).encode() for index in range(count)) + b"]")
        file.flush()
        return file

    def respond(connection: socket.socket) -> None:
        while request := connection.recv(65536):
            file = file_of(int(request.split()[1][1:]))
            size = os.fstat(file.fileno()).st_size
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            connection.sendfile(file, 0)

    file_of(ready)
    serve_sockets(respond)


# Clients.


def read_rows(task: Task, *, lines: bool = False) -> Figures:
    """Read a response with rows and discard it. If ``task.check`` is set, compare the rows with the expected ones."""
    with connect(task.port) as connection:
        drained = drain(connection, request_text(f"/{task.count}", Accept="*/*"), keep=task.check)
    if task.check:
        text = body_of(drained)
        got = msgspec.json.decode(b"[" + text.strip().replace(b"\n", b",") + b"]" if lines else text)
        if got != [row(index) for index in range(task.count)]:
            raise WrongContent(
                f"the {len(got)} received rows differ in number or content from the {task.count} expected rows"
            )
    return {"seconds": drained.seconds, "bytes": drained.size, "items": task.count}


def run_bare_loop(task: Task) -> Figures:
    """Create and encode ``task.count`` rows in batches, as chunkwise does, but without HTTP."""
    kept: list[bytes] = []

    async def loop() -> int:
        encode, size, batch = msgspec.json.Encoder().encode, 0, []
        async for item in rows(task.count):
            batch.append(item)
            if len(batch) == ROWS_IN_A_CALL:
                data = encode(batch)
                batch = []
                size += len(data)
                if task.check:
                    kept.append(data)
        data = encode(batch)
        kept.append(data)
        return size + len(data)

    started = time.perf_counter()
    size = asyncio.run(loop())
    seconds = time.perf_counter() - started
    got = [item for data in kept for item in msgspec.json.decode(data)]
    if task.check and got != [row(index) for index in range(task.count)]:
        raise WrongContent(
            f"the {len(got)} encoded rows differ in number or content from the {task.count} expected rows"
        )
    return {"seconds": seconds, "bytes": size, "items": task.count}


OURS = "chunkwise respond(), JSON array"
FASTAPI = "FastAPI JSON Lines, AsyncIterable[dict]"
STARLETTE = "Starlette StreamingResponse, orjson a row"
WRITE_A_ROW = "aiohttp write(json.dumps(row)) a row"
BUFFERED = "aiohttp web.Response(orjson.dumps(all))"
BARE_LOOP = "bare loop without HTTP (limit)"

UVICORN = ("uvicorn", "httptools", "uvloop") if sys.platform != "win32" else ("uvicorn", "httptools")
"""The modules that `serve_asgi` needs."""
_lines = partial(read_rows, lines=True)

ARRAY = [
    Contender(name=OURS, server=partial(serve_handler, handler=ours), client=read_rows),
    Contender(name=FASTAPI, server=partial(serve_fastapi, hinted=True), client=_lines, needs=("fastapi", *UVICORN)),
    Contender(
        name="FastAPI JSON Lines, no hint",
        server=partial(serve_fastapi, hinted=False),
        client=_lines,
        needs=("fastapi", *UVICORN),
    ),
    Contender(name=STARLETTE, server=serve_starlette, client=read_rows, needs=("starlette", "orjson", *UVICORN)),
    Contender(name=WRITE_A_ROW, server=partial(serve_handler, handler=write_a_row), client=read_rows),
    Contender(
        name="aiohttp write(orjson.dumps(row)) a row",
        server=partial(serve_handler, handler=partial(write_a_row, with_orjson=True)),
        client=read_rows,
        needs=("orjson",),
    ),
    Contender(name=BUFFERED, server=partial(serve_handler, handler=buffered), client=read_rows, needs=("orjson",)),
    Contender(name="Node http, write() a row", server=partial(serve_node, way="row"), client=read_rows, program="node"),
    Contender(
        name="Node http, 64 KiB a write()", server=partial(serve_node, way="piece"), client=read_rows, program="node"
    ),
    Contender(name=BARE_LOOP, client=run_bare_loop, on_server_core=True),
    Contender(name="sendfile of the same bytes (limit)", server=serve_file, client=read_rows),
]
