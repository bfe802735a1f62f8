"""The messages of a WebSocket's client -> a bounded queue, from which the source reads them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from chunkwise.errors import StreamError
from chunkwise.flow.inbound import Inbound
from chunkwise.transports.websocket_messages import LOST, NO_BINARY, proves_end

_MAX_BYTES = 64 * 1024
_MESSAGE_BYTES = 128  # added for each message, so that empty ones are bounded too
_MAX_CONTROLS_PER_SECOND = 100  # pings and pongs
# How long the source of a client that left is kept open:
_UNREAD_SECONDS = 60.0  # if items are waiting for it, or the client proved that it sent all: since it took one
_UNEXPECTED_SECONDS = 5.0  # if messages are waiting, but items(request) was never called: it may be called yet
_LAST_ITEM_SECONDS = 1.0  # with the last item, before the source is interrupted
_WRITING_SECONDS = 1.0  # if it writes, and takes no item meanwhile
_PAUSE_SECONDS = 0.05  # after each of such writes


class _Departure:
    """How long the source of a client that has left is kept open; ``readers`` returns the streams that read for it."""

    def __init__(self, readers: Callable[[], Sequence[Inbound]]) -> None:
        self._readers = readers
        self._left_at: float | None = None
        self._taken = 0  # items, by the source
        self._taken_at = 0.0
        self._written_at: float | None = None  # the first of the writes since an item was taken

    def keeps_source_open(self, read_at: float | None, *, waiting: bool, done: bool) -> bool:
        """Whether the source stays open.

        Args:
            read_at: when the source asked for a message last, on `time.monotonic`; None if it never did.
            waiting: whether messages wait for it.
            done: whether it wants no more messages, or got the last one.
        """
        readers, now = self._readers(), monotonic()
        taken = sum(reader.items_taken for reader in readers)
        has_items = any(reader.has_items for reader in readers)
        if taken != self._taken and self._left_at is not None:
            self._taken_at, self._written_at = now, None
        if self._left_at is None:
            self._left_at = now
            self._taken_at = now if has_items else 0.0
        self._taken = taken
        since = max(self._left_at if read_at is None else read_at, self._taken_at)
        if has_items or (waiting and not done):
            return now - since < (_UNREAD_SECONDS if readers else _UNEXPECTED_SECONDS)
        return not done and read_at is not None and now - since < _LAST_ITEM_SECONDS

    async def allows_write(self) -> bool:
        """Whether the source may go on after a write that is discarded; wait a moment if it only writes."""
        now = monotonic()
        if self._written_at is None:
            self._written_at = now
            return True
        if now - self._written_at >= _WRITING_SECONDS:
            return False
        await asyncio.sleep(_PAUSE_SECONDS)
        return True


class Inbox:
    """The messages that the client has sent and the source has not read yet. When it is full, the client has to wait.

    Messages are added by `fill` and taken by `get`. The last one stays: it is the client's close, or `LOST`.
    ``readers`` returns the streams that read the messages.
    """

    def __init__(self, readers: Callable[[], Sequence[Inbound]]) -> None:
        self._departure = _Departure(readers)
        self._messages: deque[WSMessage] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._receiver: object = None
        self._read_at: float | None = None
        self._ended = False
        self._proven = False
        self._done = False

    def keeps_source_open(self) -> bool:
        """Whether the source of a client that has left is still to be given what arrived, or works on it.

        Call it only once the client has left.
        """
        # Before `fill` is through, messages may be on their way from aiohttp's own queue.
        waiting = not self._ended or self._proven or (bool(self._messages) and _is_text(self._messages[0]))
        return self._departure.keeps_source_open(self._read_at, waiting=waiting, done=self._done)

    async def allows_write(self) -> bool:
        """Whether the source may go on after a write to a client that has left; wait a moment if it only writes."""
        return await self._departure.allows_write()

    async def fill(self, websocket: web.WebSocketResponse, pong: Callable[[bytes], Awaitable[None]]) -> WSMessage:
        """Take all messages of a WebSocket and answer its pings until the client leaves; return the last message."""
        last = LOST
        with suppress(ConnectionError):
            last = await self._take_all(websocket, pong)
        self.end(last)
        return last

    async def _take_all(self, websocket: web.WebSocketResponse, pong: Callable[[bytes], Awaitable[None]]) -> WSMessage:
        controls, since = 0, monotonic()
        while True:
            message = await websocket.receive()
            if _is_text(message):
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
            if controls > _MAX_CONTROLS_PER_SECOND:
                reason = b"more than %d pings and pongs in a second" % _MAX_CONTROLS_PER_SECOND
                await websocket.close(code=WSCloseCode.POLICY_VIOLATION, message=reason, drain=False)
                return LOST
            if message.type is WSMsgType.PING:
                with suppress(ConnectionError):  # messages that arrived before the client left may follow
                    await pong(message.data)

    async def _put(self, message: WSMessage) -> None:
        """Add a message; wait while there are too many."""
        while self._bytes > _MAX_BYTES and not (self._ended or self._done):
            self._room.clear()
            await self._room.wait()
        if self._ended or self._done:
            return
        self._messages.append(message)
        self._bytes += len(message.data) + _MESSAGE_BYTES
        self._arrived.set()

    def end(self, last: WSMessage) -> None:
        """Add the last message; whatever follows is discarded."""
        if not self._ended:
            self._ended = True
            self._proven = proves_end(last)
            self._messages.append(last)
            self._arrived.set()
            self._room.set()

    def begin(self, receiver: object) -> None:
        """Note that a receiver is about to read; raise StreamError if another one reads already."""
        if self._receiver not in (None, receiver):
            raise StreamError("another items(request) reads this WebSocket: keep one of them, and read from it only")
        self._receiver = receiver
        self._read_at = monotonic()

    def read_to_end(self) -> None:
        """Note that the source wants no more; whatever follows is discarded."""
        self._done = True
        self._messages.clear()
        self._room.set()

    async def get(self) -> WSMessage:
        """Return the next message; at the end the last one, each time."""
        while True:
            self._read_at = monotonic()
            if self._messages:
                break
            self._arrived.clear()
            await self._arrived.wait()
        if not _is_text(message := self._messages[0]):
            self._done = not self._proven  # if it is proven, the source may still work on it
            return message
        self._messages.popleft()
        self._bytes -= len(message.data) + _MESSAGE_BYTES
        self._room.set()
        return message


def _is_text(message: WSMessage) -> bool:
    return message.type is WSMsgType.TEXT
