"""A request to one of the tutorial's routes -> a stream: one handler for each way to stream with chunkwise.

A `Pace` makes the streams slow enough to watch. The query changes its pace, and the number and the size of the items:
``?interval=0.1&items=20&size=100&fail=7``.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from aiohttp import web

import chunkwise
from chunkwise.demo.pace import Pace, name_of
from chunkwise.formats.sse import ServerSentEvent

_BLOCK_ITEMS = 1000

routes: web.RouteTableDef = web.RouteTableDef()


@routes.get("/chunked")
@chunkwise.streaming(format="text")
async def chunked(request: web.Request) -> AsyncIterator[str]:
    """Send lines of text in chunks, each line as soon as it is made."""
    pace = Pace(request, items=5, seconds=1)
    async for n in pace:
        yield pace.line(n, "Chunk")


@routes.get("/non-chunked")
async def non_chunked(request: web.Request) -> web.Response:
    """Send the lines of /chunked without streaming: all at once, when the last one is made."""
    pace = Pace(request, items=5, seconds=1)
    lines = [pace.line(n, "Chunk") async for n in pace]
    return web.Response(text="".join(lines))


@routes.get("/json")
@chunkwise.streaming
async def json_array(request: web.Request) -> AsyncIterator[dict[str, Any]]:
    """Send users as a JSON array, in another format that the client asks for, or as WebSocket messages."""
    async for user in users(Pace(request, items=3, seconds=1)):
        yield user


@routes.get("/fail")
@chunkwise.streaming
async def fail(request: web.Request) -> AsyncIterator[dict[str, Any]]:
    """Send two users as /json does, then fail. The end proof is missing, so clients notice the failure."""
    async for user in users(Pace(request, items=3, seconds=1, fail=2)):
        yield user


async def users(pace: Pace) -> AsyncIterator[dict[str, Any]]:
    """Yield users with pauses between them, as from a slow database query."""
    async for n in pace:
        user = {"id": n + 1, "name": name_of(n)}
        yield {**user, "note": pace.padding} if pace.padding else user


@routes.get("/nested")
async def nested(request: web.Request) -> web.StreamResponse:
    """Send a JSON document before all of its values exist: it contains iterators and awaitables at any depth."""
    pace = Pace(request, items=2, seconds=0.5)

    async def roles(*names: str) -> AsyncIterator[str]:
        for name in names:
            await pace.part()
            yield name

    async def with_roles() -> AsyncIterator[dict[str, Any]]:
        async for user in users(pace):
            yield {**user, "roles": roles("admin", "user") if user["id"] == 1 else roles("user")}

    # These two awaitables start together with the document, but their results are sent after the users. So their
    # delays include the time that it takes to send all users.
    after_users = pace.seconds * (pace.items - 1) + pace.part_seconds * (pace.items + 2)
    settings = {
        "theme": asyncio.sleep(after_users, "dark"),
        "notifications": asyncio.sleep(after_users + pace.part_seconds, result=True),
    }
    return await chunkwise.respond(request, {"users": with_roles(), "settings": settings})


@routes.get("/sse")
@chunkwise.streaming(format="sse")
async def sse(request: web.Request) -> AsyncIterator[Any]:
    """Send server-sent events. The last one has the type "end", so that the page knows that the stream is complete.

    EventSource itself reports every end of a stream as an error.
    """
    pace = Pace(request, items=3, seconds=1)
    async for user in users(pace):
        yield user
    yield ServerSentEvent(event="end", data=json.dumps({"items": pace.items}))


@routes.get("/events")
@chunkwise.streaming(format="text")
async def events(request: web.Request) -> AsyncIterator[str]:
    """Parse a JSON document while it is made; send each parser event, as in ijson, as ``prefix event value``."""
    pace = Pace(request, items=3, seconds=0.5)
    async for line in event_lines(document(pace.items), pace):
        yield line


@routes.get("/large")
@chunkwise.streaming(format="text")
async def large(request: web.Request) -> AsyncIterator[str]:
    """Send the parser events of a document of any size. Only small parts of it are in memory at any time."""
    pace = Pace(request, items=100_000, seconds=0)
    async for line in event_lines(document(pace.items), pace):
        yield line


def document(items: int) -> Iterator[bytes]:
    """Yield the bytes of the JSON document ``{"items": [{"id": 1}, ...]}`` in several parts."""
    yield b'{"items": ['
    for start in range(1, items + 1, _BLOCK_ITEMS):
        block = range(start, min(start + _BLOCK_ITEMS, items + 1))
        yield (", " * (start > 1) + ", ".join([f'{{"id": {number}}}' for number in block])).encode()
    yield b"]}"


async def event_lines(parts: Iterable[bytes], pace: Pace) -> AsyncIterator[str]:
    """Yield one line for each event of a document."""
    async for prefix, event, value in chunkwise.events(parts):
        await pace.beat()
        yield f"{prefix} {event} {value}\n"


@routes.get("/ws")
@chunkwise.streaming(format="text")
async def websocket(request: web.Request) -> AsyncIterator[str]:
    """Send WebSocket messages, then a close frame with their number. Over plain HTTP, send them as lines."""
    pace = Pace(request, items=5, seconds=1)
    async for n in pace:
        yield pace.line(n, "WebSocket message")


@routes.route("*", "/upper")
@chunkwise.streaming(format="text")
async def upper(request: web.Request) -> AsyncIterator[str]:
    """Return an upload in upper case while it is still being sent, even if chunks end inside a character."""
    async for text in chunkwise.text(request):
        yield text.upper()
