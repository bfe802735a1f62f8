"""Read everything that a server sends and count its bytes. The bytes are kept only if a comparison needs them.

The client must not be slower than the server, because the server's speed is measured. So the client uses blocking
sockets, reads up to 1 MiB per call, and parses only what it needs to find the end of the response.
`contenders_decoding` measures clients that read the items.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from base64 import b64encode
from dataclasses import dataclass, field

BUFFER_BYTES = 1 << 20
LAST_CHUNK = b"\r\n0\r\n\r\n"
"""The last bytes of a chunked body: the line end of the previous chunk and the empty last chunk.

No data of the benchmarks contains these bytes."""


class Cut(Exception):  # noqa: N818 - the name describes the response
    """The response is incomplete or missing."""


@dataclass(slots=True)
class Drained:
    """The size and the times of one received response, and its content if ``keep`` was set."""

    seconds: float = 0.0
    first_byte_seconds: float = 0.0
    size: int = 0
    chunked: bool = False
    body: bytearray = field(default_factory=bytearray)
    """The body as received, with the size line of each chunk; empty unless ``keep`` was set."""
    messages: list[bytes] = field(default_factory=list)
    """The messages of a WebSocket; empty unless ``keep`` was set."""


def connect(port: int) -> socket.socket:
    """Connect to a port of 127.0.0.1. The socket raises TimeoutError if nothing arrives for a minute."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request_text(path: str, **headers: str) -> bytes:
    """Return a GET request without Accept-Encoding, so that the response is not compressed."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *[f"{name}: {value}" for name, value in headers.items()]]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return the status line and headers of a response in lower case, and the first bytes of the body."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise Cut(f"the connection closed after {len(data)} bytes, before the end of the headers")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.lower(), rest


def drain(connection: socket.socket, request: bytes, *, keep: bool = False) -> Drained:
    """Send a request and read its response to the end.

    Raises:
        Cut: the connection closed before the end of the response, or the status is not 200.
    """
    started = time.perf_counter()
    connection.sendall(request)
    head, rest = read_head(connection)
    if not head.startswith(b"http/1.1 200 "):
        raise Cut(f"the response begins with {head[:40]!r}, expected status 200")
    drained = Drained(chunked=b"transfer-encoding: chunked" in head)
    length = None if drained.chunked else int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    buffer = memoryview(bytearray(BUFFER_BYTES))
    data = memoryview(rest)
    # `tail` holds the last seven bytes received; the body is complete when they equal `LAST_CHUNK`. `LAST_CHUNK` begins
    # with the line end of the chunk before it. An empty body has no such chunk, so `tail` starts with a line end.
    tail = b"\r\n"
    while True:
        if data and not drained.first_byte_seconds:
            drained.first_byte_seconds = time.perf_counter() - started
        drained.size += len(data)
        if keep:
            drained.body += data
        tail = (tail + data[-7:])[-7:]
        if tail == LAST_CHUNK if length is None else drained.size >= length:
            break
        count = connection.recv_into(buffer)
        if not count:
            raise Cut(f"the connection closed after {drained.size} bytes, before the end of the body")
        data = buffer[:count]
    drained.seconds = time.perf_counter() - started
    return drained


def body_of(drained: Drained) -> bytes:
    """Return the body of a response that was read with ``keep=True``, without the size lines of its chunks."""
    if not drained.chunked:
        return bytes(drained.body)
    data, content, position = drained.body, bytearray(), 0
    while True:
        line_end = data.index(b"\r\n", position)
        size = int(data[position:line_end].split(b";")[0], 16)
        if not size:
            return bytes(content)
        content += data[line_end + 2 : line_end + 2 + size]
        position = line_end + 4 + size


class Frames:
    """Counts the messages that a server sends on a WebSocket. It reads the frame headers and skips the payloads.

    Args:
        keep: whether to keep the messages.

    Attributes:
        count: the number of messages so far.
        size: the bytes in the payloads of these messages.
        messages: the messages; empty unless ``keep`` is set.
        close_code: the code of the close frame; None until it is received.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.count = 0
        self.size = 0
        self.messages: list[bytes] = []
        self.close_code: int | None = None
        self._keep = keep
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Parse received bytes; a frame may be split between two calls."""
        data = self._rest + data if self._rest else data
        position = 0
        while len(data) - position >= 2 and self.close_code is None:
            size, begin = data[position + 1], position + 2
            if size == 126:
                size, begin = int.from_bytes(data[begin : begin + 2]), begin + 2
            elif size == 127:
                size, begin = int.from_bytes(data[begin : begin + 8]), begin + 8
            end = begin + size
            if end > len(data):
                break
            opcode = data[position] & 15
            if opcode == 8:
                self.close_code = int.from_bytes(data[begin : begin + 2])
            elif opcode in (1, 2):
                self.count += 1
                self.size += size
                if self._keep:
                    self.messages.append(data[begin:end])
            position = end
        self._rest = data[position:]


def drain_websocket(connection: socket.socket, path: str, subprotocol: str = "", *, keep: bool = False) -> Drained:
    """Open a WebSocket, read its messages until the server closes it, and confirm the close (RFC 6455 §5).

    Raises:
        Cut: the connection closed without a close frame, or with another code than 1000.
    """
    started = time.perf_counter()
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    headers["Sec-WebSocket-Key"] = b64encode(os.urandom(16)).decode()
    if subprotocol:
        headers["Sec-WebSocket-Protocol"] = subprotocol
    connection.sendall(request_text(path, **headers))
    head, rest = read_head(connection)
    if not head.startswith(b"http/1.1 101 ") or (subprotocol and subprotocol.encode() not in head):
        raise Cut(f"received {head[:200]!r}, expected a handshake with status 101")
    frames = Frames(keep=keep)
    frames.feed(rest)
    while frames.close_code is None:
        data = connection.recv(BUFFER_BYTES)
        if not data:
            raise Cut(f"the connection closed after {frames.count} messages, without a close frame")
        frames.feed(data)
    seconds = time.perf_counter() - started
    connection.sendall(struct.pack("!BBIH", 0x88, 0x82, 0, 1000))
    if frames.close_code != 1000:
        raise Cut(f"the server closed with code {frames.close_code}, expected 1000")
    return Drained(seconds=seconds, size=frames.size, messages=frames.messages)
