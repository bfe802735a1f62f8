"""WebSockets by hand (RFC 6455): frames as bytes, and servers and clients of plain sockets that say what a test says.

Plain sockets: asyncio's streams forget what they hold when a connection is reset.
"""

import asyncio
import base64
import hashlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import NamedTuple

from chunkwise.transports.tcp import reset_when_closed, unsent_bytes
from tests.flow.producing import GUARD_SECONDS

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x01\x80\xff\x7e"
KEY = base64.b64encode(b"0123456789abcdef").decode()


class Frame(NamedTuple):
    """A frame that came, unmasked."""

    opcode: int
    payload: bytes

    @property
    def text(self) -> str:
        return self.payload.decode()

    @property
    def code(self) -> int:
        """Of a close; 1005 if it has none."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2]) if self.payload else 1005

    @property
    def reason(self) -> str:
        return self.payload[2:].decode()


def masked(data: bytes) -> bytes:
    return bytes(byte ^ MASK[index % 4] for index, byte in enumerate(data))


def frame(payload: str | bytes, opcode: int = TEXT, *, mask: bool = False, fin: bool = True) -> bytes:
    """A frame; those of clients are masked."""
    data = payload.encode() if isinstance(payload, str) else payload
    size = len(data)
    flag = 128 * mask
    if size < 126:
        lengths = bytes([flag | size])
    else:
        lengths = struct.pack(">BH", flag | 126, size) if size < 65536 else struct.pack(">BQ", flag | 127, size)
    return bytes([128 * fin | opcode]) + lengths + (MASK + masked(data) if mask else data)


def close(code: int | None = 1000, reason: str = "", *, mask: bool = False) -> bytes:
    payload = b"" if code is None else struct.pack(">H", code) + reason.encode()
    return frame(payload, CLOSE, mask=mask)


def complete(items: int | str, *, mask: bool = False) -> bytes:
    """The close that proves the end."""
    return close(1000, f"complete; items={items}", mask=mask)


class Peer:
    """One side of a WebSocket, whose handshake is through.

    Attributes:
        sock: its connection.
        asked: the head of the handshake's request, if that came to us.
        ended: how the other side has ended the connection: "closed" or "reset"; "" as long as it has not.
    """

    def __init__(self, sock: socket.socket, rest: bytes, *, mask: bool, asked: str = "") -> None:
        self.sock = sock
        self.asked = asked
        self.ended = ""
        self._came = rest
        self._mask = mask

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def say(self, *payloads: str) -> None:
        """Send messages."""
        await self.send(b"".join(frame(payload, mask=self._mask) for payload in payloads))

    async def _take(self, size: int) -> bytes:
        while len(self._came) < size:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
            if not data:
                raise EOFError
            self._came += data
        taken, self._came = self._came[:size], self._came[size:]
        return taken

    async def hear(self) -> Frame | None:
        """The next frame; None at the end of the connection."""
        try:
            async with asyncio.timeout(GUARD_SECONDS):
                first, second = await self._take(2)
                assert first & 0xF0 == 0x80, "our frames are final, and use no extension"
                assert bool(second & 128) is not self._mask, "clients mask, servers do not"
                size = second & 127
                if size > 125:
                    size = int.from_bytes(await self._take(2 if size == 126 else 8))
                mask = await self._take(4) if second & 128 else bytes(4)
                payload = await self._take(size)
        except (EOFError, ConnectionError) as error:
            self.ended = "closed" if isinstance(error, EOFError) else "reset"
            return None
        return Frame(first & 15, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)))

    async def hear_all(self) -> list[Frame]:
        """All frames until the connection's end; the first close is answered."""
        heard: list[Frame] = []
        while (each := await self.hear()) is not None:
            if each.opcode == CLOSE and all(before.opcode != CLOSE for before in heard):
                with suppress(ConnectionError):
                    await self.send(frame(each.payload, CLOSE, mask=self._mask))
            heard.append(each)
        return heard

    def fin(self) -> None:
        """Send a FIN, and nothing else."""
        self.sock.shutdown(socket.SHUT_WR)

    async def reset(self) -> None:
        """Send a RST, once the other side's kernel has all before it."""
        async with asyncio.timeout(GUARD_SECONDS):
            while unsent_bytes(self.sock):
                await asyncio.sleep(0.001)
        reset_when_closed(self.sock, yes=True)
        self.sock.close()


Talk = Callable[[Peer], Awaitable[None]]


async def _head(sock: socket.socket) -> tuple[str, bytes]:
    came = b""
    while b"\r\n\r\n" not in came:
        data = await asyncio.get_running_loop().sock_recv(sock, 65536)
        if not data:
            raise EOFError
        came += data
    head, _, rest = came.partition(b"\r\n\r\n")
    return head.decode(), rest


def accepting(asked: str, subprotocol: str = "") -> bytes:
    """The answer to a handshake."""
    found = re.search("(?im)^sec-websocket-key: *(.+?)\r?$", asked)
    assert found is not None, asked
    digest = hashlib.sha1(found[1].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}"]
    lines += [f"Sec-WebSocket-Protocol: {subprotocol}"] * bool(subprotocol)
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def server(talk: Talk, *, subprotocol: str = "", receive_bytes: int = 0) -> AsyncIterator[str]:
    """A server that says to each client what a test tells it to say, and closes then; give its URL."""

    async def serve(sock: socket.socket) -> None:
        with closing(sock), suppress(ConnectionError, EOFError):
            asked, rest = await _head(sock)
            peer = Peer(sock, rest, mask=False, asked=asked)
            await peer.send(accepting(asked, subprotocol))
            await talk(peer)

    async with listening(serve, receive_bytes=receive_bytes) as port:
        yield f"ws://127.0.0.1:{port}/0"


@asynccontextmanager
async def listening(serve: Callable[[socket.socket], Awaitable[None]], *, receive_bytes: int = 0) -> AsyncIterator[int]:
    """Serve each connection; give the port. What fails in serving, fails here at last."""
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


@asynccontextmanager
async def client(port: int, path: str = "/0", *, subprotocol: str = "", rest: bytes = b"") -> AsyncIterator[Peer]:
    """A client whose handshake was answered; rest is sent with it at once."""
    lines = [f"GET {path} HTTP/1.1", "Host: test", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]
    lines += [f"Sec-WebSocket-Protocol: {subprotocol}"] * bool(subprotocol)
    with closing(socket.socket()) as sock:
        sock.setblocking(False)
        async with asyncio.timeout(GUARD_SECONDS):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            await asyncio.get_running_loop().sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode() + rest)
            answer, came = await _head(sock)
        assert answer.startswith("HTTP/1.1 101 "), answer
        yield Peer(sock, came, mask=True)
