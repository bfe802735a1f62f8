"""A document with 20,000 rows, an awaitable and plain data inside -> its JSON over HTTP.

Benchmarks are hard; what is unfair here:

- A write for each scalar is what a recursive writer does that knows nothing of batches; writing each row with one call
  of an encoder would be much faster, and is what `contenders_rows` has for rows alone.
- The rows are nearly all of the document: with less in iterators, and more in plain data, there is less to gain.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec

from benchmarks.contender import Contender, Task, Told, WrongContent
from benchmarks.draining import body_of, connect, drain, request_text
from benchmarks.rows import live_document, whole_document
from benchmarks.serving import serve_aiohttp


async def nested(request: Any) -> Any:
    """`respond` with a live document."""
    import chunkwise

    return await chunkwise.respond(request, live_document(int(request.match_info["count"])), "json")


async def write_a_scalar(request: Any) -> Any:
    """A plain aiohttp handler that walks the document, and writes whatever it meets."""
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await write_value(response, live_document(int(request.match_info["count"])))
    await response.write_eof()
    return response


async def write_value(response: Any, value: Any) -> None:
    """Write a value part by part, waiting for what has to be waited for."""
    if asyncio.iscoroutine(value):
        value = await value
    if isinstance(value, dict):
        before = b"{"
        for name, member in value.items():
            await response.write(before)
            await response.write(json.dumps(name).encode())
            await response.write(b":")
            await write_value(response, member)
            before = b","
        await response.write(b"}" if value else b"{}")
    elif isinstance(value, list):
        before = b"["
        for element in value:
            await response.write(before)
            await write_value(response, element)
            before = b","
        await response.write(b"]" if value else b"[]")
    elif isinstance(value, AsyncIterator):
        await response.write(b"[")
        before = b""
        async for element in value:
            if before:
                await response.write(before)
            await write_value(response, element)
            before = b","
        await response.write(b"]")
    else:
        await response.write(json.dumps(value).encode())


def serve_handler(_: int, handler: Any) -> None:
    """Serve one of the handlers above."""
    import chunkwise  # noqa: F401 - so that the rival's process begins with as much memory

    serve_aiohttp({"/{count}": handler})


def read_nested(task: Task) -> Told:
    """Drain the nested document; look at it if asked to."""
    with connect(task.port) as connection:
        drained = drain(connection, request_text(f"/{task.count}", Accept="*/*"), keep=task.check)
    if task.check and msgspec.json.decode(body_of(drained)) != whole_document(task.count):
        raise WrongContent("another document than the one that was to come")
    return {"seconds": drained.seconds, "bytes": drained.size, "items": task.count}


NESTED = "chunkwise respond(), nested document"
WRITE_A_SCALAR = "aiohttp write() a scalar, recursively"

DOCUMENT = [
    Contender(name=NESTED, server=partial(serve_handler, handler=nested), client=read_nested),
    Contender(name=WRITE_A_SCALAR, server=partial(serve_handler, handler=write_a_scalar), client=read_nested),
]
