"""The four ways to read a WebSocket, in a client and in a server, from a peer that sends chosen bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from aiohttp import ClientSession, ClientWSTimeout, web

from chunkwise import StreamError, items, open_stream, respond
from chunkwise.flow.inbound import ItemStream
from chunkwise.formats.messages import SUBPROTOCOL
from tests.flow.producing import GUARD_SECONDS
from tests.transports.websocket_peer import Peer, Talk, frame, opened, server
from tests.transports.wire import serving

client = partial(opened, reads_ahead=True)

CLIENTS = ["open_stream", "items"]
SERVERS = ["items of a request", "items of a server's WebSocket"]
READERS = [*CLIENTS, *SERVERS]


class Came(NamedTuple):
    """The result of reading a stream: its items, the error after them, and the end proof."""

    items: list[Any]
    error: StreamError | None
    end: str | None
    items_seen: int


def masks(reader: str) -> bool:
    """Whether the frames that a reader receives are masked."""
    return reader in SERVERS


def messages(given: list[str], subprotocol: str, *, mask: bool) -> bytes:
    """Return the frames of JSON texts: one frame each, or one for three texts."""
    if subprotocol:
        given = ["".join(f"{text}\n" for text in given[start : start + 3]) for start in range(0, len(given), 3)]
    return b"".join(frame(text, mask=mask) for text in given)


async def came_of(stream: ItemStream, pause: float = 0) -> Came:
    """Read a stream to its end, with a pause after each item."""
    taken: list[Any] = []
    try:
        async for item in stream:
            taken.append(item)
            if pause:
                await asyncio.sleep(pause)
    except StreamError as error:
        return Came(taken, error, stream.end, stream.items_seen)
    return Came(taken, None, stream.end, stream.items_seen)


Hear = Callable[[Talk], Awaitable[Came]]
"""A function that talks to a reader, and returns the reader's result."""


async def heard_by(reader: str, talk: Talk, *, subprotocol: str = "", **options: Any) -> Came:
    """Let one reader read what its peer sends; return the result. See `hearing` for the options."""
    async with hearing(reader, subprotocol=subprotocol, **options) as hear:
        return await hear(talk)


@asynccontextmanager
async def hearing(
    reader: str, *, subprotocol: str = "", pause: float = 0, idle_seconds: float | None = None, **options: Any
) -> AsyncIterator[Hear]:
    """Start a reader of several connections, each with its own peer.

    Args:
        reader: one of `READERS`.
        subprotocol: the subprotocol that both sides use.
        pause: seconds to wait after each item.
        idle_seconds: how long a silence may last; `items` of a request has no such limit.
        options: options of `items`.
    """
    make = _at_a_server if reader in SERVERS else _at_a_client
    async with make(reader, subprotocol, pause, idle_seconds, options) as hear:
        yield hear


@asynccontextmanager
async def _at_a_client(
    reader: str, subprotocol: str, pause: float, idle_seconds: float | None, options: dict[str, Any]
) -> AsyncIterator[Hear]:
    talks: asyncio.Queue[Talk] = asyncio.Queue()

    async def talk_on(peer: Peer) -> None:
        await talks.get_nowait()(peer)

    async def hear(talk: Talk) -> Came:
        talks.put_nowait(talk)
        async with asyncio.timeout(GUARD_SECONDS):
            if reader == "open_stream":
                idle: Any = {} if idle_seconds is None else {"idle_seconds": idle_seconds}
                async with open_stream(session, url, **idle, **options) as stream:
                    return await came_of(stream, pause)
            protocols, timeout = [SUBPROTOCOL] * bool(subprotocol), ClientWSTimeout(ws_receive=idle_seconds)
            async with session.ws_connect(url, protocols=protocols, timeout=timeout) as websocket:
                return await came_of(items(websocket, **options), pause)

    async with server(talk_on, subprotocol=subprotocol) as url, ClientSession() as session:
        yield hear


@asynccontextmanager
async def _at_a_server(
    reader: str, subprotocol: str, pause: float, idle_seconds: float | None, options: dict[str, Any]
) -> AsyncIterator[Hear]:
    taken: dict[str, asyncio.Future[Came]] = {}
    begun: dict[str, asyncio.Event] = {}

    async def source(request: web.Request) -> AsyncIterator[Any]:
        mine = taken[request.query_string]
        begun[request.query_string].set()
        try:
            mine.set_result(await came_of(items(request, **options), pause))
        finally:
            mine.cancel()  # the source was closed before it had read everything
        if request.protocol is None:
            yield None  # never reached: it makes this function a generator

    async def handler(request: web.Request) -> web.StreamResponse:
        if reader == "items of a request":
            return await respond(request, source(request))
        websocket = web.WebSocketResponse(protocols=[SUBPROTOCOL], receive_timeout=idle_seconds, timeout=0.1)
        await websocket.prepare(request)
        begun[request.query_string].set()
        taken[request.query_string].set_result(await came_of(items(websocket, **options), pause))
        return websocket

    async def hear(talk: Talk) -> Came:
        name = str(len(taken))
        mine: asyncio.Future[Came] = asyncio.get_running_loop().create_future()
        taken[name], begun[name] = mine, asyncio.Event()
        async with asyncio.timeout(GUARD_SECONDS), client(port, f"/0?{name}", subprotocol=subprotocol) as peer:
            await begun[name].wait()  # a client that leaves earlier has no reader
            await talk(peer)
            return await mine

    async with serving(handler) as port:
        yield hear
