"""Contenders that send 100,000 small server-sent events from an async generator, and others that read such events.

Other measurements feed one large event to chunkwise's decoder.

The comparison is partly unfair. Consider these points when you read the figures:

- chunkwise sends an ``id`` with each event. The others do not, so they have less to write.
- sse-starlette and aiohttp-sse take text, so their generators encode it with orjson. FastAPI encodes the values with
  pydantic's serializer, since the endpoint declares their type.
- FastAPI and sse-starlette check for disconnected clients and send pings during silence, as chunkwise does.
- The readers other than chunkwise return the data as text, which the benchmark decodes with orjson. httpx-sse uses
  httpx, which takes most of its time. aiohttp-sse-client would wait and reconnect at the end of the stream. To prevent
  this, the benchmark stops reading after the last event, and does not see whether the stream was complete.
- One event of 8 MB is fed to chunkwise's decoder without a network, in one piece or in pieces of 1 KiB. The question is
  whether the work grows with the number of pieces. The event's data is one string, which is decoded so fast that the
  calls for the pieces take most of the time. If the data is a list of rows, which is in the table too, the pieces
  matter less.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from benchmarks.contender import Client, Contender, Figures, Task, WrongContent
from benchmarks.contenders_rows import UVICORN
from benchmarks.draining import body_of, connect, drain, request_text
from benchmarks.rows import event, event_stream, events, row
from benchmarks.serving import serve_aiohttp, serve_asgi, serve_bytes
from benchmarks.taking import Taken

# Servers. Each one responds to a request for /1000 with 1000 events.


async def ours(request: Any) -> Any:
    """Send the events with `chunkwise.respond`."""
    import chunkwise

    return await chunkwise.respond(request, events(int(request.match_info["count"])), "sse")


async def with_aiohttp_sse(request: Any) -> Any:
    """Send each event with aiohttp-sse's `send`."""
    import orjson
    from aiohttp_sse import sse_response

    async with sse_response(request) as response:
        async for item in events(int(request.match_info["count"])):
            await response.send(orjson.dumps(item).decode())
    return response


def serve_handler(_: int, handler: Any) -> None:
    """Run an aiohttp server with one of the handlers above. A request to /1000 gets 1000 events."""
    import chunkwise  # noqa: F401 - so that all aiohttp servers begin with the same memory

    serve_aiohttp({"/{count}": handler})


def serve_stream(ready: int) -> None:
    """Serve events as ready text. The text of ``ready`` events is created before the first request."""
    serve_bytes(ready, lambda count: b"".join(event_stream(count)), "text/event-stream")


def serve_fastapi(_: int) -> None:
    """Serve the events with FastAPI's own EventSourceResponse and an endpoint that yields."""
    from fastapi import FastAPI
    from fastapi.sse import EventSourceResponse

    app = FastAPI()

    async def handle(count: int) -> AsyncIterable[dict[str, Any]]:
        async for item in events(count):
            yield item

    app.get("/{count}", response_class=EventSourceResponse)(handle)
    serve_asgi(app)


def serve_sse_starlette(_: int) -> None:
    """Serve the events of a generator with sse-starlette's EventSourceResponse."""
    import orjson
    from sse_starlette import EventSourceResponse
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def parts(count: int) -> AsyncIterator[dict[str, str]]:
        async for item in events(count):
            yield {"data": orjson.dumps(item).decode()}

    async def handle(request: Any) -> Any:
        return EventSourceResponse(parts(int(request.path_params["count"])))

    serve_asgi(Starlette(routes=[Route("/{count}", handle)]))


# Clients.


def read_events(task: Task) -> Figures:
    """Read a response with events and discard it. If ``task.check`` is set, compare them with the expected events."""
    with connect(task.port) as connection:
        drained = drain(connection, request_text(f"/{task.count}", Accept="text/event-stream"), keep=task.check)
    if task.check:
        texts = re.findall(rb"^data: (.*?)\r?$", body_of(drained), re.MULTILINE)
        if [msgspec.json.decode(text) for text in texts] != [event(index) for index in range(task.count)]:
            raise WrongContent(f"received {len(texts)} events, expected {task.count}: their number or data differs")
    return {"seconds": drained.seconds, "bytes": drained.size, "items": task.count}


Reader = Callable[[str, Taken], Awaitable[None]]
"""Reads the server-sent events of a URL and decodes the data of each."""


async def read_ours(url: str, taken: Taken) -> None:
    """Read the events with `chunkwise.items`."""
    from aiohttp import ClientSession

    import chunkwise

    async with ClientSession() as session, session.get(url) as response:
        await taken.one_by_one(chunkwise.items(response))


