"""Contenders that send a nested document as JSON over HTTP.

The document contains an async iterator of 20,000 rows, an awaitable value and plain data.

The comparison is unfair in these ways:

- The contender with plain aiohttp writes each scalar separately, as a simple recursive function does. One encoder call
  for each row would be much faster. `contenders_rows` measures such calls, but without a nested document.
- The document consists almost entirely of rows from an iterator. With fewer rows, chunkwise would gain less.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec

from benchmarks.contender import Contender, Figures, Task, WrongContent
from benchmarks.draining import body_of, connect, drain, request_text
from benchmarks.rows import live_document, whole_document
from benchmarks.serving import serve_aiohttp


async def nested(request: Any) -> Any:
    """Send a live document, which contains an iterator and an awaitable, with `chunkwise.respond`."""
    import chunkwise

    return await chunkwise.respond(request, live_document(int(request.match_info["count"])), "json")


async def write_a_scalar(request: Any) -> Any:
    """Send the document with plain aiohttp, in one write for each scalar."""
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await write_value(response, live_document(int(request.match_info["count"])))
    await response.write_eof()
    return response


async def write_value(response: Any, value: Any) -> None:
    """Write a value as JSON, each scalar separately; await coroutines and iterate over async iterators."""
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
    """Run an aiohttp server with one of the handlers above. A request to /1000 gets a document with 1000 rows."""
    import chunkwise  # noqa: F401 - so that all aiohttp servers begin with the same memory

    serve_aiohttp({"/{count}": handler})


def read_nested(task: Task) -> Figures:
    """Read the nested document. If ``task.check`` is set, raise `WrongContent` if it differs from the expected one."""
    with connect(task.port) as connection:
        drained = drain(connection, request_text(f"/{task.count}", Accept="*/*"), keep=task.check)
    if task.check and msgspec.json.decode(body_of(drained)) != whole_document(task.count):
        raise WrongContent(f"the received document differs from the expected one, `whole_document({task.count})`")
    return {"seconds": drained.seconds, "bytes": drained.size, "items": task.count}


NESTED = "chunkwise respond(), nested document"
WRITE_A_SCALAR = "aiohttp write() a scalar, recursively"

DOCUMENT = [
    Contender(name=NESTED, server=partial(serve_handler, handler=nested), client=read_nested),
    Contender(name=WRITE_A_SCALAR, server=partial(serve_handler, handler=write_a_scalar), client=read_nested),
]
