"""Text messages -> the frames of a server (RFC 6455 §5.2), and their way into the connection, counted.

Many frames are written in one piece: aiohttp's own writer makes a system call for each message, which is nearly all
that small items cost.
"""

import asyncio
from collections.abc import Sequence
from itertools import chain

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from chunkwise.transports.tcp import StallWatch

_TEXT = 0x81  # FIN and opcode 1: a whole text message, unmasked, as a server sends it


class FrameSender:
    """Sends the frames of one WebSocket; its `watch` cuts off a client that takes nothing."""

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        writer: AbstractStreamWriter,
        stall_seconds: float,
    ) -> None:
        self.bytes_sent: int = 0  # of all messages, without the heads of their frames
        self._frame_bytes = 0
        self.websocket: web.WebSocketResponse = websocket
        self._transport = transport
        self._writer = writer
        # A write waits until the kernel has all of the one before, so that only one write waits for a slow client.
        transport.set_write_buffer_limits(high=1)  # with 0, asyncio's TLS would never finish
        connection = transport.get_extra_info("socket")
        self.watch: StallWatch = StallWatch(transport, connection, stall_seconds, lambda: self._frame_bytes)

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send text messages, one frame each, and wait until the kernel has them; ConnectionError if it is closed."""
        if self.websocket.compress:
            for message in messages:
                self._count(message)
                await self.websocket.send_frame(message, WSMsgType.TEXT)
                self.bytes_sent += len(message)
        elif messages:
            if self.websocket.closed:
                raise ConnectionResetError("the WebSocket is closed")
            self._check_open()
            frames = text_frames(messages)
            self._frame_bytes += len(frames)
            self._transport.write(frames)
            self.bytes_sent += sum(map(len, messages))
        await self._drain()

    async def ping(self) -> None:
        """Send a ping; nothing waits for the pong, since a busy client answers late. Raises as `send` does."""
        self._count(b"")
        await self.websocket.ping()
        await self._drain()

    async def pong(self, data: bytes) -> None:
        """Answer a ping. Raises as `send` does."""
        self._count(data)
        await self.websocket.pong(data)

    async def close(self, code: int, reason: bytes) -> None:
        """Send a close frame. Raises as `send` does."""
        # Not the WebSocket's own close(): it waits a fixed time, however much the client still has to take.
        await self.websocket.send_frame(code.to_bytes(2) + reason, WSMsgType.CLOSE)
        await self._drain()

    def _count(self, payload: bytes) -> None:
        self._frame_bytes += frame_bytes(len(payload))

    async def _drain(self) -> None:
        await self._writer.drain()
        self._check_open()

    def _check_open(self) -> None:
        if self._transport.is_closing():  # a close without an error ends a wait without one
            raise ConnectionResetError("the connection is closed")


def text_frames(messages: Sequence[bytes]) -> bytes:
    """Return the frames of some messages, one each."""
    sizes = list(map(len, messages))
    if max(sizes, default=0) < 126:
        return b"\x81%c%b" * len(sizes) % tuple(chain.from_iterable(zip(sizes, messages, strict=True)))
    return b"".join(chain.from_iterable(zip(map(_head, sizes), messages, strict=True)))


def frame_bytes(payload_bytes: int) -> int:
    """Return the length of the frame of a payload."""
    return len(_head(payload_bytes)) + payload_bytes


def _head(size: int) -> bytes:
    if size < 126:
        return bytes((_TEXT, size))
    if size < 1 << 16:
        return bytes((_TEXT, 126)) + size.to_bytes(2)
    return bytes((_TEXT, 127)) + size.to_bytes(8)
