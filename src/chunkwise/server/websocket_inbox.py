"""What a WebSocket's client sends -> a bounded store, until a handler reads it.

Must not know what stands in the messages, nor what is sent to the client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from chunkwise.transports.websocket_messages import LOST, NO_BINARY, proves_end

_MAX_BYTES = 64 * 1024
_MESSAGE_BYTES = 128  # what a message counts in addition, so that empty ones are bounded, too
_MAX_CONTROLS = 100  # pings and pongs in a second: who sends more means harm
_SLOW_SECONDS = 60.0  # how long a handler may be busy with one message of a client that has left, if there are more
_NEWS_SECONDS = 1.0  # and how long with the last, before it is told


class Inbox:
    """What a client has sent and nobody has read yet; bounded, so that the client has to wait."""

    def __init__(self) -> None:
        self._messages: deque[WSMessage] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._read_at: float | None = None
        self._ended = False
        self._proven = False
        self._done = False

    def is_being_read(self) -> bool:
        """Whether somebody has begun to read, and is likely to be busy with it: for so long a client is not gone."""
        if self._read_at is None or self._done:
            return False
        # What came whole is worked on; of what did not, nothing is left behind the last item but the news.
        more = self._proven or (bool(self._messages) and self._messages[0].type is WSMsgType.TEXT)
        return monotonic() - self._read_at < (_SLOW_SECONDS if more else _NEWS_SECONDS)

    async def fill(self, websocket: web.WebSocketResponse, pong: Callable[[bytes], Awaitable[None]]) -> WSMessage:
        """Take all messages of a WebSocket, and answer its pings, until the other side has left; return the last."""
        last = LOST
        with suppress(ConnectionError):
            last = await self._take_all(websocket, pong)
        self.end(last)
        return last

    async def _take_all(self, websocket: web.WebSocketResponse, pong: Callable[[bytes], Awaitable[None]]) -> WSMessage:
        controls, since = 0, monotonic()
        while True:
            message = await websocket.receive()
            if message.type is WSMsgType.TEXT:
                await self._put(message)
                continue
            if message.type is WSMsgType.BINARY:
                await websocket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=NO_BINARY.encode(), drain=False)
                return message
            if message.type not in (WSMsgType.PING, WSMsgType.PONG):
                return message
            if monotonic() - since > 1:
                controls, since = 0, monotonic()
            controls += 1
            if controls > _MAX_CONTROLS:
                reason = b"more than %d pings and pongs in a second" % _MAX_CONTROLS
                await websocket.close(code=WSCloseCode.POLICY_VIOLATION, message=reason, drain=False)
                return LOST
            if message.type is WSMsgType.PING:
                with suppress(ConnectionError):  # behind it, there may be messages that came before the client left
                    await pong(message.data)

    async def _put(self, message: WSMessage) -> None:
        """Add a message, and wait while there are too many."""
        while self._bytes > _MAX_BYTES and not (self._ended or self._done):
            self._room.clear()
            await self._room.wait()
        if self._ended or self._done:
            return
        self._messages.append(message)
        self._bytes += len(message.data) + _MESSAGE_BYTES
        self._arrived.set()

    def end(self, last: WSMessage) -> None:
        """Say that no more is to be read, and why; what still comes is thrown away."""
        if not self._ended:
            self._ended = True
            self._proven = proves_end(last)
            self._messages.append(last)
            self._arrived.set()
            self._room.set()

    def begin(self) -> None:
        """Say that somebody is about to read."""
        self._read_at = monotonic()

    def read_to_end(self) -> None:
        """Say that nobody wants more; what still comes is thrown away."""
        self._done = True
        self._messages.clear()
        self._room.set()

    async def get(self) -> WSMessage:
        """Return the next message; the last one again and again."""
        while True:
            self._read_at = monotonic()
            if self._messages:
                break
            self._arrived.clear()
            await self._arrived.wait()
        if (message := self._messages[0]).type is not WSMsgType.TEXT:
            self._done = not self._proven  # what came whole is still worked on
            return message
        self._messages.popleft()
        self._bytes -= len(message.data) + _MESSAGE_BYTES
        self._room.set()
        return message
