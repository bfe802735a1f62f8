"""The demo's URL -> the output of the tutorial's clients, each line with the time at which it was received.

Each client is a few lines, as in the documentation of its library.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic

from aiohttp import ClientSession

import chunkwise

Show = Callable[[str], None]
"""Called with the text of each chunk, item or message as soon as it is received."""


async def read_chunks(base: str, query: str, show: Show) -> None:
    """Chunks of at most 1024 bytes, decoded and in upper case as they arrive: GET /chunked."""
    async with ClientSession() as session, session.get(f"{base}/chunked{query}") as response:
        # Chunks may end inside a character, where chunk.decode() would fail: text() waits for the rest.
        async for text in chunkwise.text(response.content.iter_chunked(1024)):
            show(text.upper())


async def read_items(base: str, query: str, show: Show) -> None:
    """The elements of a JSON array, each as soon as it is received: GET /json."""
    async with ClientSession() as session, chunkwise.open_stream(session, f"{base}/json{query}") as stream:
        async for user in stream:
            show(repr(user))
        show(f"{stream.items_seen} items, end {stream.end}")


async def read_inside(base: str, query: str, show: Show) -> None:
    """Values deep inside a document that is still being written: GET /nested."""
    async with (
        ClientSession() as session,
        chunkwise.open_stream(session, f"{base}/nested{query}", "users.item.roles.item") as stream,
    ):
        async for role in stream:
            show(repr(role))


async def read_events(base: str, query: str, show: Show) -> None:
    """The events of a document, as ijson gives them: GET /nested."""
    async with ClientSession() as session, session.get(f"{base}/nested{query}") as response:
        async for prefix, event, value in chunkwise.events(response):
            show(f"{prefix} {event} {value}")


async def read_failure(base: str, query: str, show: Show) -> None:
    """A producer that fails after its second item: GET /fail."""
    try:
        # NDJSON can carry the reason. JSON, the default, would show the failure, but not the reason.
        async with (
            ClientSession() as session,
            chunkwise.open_stream(session, f"{base}/fail{query}", format="ndjson") as stream,
        ):
            async for user in stream:
                show(repr(user))
    except chunkwise.StreamError as error:
        show(f"{type(error).__name__}: {error}")


async def send_and_read(base: str, query: str, show: Show) -> None:
    """An upload that is returned in upper case while it is sent: POST /upper."""

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
    """WebSocket messages, read with the library websockets: ws /ws."""
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
