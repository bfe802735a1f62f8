"""100,000 small server-sent events: from an async generator to a drained socket, and from a server to their items.

The comparison is unfair in these ways:

- chunkwise sends an ``id`` with each event. The others do not, so they have less to write.
- sse-starlette and aiohttp-sse take text, so their generators encode it with orjson. FastAPI encodes the values with
  pydantic's serializer, since the endpoint declares their type.
- FastAPI and sse-starlette check for disconnected clients and send pings during silence, as chunkwise does.
- The other readers return the data as text, which is then decoded with orjson. httpx-sse uses httpx, which takes most
  of its time. aiohttp-sse-client would wait and reconnect at the end of the stream, so its loop is left before the end.
  It therefore never sees whether the stream was complete.
- The event of 8 MB is fed without a network, in one piece or in pieces of 1 KiB. The question is whether the work grows
  with the number of pieces. Its data is one string, which decodes so fast that little remains but a call for each
  piece. With a list of rows, which is in the table too, the pieces matter less.
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

# Servers: each responds to /COUNT.


async def ours(request: Any) -> Any:
    """Respond with `respond`."""
    import chunkwise

    return await chunkwise.respond(request, events(int(request.match_info["count"])), "sse")


async def with_aiohttp_sse(request: Any) -> Any:
    """Call aiohttp-sse's `send` for each event."""
    import orjson
    from aiohttp_sse import sse_response

    async with sse_response(request) as response:
        async for item in events(int(request.match_info["count"])):
            await response.send(orjson.dumps(item).decode())
    return response


def serve_handler(_: int, handler: Any) -> None:
    """Serve one of the handlers above."""
    import chunkwise  # noqa: F401 - so that all processes begin with the same memory

    serve_aiohttp({"/{count}": handler})


def serve_stream(ready: int) -> None:
    """Serve the prepared text of the events."""
    serve_bytes(ready, lambda count: b"".join(event_stream(count)), "text/event-stream")


def serve_fastapi(_: int) -> None:
    """Serve with FastAPI's own server-sent events: an endpoint that yields."""
    from fastapi import FastAPI
    from fastapi.sse import EventSourceResponse

    app = FastAPI()

    async def handle(count: int) -> AsyncIterable[dict[str, Any]]:
        async for item in events(count):
            yield item

    app.get("/{count}", response_class=EventSourceResponse)(handle)
    serve_asgi(app)


def serve_sse_starlette(_: int) -> None:
    """Serve with sse-starlette's response over a generator."""
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
    """Read a response of events; compare them if the task says so."""
    with connect(task.port) as connection:
        drained = drain(connection, request_text(f"/{task.count}", Accept="text/event-stream"), keep=task.check)
    if task.check:
        texts = re.findall(rb"^data: (.*?)\r?$", body_of(drained), re.MULTILINE)
        if [msgspec.json.decode(text) for text in texts] != [event(index) for index in range(task.count)]:
            raise WrongContent(f"{len(texts)} events, which differ from the {task.count} expected")
    return {"seconds": drained.seconds, "bytes": drained.size, "items": task.count}


Reader = Callable[[str, Taken], Awaitable[None]]
"""Takes the events of a URL, with the data of each decoded."""


async def read_ours(url: str, taken: Taken) -> None:
    """Read with `items`."""
    from aiohttp import ClientSession

    import chunkwise

    async with ClientSession() as session, session.get(url) as response:
        await taken.one_by_one(chunkwise.items(response))


async def read_httpx_sse(url: str, taken: Taken) -> None:
    """Read with httpx-sse's `aiter_sse`, over httpx."""
    import httpx
    import orjson
    from httpx_sse import aconnect_sse

    async with httpx.AsyncClient(trust_env=False) as client, aconnect_sse(client, "GET", url) as source:
        await taken.one_by_one(orjson.loads(received.data) async for received in source.aiter_sse())


async def read_aiohttp_sse_client(url: str, taken: Taken) -> None:
    """Read with aiohttp-sse-client's `EventSource`."""
    import orjson
    from aiohttp_sse_client.client import EventSource

    async with EventSource(url) as source:
        await taken.one_by_one(orjson.loads(received.data) async for received in source)


def run_reader(task: Task, reader: Reader, imports: tuple[str, ...], *, leaves: bool = False) -> Figures:
    """Read all events of a response; ``leaves`` is for readers that would reconnect at its end."""
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
    """Feed one event of that many MB, in pieces of so many bytes; 0 for the whole event at once."""
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
        raise WrongContent("the event differs from the one that was fed")
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
