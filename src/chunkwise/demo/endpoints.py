"""A request to one of the tutorial's routes -> a stream: one handler for each way to stream with chunkwise.

A ``Pace`` makes the streams slow enough to watch. ``?interval``, ``?items``, ``?size`` and ``?fail`` change the pace,
the number of items, their size, and after how many items the producer fails.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from aiohttp import web

import chunkwise
from chunkwise.demo.pace import Pace
from chunkwise.formats.sse import ServerSentEvent

NAMES = ("Tom", "Adam", "Sam")
_BLOCK_ITEMS = 1000

routes: web.RouteTableDef = web.RouteTableDef()


@routes.get("/chunked")
@chunkwise.streaming(format="text")
async def chunked(request: web.Request) -> AsyncIterator[str]:
    """Text in chunks: each line is sent as soon as it is made."""
    pace = Pace(request, items=5, seconds=1)
    async for n in pace:
        yield f"Chunk {n}{pace.padding}\n"


@routes.get("/non-chunked")
async def non_chunked(request: web.Request) -> web.Response:
    """Send the same lines without streaming: all at once, when the last one is made."""
    pace = Pace(request, items=5, seconds=1)
    lines = []
    async for n in pace:
        lines.append(f"Chunk {n}{pace.padding}\n")
        await asyncio.sleep(0 if n + 1 < pace.items else pace.seconds)
    return web.Response(text="".join(lines))


@routes.get("/json")
@chunkwise.streaming
async def json_array(request: web.Request) -> AsyncIterator[dict[str, Any]]:
    """Items as a JSON array, or in any other format that the client asks for, or as WebSocket messages."""
    async for user in users(Pace(request, items=3, seconds=1)):
        yield user


@routes.get("/fail")
@chunkwise.streaming
async def fail(request: web.Request) -> AsyncIterator[dict[str, Any]]:
    """Like /json, but the producer fails after the second item: no client can take that for the end."""
    async for user in users(Pace(request, items=3, seconds=1, fail=2)):
        yield user


async def users(pace: Pace) -> AsyncIterator[dict[str, Any]]:
    """Yield users, like a slow query."""
    async for n in pace:
        user = {"id": n + 1, "name": NAMES[n % len(NAMES)]}
        yield {**user, "note": pace.padding} if pace.padding else user


@routes.get("/nested")
async def nested(request: web.Request) -> web.StreamResponse:
    """One document with live parts: iterators and awaitables at any depth, written in the document's order."""
    pace = Pace(request, items=2, seconds=0.5)

    async def roles(*names: str) -> AsyncIterator[str]:
        for name in names:
            await pace.beat()
            yield name

    async def with_roles() -> AsyncIterator[dict[str, Any]]:
        async for user in users(pace):
            yield {**user, "roles": roles("admin", "user") if user["id"] == 1 else roles("user")}

    # All awaitables start with the document; these take longer than the users before them.
    after_users = pace.seconds * (2 * pace.items + 1)
    settings = {
        "theme": asyncio.sleep(after_users, "dark"),
        "notifications": asyncio.sleep(after_users + pace.seconds, result=True),
    }
    return await chunkwise.respond(request, {"users": with_roles(), "settings": settings})


@routes.get("/sse")
@chunkwise.streaming(format="sse")
async def sse(request: web.Request) -> AsyncIterator[Any]:
    """Server-sent events, with an event at the end: to a browser's EventSource, an end looks the same as a failure."""
    pace = Pace(request, items=3, seconds=1)
    async for user in users(pace):
        yield user
    yield ServerSentEvent(event="end", data=json.dumps({"items": pace.items}))


@routes.get("/events")
@chunkwise.streaming(format="text")
async def events(request: web.Request) -> AsyncIterator[str]:
    """The events of a JSON document while its bytes are made: ``prefix event value`` lines, as ijson gives them."""
    pace = Pace(request, items=3, seconds=0.5)
    async for line in event_lines(document(pace.items), pace):
        yield line


@routes.get("/large")
@chunkwise.streaming(format="text")
async def large(request: web.Request) -> AsyncIterator[str]:
    """Like /events, for a document of any size: neither it nor its events are ever in memory as a whole."""
    pace = Pace(request, items=100_000, seconds=0)
    async for line in event_lines(document(pace.items), pace):
        yield line


def document(items: int) -> Iterator[bytes]:
    """Make ``{"items": [{"id": 1}, ...]}`` in pieces."""
    yield b'{"items": ['
    for start in range(1, items + 1, _BLOCK_ITEMS):
        block = range(start, min(start + _BLOCK_ITEMS, items + 1))
        yield (", " * (start > 1) + ", ".join([f'{{"id": {number}}}' for number in block])).encode()
    yield b"]}"


async def event_lines(pieces: Iterable[bytes], pace: Pace) -> AsyncIterator[str]:
    """Yield one line for each event of a document."""
    async for prefix, event, value in chunkwise.events(pieces):
        await pace.beat()
        yield f"{prefix} {event} {value}\n"


@routes.get("/ws")
@chunkwise.streaming(format="text")
async def websocket(request: web.Request) -> AsyncIterator[str]:
    """WebSocket messages, then a close that says that they are all. Over plain HTTP, the same route sends lines."""
    pace = Pace(request, items=5, seconds=1)
    async for n in pace:
        yield f"WebSocket message {n}{pace.padding}\n"


@routes.route("*", "/upper")
@chunkwise.streaming(format="text")
async def upper(request: web.Request) -> AsyncIterator[str]:
    """An upload that is returned in upper case while it is sent; characters that were split are joined again."""
    async for piece in chunkwise.text(request):
        yield piece.upper()