async def read_httpx_sse(url: str, taken: Taken) -> None:
    """Read the events with httpx and httpx-sse's `aiter_sse`."""
    import httpx
    import orjson
    from httpx_sse import aconnect_sse

    async with httpx.AsyncClient(trust_env=False) as client, aconnect_sse(client, "GET", url) as source:
        await taken.one_by_one(orjson.loads(received.data) async for received in source.aiter_sse())


async def read_aiohttp_sse_client(url: str, taken: Taken) -> None:
    """Read the events with aiohttp-sse-client's `EventSource`."""
    import orjson
    from aiohttp_sse_client.client import EventSource

    async with EventSource(url) as source:
        await taken.one_by_one(orjson.loads(received.data) async for received in source)


def run_reader(task: Task, reader: Reader, imports: tuple[str, ...], *, leaves: bool = False) -> Figures:
    """Measure how long a reader takes for all events.

    With ``leaves``, the reader stops after the last event, because at the end of the stream it would reconnect.
    """
    for name in imports:
        importlib.import_module(name)
    taken = Taken(keep=task.check, last=task.count if leaves else 0)

    async def read() -> float:
        started = time.perf_counter()
        await reader(f"http://127.0.0.1:{task.port}/{task.count}", taken)
        return time.perf_counter() - started

    seconds = asyncio.run(read())
    taken.expect([event(index) for index in range(task.count)] if task.check else [], task.count)
    return {"seconds": seconds, "items": taken.count}


def feed_large(task: Task, *, piece_bytes: int, string: bool) -> Figures:
    """Feed one event of ``task.count`` MB to a decoder, in pieces of ``piece_bytes``; 0 feeds it in one piece."""
    from chunkwise import FORMATS

    size = task.count * 1_000_000
    data: Any = "word " * (size // 5) if string else [row(index) for index in range(size // 177)]
    text = b"data: " + msgspec.json.encode(data) + b"\n\n"
    step = piece_bytes or len(text)
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    decoder = FORMATS["sse"].decoder()
    got: list[Any] = []
    started = time.perf_counter()
    for piece in pieces:
        got += decoder.feed(piece)
    got += decoder.finish(framed=True)
    seconds = time.perf_counter() - started
    if got != [data]:
        raise WrongContent(f"the decoder returned {len(got)} items, expected exactly the one event that was fed to it")
    return {"seconds": seconds, "bytes": len(text), "items": 1}


def _reader(reader: Reader, *imports: str, leaves: bool = False) -> Client:
    return partial(run_reader, reader=reader, imports=imports, leaves=leaves)


OURS = "chunkwise respond(), SSE"
FASTAPI = "FastAPI SSE, AsyncIterable[dict]"
SSE_STARLETTE = "sse-starlette, orjson an event"
PIECES = "chunkwise decoder, event of one string in 1 KiB pieces"
WHOLE = "chunkwise decoder, event of one string whole"

SENT = [
    Contender(name=OURS, server=partial(serve_handler, handler=ours), client=read_events),
    Contender(name=FASTAPI, server=serve_fastapi, client=read_events, needs=("fastapi", *UVICORN)),
    Contender(
        name=SSE_STARLETTE,
        server=serve_sse_starlette,
        client=read_events,
        needs=("sse_starlette", "starlette", "orjson", *UVICORN),
    ),
    Contender(
        name="aiohttp-sse, orjson an event",
        server=partial(serve_handler, handler=with_aiohttp_sse),
        client=read_events,
        needs=("aiohttp_sse", "orjson"),
    ),
]

READ = [
    Contender(name="chunkwise items(), SSE", server=serve_stream, client=_reader(read_ours, "chunkwise")),
    Contender(
        name="httpx-sse over httpx, orjson an event",
        server=serve_stream,
        client=_reader(read_httpx_sse, "httpx", "httpx_sse", "orjson"),
        needs=("httpx", "httpx_sse", "orjson"),
    ),
    Contender(
        name="aiohttp-sse-client, orjson an event",
        server=serve_stream,
        client=_reader(read_aiohttp_sse_client, "aiohttp_sse_client.client", "orjson", leaves=True),
        needs=("aiohttp_sse_client", "orjson"),
    ),
]

LARGE = [
    Contender(name=PIECES, client=partial(feed_large, piece_bytes=1024, string=True)),
    Contender(name=WHOLE, client=partial(feed_large, piece_bytes=0, string=True)),
    Contender(name="... event of rows in 1 KiB pieces", client=partial(feed_large, piece_bytes=1024, string=False)),
    Contender(name="... event of rows whole", client=partial(feed_large, piece_bytes=0, string=False)),
]
