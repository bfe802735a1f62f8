"""A path of this server -> the raw bytes of its response, which the JavaScript of a page cannot read itself."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from typing import Any

from aiohttp import web

import chunkwise

PATHS = ("/chunked", "/non-chunked", "/json", "/nested", "/sse", "/ws")
_READ_BYTES = 16 * 1024
_MASKED_CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"  # a client's close frame: code 1000, masked with zeros (RFC 6455 §5.5.1)

routes: web.RouteTableDef = web.RouteTableDef()


@routes.get("/wire/{name}")
@chunkwise.streaming
async def wire(request: web.Request) -> AsyncIterator[dict[str, Any]]:
    """Request the path, and yield an item for each read of the socket: ``{"seconds": 0.2, "bytes": "8..."}``.

    ``seconds`` is the time since the request began. ``bytes`` is a string with one character, U+0000 to U+00FF,
    for each byte. The last item says how the connection ended: ``{"seconds": 1.0, "end": "closed"}``, or ``"reset"``.
    """
    path = f"/{request.match_info['name']}"
    address = request.transport.get_extra_info("sockname") if request.transport is not None else None
    if path not in PATHS or not isinstance(address, tuple):
        raise web.HTTPNotFound(text=f"cannot show the raw bytes of {path}, expected one of {', '.join(PATHS)}")
    started = monotonic()
    reader, writer = await asyncio.open_connection(*address[:2])
    end = "closed"
    try:
        writer.write(_head(path, request.rel_url.raw_query_string))
        frames = _Frames() if path == "/ws" else None
        while data := await reader.read(_READ_BYTES):
            yield {"seconds": monotonic() - started, "bytes": data.decode("latin-1")}
            if frames is not None and frames.closed_by(data):
                writer.write(_MASKED_CLOSE)
    except ConnectionError:
        end = "reset"
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    yield {"seconds": monotonic() - started, "end": end}


def _head(path: str, query: str) -> bytes:
    lines = [f"GET {path}?{query} HTTP/1.1", "Host: localhost"]
    if path == "/ws":
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        # The value of this key does not matter; it is the example key of RFC 6455 §1.3.
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    else:
        lines += ["Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


class _Frames:
    """Finds the close frame in the bytes of a WebSocket server, so that the wire view can reply to it.

    The bytes are the head of the response, then frames (RFC 6455 §5.2).
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._head_ended = False

    def closed_by(self, data: bytes) -> bool:
        """Return whether these bytes, together with all bytes before them, hold the close frame."""
        self._buffer += data
        if not self._head_ended:
            head, blank, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._head_ended = bool(blank)
            if not blank:
                self._buffer = head
                return False
        while len(self._buffer) >= 2:
            opcode, length, start = self._buffer[0] & 0x0F, self._buffer[1] & 0x7F, 2
            if length >= 126:
                kind, start = (">H", 4) if length == 126 else (">Q", 10)
                if len(self._buffer) < start:
                    return False
                (length,) = struct.unpack(kind, self._buffer[2:start])
            if opcode == 8:
                return True
            if len(self._buffer) < start + length:
                return False
            self._buffer = self._buffer[start + length :]
        return False
