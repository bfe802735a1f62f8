"""Bytes that a test chooses -> frames, and a client or a server of a WebSocket (RFC 6455).

It uses plain sockets, because asyncio's streams lose the bytes in their buffer when a connection is reset.
"""

import asyncio
import base64
import hashlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import Any, NamedTuple

import msgspec

from chunkwise.formats.messages import SUBPROTOCOL
from chunkwise.transports.tcp import reset_when_closed, unsent_bytes
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import Client, client_of

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KEY = base64.b64encode(bytes(range(16))).decode()
MASK = b"\x01\x80\xff\x7e"
BOTH_FRAMINGS = ("", SUBPROTOCOL)


class Frame(NamedTuple):
    """A frame that was received, unmasked."""

    opcode: int
    payload: bytes

    @property
    def text(self) -> str:
        return self.payload.decode()

    @property
    def item(self) -> Any:
        """The item of a message that holds one item."""
        assert self.opcode == TEXT, self
        return msgspec.json.decode(self.payload)

    @property
    def code(self) -> int:
        """The code of a close; 1005 if it has none."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2]) if self.payload else 1005

    @property
    def reason(self) -> str:
        return self.payload[2:].decode()

    @property
    def closing(self) -> tuple[int, str]:
        """The code and the reason of a close."""
        return self.code, self.reason


def frame(
    payload: bytes | str,
    opcode: int = TEXT,
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bool = False,
    declares: int | None = None,
    wide: bool = False,
) -> bytes:
    """Return the bytes of a frame.

    Args:
        payload: its content.
        opcode: any of four bits.
        fin: whether it ends its message.
        reserved: three bits.
        mask: whether it is masked, as frames of a client must be; see `client_frame`.
        declares: the length in the frame's header; by default the length of the payload.
        wide: whether the length always takes 64 bits.
    """
    data = payload.encode() if isinstance(payload, str) else payload
    size = len(data) if declares is None else declares
    if wide or size > 0xFFFF:
        lengths = struct.pack(">BQ", 127, size)
    else:
        lengths = struct.pack(">BH", 126, size) if size > 125 else bytes([size])
    head = bytes([fin << 7 | reserved << 4 | opcode, lengths[0] | mask << 7]) + lengths[1:]
    return head + MASK + _masked(data, MASK) if mask else head + data


client_frame = partial(frame, mask=True)
"""The bytes of a client's frame."""


def _masked(data: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(repeated)).to_bytes(len(data))


def close(code: int | None = 1000, reason: bytes | str = b"", *, mask: bool = False) -> bytes:
    """Return the bytes of a close."""
    text = reason.encode() if isinstance(reason, str) else reason
    return frame(b"" if code is None else code.to_bytes(2) + text, CLOSE, mask=mask)


client_close = partial(close, mask=True)
"""The bytes of a client's close."""


def complete(items: int | str, *, mask: bool = False) -> bytes:
    """Return the close that proves the end."""
    return close(1000, f"complete; items={items}", mask=mask)


def handshake(path: str = "/0", *, subprotocol: str = "", version: str = "1.1", **headers: Any) -> bytes:
    """Return a client's request; a header that is None is left out, and underscores in names are hyphens."""
    given: dict[str, Any] = {
        "Host": "test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": subprotocol or None,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{name}: {value}" for name, value in given.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/{version}", *lines, "", ""]).encode()


def accepting(request: str, subprotocol: str = "") -> bytes:
    """Return a server's response to the head of a handshake."""
    found = re.search("(?im)^sec-websocket-key: *(.+?)\r?$", request)
    assert found is not None, request
    digest = hashlib.sha1(found[1].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}"]
    lines += [f"Sec-WebSocket-Protocol: {subprotocol}"] * bool(subprotocol)
    return "\r\n".join([*lines, "", ""]).encode()


