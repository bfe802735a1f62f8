"""The messages that a WebSocket's client sends -> a bounded queue that the source reads from."""

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
# The size of the queue in bytes is limited. This many bytes are added to the size of each message, so that the number
# of empty messages is limited, too.
_MESSAGE_BYTES = 128
_MAX_CONTROLS_PER_SECOND = 100  # how many pings and pongs a client may send in one second

# After the client has left, its source stays open for a limited time. The next four constants are the limits.
# The limit for a source that has called items(request) and has items left to read. If the client has proved the end of
# its stream, the limit also applies after the last item:
_UNREAD_SECONDS = 60.0
# The limit for a source that has not called items(request), if the client has sent messages:
_UNEXPECTED_SECONDS = 5.0
# The limit for a source that has read the last item, because it may still process this item:
_LAST_ITEM_SECONDS = 1.0
# The limit for a source that writes several times and reads no item between the writes:
_WRITING_SECONDS = 1.0

# After the client has left, the source is paused for this time at each write, so that it cannot write at full speed.
_PAUSE_SECONDS = 0.05


class _Departure:
    """Decides how long a source stays open after its client has left.

    ``readers`` returns the item streams with which the source reads the client's messages.
    """

    def __init__(self, readers: Callable[[], Sequence[Inbound]]) -> None:
        self._readers = readers
        self._left_at: float | None = None
        self._taken = 0  # how many items the source has read
        self._taken_at = 0.0
        self._written_at: float | None = None  # the time of the first write since the source last read an item

    def keeps_source_open(self, read_at: float | None, *, waiting: bool, done: bool) -> bool:
        """Whether the source stays open; call this only after the client has left.

        Args:
            read_at: when the source last asked for a message, in seconds of `time.monotonic`; None for never.
            waiting: whether messages are left to read.
            done: whether the source has read the last message, or needs no more messages.
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
        """Whether the source may continue after a write that was discarded, because the client has left.

        Pause first if the source has written before and has read no item since, so that it cannot write at full speed.
        """
        now = monotonic()
        if self._written_at is None:
            self._written_at = now
            return True
        if now - self._written_at >= _WRITING_SECONDS:
            return False
        await asyncio.sleep(_PAUSE_SECONDS)
        return True


class Inbox:
    """The queue of messages that the client has sent and the source has not read yet; if it is full, the client waits.

    `fill` adds messages and `get` removes them. The last message is never removed: it is the client's close, or `LOST`
    if no close arrived. ``readers`` returns the item streams with which the source reads the messages.
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
        """Whether the source still has messages to read or to process; call this only after the client has left."""
        # Until `fill` has returned, messages may still be in aiohttp's own queue, so the source has to wait for them.
        waiting = not self._ended or self._proven or (bool(self._messages) and _is_text(self._messages[0]))
        return self._departure.keeps_source_open(self._read_at, waiting=waiting, done=self._done)

    async def allows_write(self) -> bool:
        """Whether the source may continue after a write to a client that has left; see `_Departure.allows_write`."""
        return await self._departure.allows_write()

    async def fill(self, websocket: web.WebSocketResponse, pong: Callable[[bytes], Awaitable[None]]) -> WSMessage:
        """Queue the messages of a WebSocket and reply to pings until the client leaves; return the last message."""
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
                reason = b"got more than %d pings and pongs in one second" % _MAX_CONTROLS_PER_SECOND
                await websocket.close(code=WSCloseCode.POLICY_VIOLATION, message=reason, drain=False)
                return LOST
            if message.type is WSMsgType.PING:
                # If the client has left, the pong cannot be sent. But the loop continues, because messages that the
                # client sent before it left may still be in aiohttp's queue.
                with suppress(ConnectionError):
                    await pong(message.data)

    async def _put(self, message: WSMessage) -> None:
        """Add a message; wait while the queue is full."""
        while self._bytes > _MAX_BYTES and not (self._ended or self._done):
            self._room.clear()
            await self._room.wait()
        if self._ended or self._done:
            return
        self._messages.append(message)
        self._bytes += len(message.data) + _MESSAGE_BYTES
        self._arrived.set()

    def end(self, last: WSMessage) -> None:
        """Add the last message, unless there already is one; later messages are discarded."""
        if not self._ended:
            self._ended = True
            self._proven = proves_end(last)
            self._messages.append(last)
            self._arrived.set()
            self._room.set()

    def begin(self, receiver: object) -> None:
        """Register the receiver that an `items(request)` reads with; raise StreamError if another one is registered."""
        if self._receiver not in (None, receiver):
            raise StreamError("another items(request) already reads this WebSocket: call items(request) only once")
        self._receiver = receiver
        self._read_at = monotonic()

    def read_to_end(self) -> None:
        """Discard the unread messages and all later ones, because the source needs no more."""
        self._done = True
        self._messages.clear()
        self._room.set()

    async def get(self) -> WSMessage:
        """Wait for the next message and return it; after the last message, return the last one again."""
        while True:
            self._read_at = monotonic()
            if self._messages:
                break
            self._arrived.clear()
            await self._arrived.wait()
        if not _is_text(message := self._messages[0]):
            # This is the last message. If it proves the end of the client's stream, the source is not done yet, because
            # it may still process the items.
            self._done = not self._proven
            return message
        self._messages.popleft()
        self._bytes -= len(message.data) + _MESSAGE_BYTES
        self._room.set()
        return message


def _is_text(message: WSMessage) -> bool:
    return message.type is WSMsgType.TEXT
