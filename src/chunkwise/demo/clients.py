"""The demo's URL -> the output of the tutorial's clients, each line with the time at which it was received.

Each client is a few lines long, as in the documentation of the library that it uses: aiohttp, chunkwise or websockets.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic

from aiohttp import ClientSession

import chunkwise

Show = Callable[[str], None]
"""Called with the text of each chunk, item or message as soon as it is received."""


async def read_chunks(base: str, query: str, show: Show) -> None:
    """GET /chunked: read chunks of at most 1024 bytes, decode them, and show them in upper case as they arrive."""
    async with ClientSession() as session, session.get(f"{base}/chunked{query}") as response:
        # A chunk may end inside a character. chunk.decode() would fail there; text() waits for the next chunk.
        async for text in chunkwise.text(response.content.iter_chunked(1024)):
            show(text.upper())


async def read_items(base: str, query: str, show: Show) -> None:
    """GET /json: read the elements of a JSON array, and show each one as soon as it is received."""
    async with ClientSession() as session, chunkwise.open_stream(session, f"{base}/json{query}") as stream:
        async for user in stream:
            show(repr(user))
        show(f"{stream.items_seen} items, end {stream.end}")


async def read_inside(base: str, query: str, show: Show) -> None:
    """GET /nested: read values deep inside a JSON document that the server is still writing."""
    async with (
        ClientSession() as session,
        chunkwise.open_stream(session, f"{base}/nested{query}", "users.item.roles.item") as stream,
    ):
        async for role in stream:
            show(repr(role))


async def read_events(base: str, query: str, show: Show) -> None:
    """GET /nested: read a JSON document as parser events, the same ones that the library ijson gives."""
    async with ClientSession() as session, session.get(f"{base}/nested{query}") as response:
        async for prefix, event, value in chunkwise.events(response):
            show(f"{prefix} {event} {value}")


async def read_failure(base: str, query: str, show: Show) -> None:
    """GET /fail: read from a producer that fails after its second item, and show the error."""
    try:
        # In NDJSON, the server can send the reason of a failure. In JSON, the default, the client would notice the
        # failure, but not get the reason.
        async with (
            ClientSession() as session,
            chunkwise.open_stream(session, f"{base}/fail{query}", format="ndjson") as stream,
        ):
            async for user in stream:
                show(repr(user))
    except chunkwise.StreamError as error:
        show(f"{type(error).__name__}: {error}")


async def send_and_read(base: str, query: str, show: Show) -> None:
    """POST /upper: upload words, and read them in upper case while the upload is still being sent."""

    async def words() -> AsyncIterator[str]:
        for word in ("grüße", "aus", "dem", "strom"):
            yield f"{word}\n"
            await asyncio.sleep(0.1)

    body = chunkwise.body(words(), "text")
    async with (
        ClientSession() as session,
        chunkwise.open_stream(session, f"{base}/upper{query}", method="POST", data=body) as stream,
    ):
        async for word in stream:
            show(word)


async def read_websocket(base: str, query: str, show: Show) -> None:
    """WebSocket /ws: read messages with the library websockets."""
    from websockets.asyncio.client import connect

    async with connect(f"{base.replace('http', 'ws', 1)}/ws{query}", proxy=None) as websocket:
        async for message in websocket:
            show(str(message))
        show(f"closed: {websocket.close_code} {websocket.close_reason}")


CLIENTS = (read_chunks, read_items, read_inside, read_events, read_failure, send_and_read, read_websocket)


async def run_clients(base: str, interval: float | None, write_line: Show) -> None:
    """Run one client after the other, against the demo at the URL ``base``.

    ``interval`` is the time between two items in seconds, None for the default of each route.
    """
    query = "" if interval is None else f"?interval={interval:g}"
    for client in CLIENTS:
        write_line(f"\n{client.__doc__}")
        started = monotonic()

        def show(text: str, started: float = started) -> None:
            write_line(f"{monotonic() - started:8.3f} s  {text.rstrip()}")

        try:
            await client(base, query, show)
        except ModuleNotFoundError as error:
            if error.name != "websockets":
                raise
            write_line("  this client needs the extra 'demo': pip install 'chunkwise[demo]'")