class Peer:
    """One side of a WebSocket.

    Attributes:
        client: its connection.
        head: the head of the other side's response or request, after it was read.
        ended: how the other side has ended the connection: "closed" or "reset"; "" while it is open.
    """

    def __init__(self, client: Client, *, mask: bool = True, reads_ahead: bool = False) -> None:
        """Take one side of a connection.

        Args:
            client: the connection.
            mask: whether this is the client's side.
            reads_ahead: whether it reads all available bytes, so that none are left in the kernel.
        """
        self.client = client
        self.head = ""
        self.ended = ""
        self._received = bytearray()
        self._mask = mask
        self._reads_ahead = reads_ahead

    async def send(self, *data: bytes) -> None:
        """Send bytes; wait while the other side does not read them."""
        async with asyncio.timeout(GUARD_SECONDS):
            await asyncio.get_running_loop().sock_sendall(self.client.sock, b"".join(data))

    async def say(self, *payloads: str) -> None:
        """Send each text in a message."""
        await self.send(*(frame(payload, mask=self._mask) for payload in payloads))

    async def say_items(self, *items: Any) -> None:
        """Send each item in a message."""
        await self.send(*(frame(msgspec.json.encode(item), mask=self._mask) for item in items))

    async def read_head(self) -> str:
        """Read the head of the request or the response."""
        while b"\r\n\r\n" not in self._received:
            await self._more(2)
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        self.head = head.decode()
        return self.head

    async def status(self) -> int:
        """Read the head of the response to the handshake; return its status."""
        return int((await self.read_head()).split(" ")[1])

    async def read(self) -> Frame:
        """Read a frame."""
        first, second = await self._take(2)
        assert first & 0xF0 == 0x80, f"got first byte {first:#x}, expected a final frame without extensions"
        assert bool(second & 128) is not self._mask, "clients must mask their frames, servers must not"
        size = second & 127
        if size > 125:
            size = int.from_bytes(await self._take(2 if size == 126 else 8))
        mask = await self._take(4) if second & 128 else b""
        payload = await self._take(size)
        return Frame(first & 15, _masked(payload, mask) if mask else payload)

    async def read_to_close(self) -> list[Frame]:
        """Read up to the other side's close, and reply to it."""
        frames = [await self.read()]
        while frames[-1].opcode != CLOSE:
            frames.append(await self.read())
        with suppress(ConnectionError):
            await self.send(frame(frames[-1].payload, CLOSE, mask=self._mask))
        return frames

    async def read_to_end(self) -> tuple[int, str]:
        """Read to the close, then to the end of the connection; return the code and reason of the close."""
        last = (await self.read_to_close())[-1].closing
        await self.client.read_to_end()
        return last

    async def hear(self) -> Frame | None:
        """Read a frame; None at the end of the connection."""
        try:
            return await self.read()
        except (EOFError, ConnectionError) as error:
            self.ended = "closed" if isinstance(error, EOFError) else "reset"
            return None

    async def hear_all(self) -> list[Frame]:
        """Read all frames until the connection ends; reply to the first close."""
        heard: list[Frame] = []
        while (each := await self.hear()) is not None:
            if each.opcode == CLOSE and all(before.opcode != CLOSE for before in heard):
                with suppress(ConnectionError):
                    await self.send(frame(each.payload, CLOSE, mask=self._mask))
            heard.append(each)
        return heard

    def fin(self) -> None:
        """Send a FIN without closing the connection."""
        self.client.half_close()

    async def reset(self) -> None:
        """Send a RST when the other side's kernel has received everything sent before."""
        async with asyncio.timeout(GUARD_SECONDS):
            while unsent_bytes(self.client.sock):
                await asyncio.sleep(0.001)
        reset_when_closed(self.client.sock, yes=True)
        self.client.sock.close()

    async def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._more(size - len(self._received))
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    async def _more(self, size: int) -> None:
        data = await self.client.read(65536 if self._reads_ahead else size)
        if not data:
            raise EOFError("the connection was closed, expected another frame")
        self._received += data


# ---- clients


@asynccontextmanager
async def connecting(
    port: int,
    path: str = "/0",
    *,
    receive_bytes: int = 0,
    subprotocol: str = "",
    rest: bytes = b"",
    reads_ahead: bool = False,
    **headers: str,
) -> AsyncIterator[Peer]:
    """Connect, and send a handshake with `rest` right after it; the response is not read."""
    async with client_of(port, receive_bytes=receive_bytes) as client:
        peer = Peer(client, reads_ahead=reads_ahead)
        await peer.send(handshake(path, subprotocol=subprotocol, **headers), rest)
        yield peer


@asynccontextmanager
async def opened(port: int, path: str = "/0", **options: Any) -> AsyncIterator[Peer]:
    """Connect, and read the response to the handshake; see `connecting`."""
    async with connecting(port, path, **options) as peer:
        assert await peer.status() == 101, peer.head
        yield peer


# ---- servers

Talk = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk, *, subprotocol: str = "", receive_bytes: int = 0) -> AsyncIterator[str]:
    """Start a server that accepts each handshake, talks to that client, and closes; yield its URL."""

    async def serve(sock: socket.socket) -> None:
        with closing(sock), suppress(ConnectionError, EOFError):
            peer = Peer(Client(sock), mask=False, reads_ahead=True)
            await peer.send(accepting(await peer.read_head(), subprotocol))
            await talk(peer)

    async with listening(serve, receive_bytes=receive_bytes) as port:
        yield f"ws://127.0.0.1:{port}/0"


@asynccontextmanager
async def listening(serve: Callable[[socket.socket], Awaitable[None]], *, receive_bytes: int = 0) -> AsyncIterator[int]:
    """Serve each connection; yield the port. An error in serving is raised at the end."""
    talks: list[asyncio.Future[None]] = []

    async def accept(listener: socket.socket) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            sock.setblocking(False)
            talks.append(asyncio.ensure_future(serve(sock)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        if receive_bytes:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        accepts = asyncio.ensure_future(accept(listener))
        try:
            yield listener.getsockname()[1]
        finally:
            accepts.cancel()
            await asyncio.wait({accepts})
        async with asyncio.timeout(GUARD_SECONDS):
            await asyncio.gather(*talks)
