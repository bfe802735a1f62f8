"""Text messages -> the WebSocket frames of a server (RFC 6455 §5.2), written to the connection.

Many frames are sent in one write. aiohttp's own writer makes one system call per message, and if items are small, these
calls take nearly all the time.
"""

import asyncio
from collections.abc import Sequence
from itertools import chain

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from chunkwise.transports.tcp import StallWatch

_TEXT = 0x81  # FIN and opcode 1: a complete text message


class FrameSender:
    """Sends the frames of one WebSocket; its `StallWatch` disconnects a client that receives nothing for too long."""

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        writer: AbstractStreamWriter,
        stall_seconds: float,
    ) -> None:
        self.bytes_sent: int = 0  # the size of all message payloads that were sent, without frame headers
        self._frame_bytes = 0
        self.websocket: web.WebSocketResponse = websocket
        self._transport = transport
        self._writer = writer
        # With this buffer limit, drain() waits until the kernel has all bytes, so only one write is buffered for a slow
        # client. With a limit of 0, asyncio's TLS transport would wait for ever.
        transport.set_write_buffer_limits(high=1)
        connection = transport.get_extra_info("socket")
        self.watch: StallWatch = StallWatch(transport, connection, stall_seconds, lambda: self._frame_bytes)

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send each message as a text frame, and wait until the kernel has all bytes.

        Raise ConnectionError if the WebSocket or its connection is closed.
        """
        if self.websocket.compress:
            for message in messages:
                self._count(message)
                await self.websocket.send_frame(message, WSMsgType.TEXT)
                self.bytes_sent += len(message)
        elif messages:
            if self.websocket.closed:
                raise ConnectionResetError("cannot send messages: the WebSocket is closed")
            self._check_open()
            frames = text_frames(messages)
            self._frame_bytes += len(frames)
            self._transport.write(frames)
            self.bytes_sent += sum(map(len, messages))
        await self._drain()

    async def ping(self) -> None:
        """Send a ping; do not wait for the pong, because a busy client replies late. Raises the errors of `send`."""
        self._count(b"")
        await self.websocket.ping()
        await self._drain()

    async def pong(self, data: bytes) -> None:
        """Send a pong as the reply to a ping. Raises the errors of `send`."""
        self._count(data)
        await self.websocket.pong(data)

    async def close(self, code: int, reason: bytes) -> None:
        """Send a close frame. Raises the errors of `send`."""
        # aiohttp's close() is not used, because it waits only a fixed time for the client's close, even if the client
        # still has much to receive.
        await self.websocket.send_frame(code.to_bytes(2) + reason, WSMsgType.CLOSE)
        await self._drain()

    def _count(self, payload: bytes) -> None:
        self._frame_bytes += frame_bytes(len(payload))

    async def _drain(self) -> None:
        await self._writer.drain()
        self._check_open()

    def _check_open(self) -> None:
        # aiohttp's drain() raises no error if the connection is closing, so this method checks the connection.
        if self._transport.is_closing():
            raise ConnectionResetError("cannot send messages: the connection is closed")


def text_frames(messages: Sequence[bytes]) -> bytes:
    """Return the frames of ``messages``, one frame per message."""
    sizes = list(map(len, messages))
    if max(sizes, default=0) < 126:
        return b"\x81%c%b" * len(sizes) % tuple(chain.from_iterable(zip(sizes, messages, strict=True)))
    return b"".join(chain.from_iterable(zip(map(_head, sizes), messages, strict=True)))


def frame_bytes(payload_bytes: int) -> int:
    """Return the size in bytes of a frame with a payload of ``payload_bytes``."""
    return len(_head(payload_bytes)) + payload_bytes


def _head(size: int) -> bytes:
    if size < 126:
        return bytes((_TEXT, size))
    if size < 1 << 16:
        return bytes((_TEXT, 126)) + size.to_bytes(2)
    return bytes((_TEXT, 127)) + size.to_bytes(8)
