"""The four ways to read a WebSocket, at a client and at a server, from whoever speaks by hand at its other end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from aiohttp import ClientSession, web

from chunkwise import StreamError, items, open_stream, respond
from chunkwise.flow.inbound import Inbound
from chunkwise.formats.messages import SUBPROTOCOL
from tests.flow.producing import GUARD_SECONDS
from tests.transports.sockets_of_servers import Talk, client, frame, server
from tests.transports.wire import serving

CLIENTS = ["open_stream", "items"]
SERVERS = ["items of a request", "items of a server's WebSocket"]
READERS = [*CLIENTS, *SERVERS]


class Came(NamedTuple):
    """What came of a stream: its items, the error behind them, and how sure its end is."""

    items: list[Any]
    error: StreamError | None
    end: str | None
    items_seen: int


def masks(reader: str) -> bool:
    """Whether the frames that a reader gets are masked."""
    return reader in SERVERS


def messages(given: list[str], subprotocol: str, *, mask: bool) -> bytes:
    """The frames of JSON texts: one each, or in batches of three."""
    if subprotocol:
        given = ["".join(f"{text}\n" for text in given[start : start + 3]) for start in range(0, len(given), 3)]
    return b"".join(frame(text, mask=mask) for text in given)


async def came_of(stream: Inbound, pause: float = 0) -> Came:
    """Read a stream to its end, with a pause behind each item."""
    taken: list[Any] = []
    try:
        async for item in stream:
            taken.append(item)
            if pause:
                await asyncio.sleep(pause)
    except StreamError as error:
        return Came(taken, error, stream.end, stream.items_seen)
    return Came(taken, None, stream.end, stream.items_seen)


async def heard_by(
    reader: str, talk: Talk, *, subprotocol: str = "", pause: float = 0, idle_seconds: float = 60.0, **options: Any
) -> Came:
    """What a reader makes of what its other side says; that may go on for a while."""
    async with asyncio.timeout(GUARD_SECONDS):
        if reader in SERVERS:
            return await _at_a_server(reader, talk, subprotocol, pause, options)
        async with server(talk, subprotocol=subprotocol) as url, ClientSession() as session:
            if reader == "open_stream":
                async with open_stream(session, url, idle_seconds=idle_seconds, **options) as stream:
                    return await came_of(stream, pause)
            protocols = [SUBPROTOCOL] * bool(subprotocol)
            async with session.ws_connect(url, protocols=protocols) as websocket:
                return await came_of(items(websocket, **options), pause)


async def _at_a_server(reader: str, talk: Talk, subprotocol: str, pause: float, options: dict[str, Any]) -> Came:
    taken: asyncio.Future[Came] = asyncio.get_running_loop().create_future()

    async def source(request: web.Request) -> AsyncIterator[Any]:
        taken.set_result(await came_of(items(request, **options), pause))
        if request.protocol is None:
            yield None  # never: it has nothing to say

    async def handler(request: web.Request) -> web.StreamResponse:
        if reader == "items of a request":
            return await respond(request, source(request))
        websocket = web.WebSocketResponse(protocols=[SUBPROTOCOL])
        await websocket.prepare(request)
        taken.set_result(await came_of(items(websocket, **options), pause))
        return websocket

    async with serving(handler) as port, client(port, subprotocol=subprotocol) as peer:
        await talk(peer)
        return await taken
