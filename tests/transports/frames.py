"""A WebSocket's client by hand (RFC 6455), on a plain socket: it sends what it likes, and reads when told to."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import msgspec

from chunkwise.formats.messages import SUBPROTOCOL
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import Client, client_of

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KEY = base64.b64encode(bytes(range(16))).decode()
MASK = b"\x01\x80\xff\x7e"
BOTH_FRAMINGS = ("", SUBPROTOCOL)


class Frame(NamedTuple):
    """A frame that came."""

    opcode: int
    payload: bytes

    @property
    def item(self) -> Any:
        """The item of a message that is one."""
        assert self.opcode == TEXT, self
        return msgspec.json.decode(self.payload)

    @property
    def closing(self) -> tuple[int, str]:
        """What a close says: its code, 1005 where it has none, and its reason."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2]) if self.payload else 1005, self.payload[2:].decode()


def frame(
    payload: bytes | str,
    opcode: int = TEXT,
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bool = True,
    declares: int | None = None,
    wide: bool = False,
) -> bytes:
    """A frame of a client.

    Args:
        payload: what it carries.
        opcode: any of four bits.
        fin: whether it ends its message.
        reserved: three bits.
        mask: whether it is masked, as those of clients have to be.
        declares: the length in its head, if that is not the payload's.
        wide: whether the length takes 64 bits, whatever it is.
    """
    data = payload.encode() if isinstance(payload, str) else payload
    size = len(data) if declares is None else declares
    if wide or size > 0xFFFF:
        lengths = struct.pack(">BQ", 127, size)
    else:
        lengths = struct.pack(">BH", 126, size) if size > 125 else bytes([size])
    head = bytes([fin << 7 | reserved << 4 | opcode, lengths[0] | mask << 7]) + lengths[1:]
    return head + MASK + _masked(data) if mask else head + data


def _masked(data: bytes) -> bytes:
    mask = (MASK * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(mask)).to_bytes(len(data))


def closing(code: int, reason: bytes | str = b"") -> bytes:
    """A close."""
    return frame(code.to_bytes(2) + (reason.encode() if isinstance(reason, str) else reason), CLOSE)


def handshake(path: str = "/0", *, subprotocol: str = "", version: str = "1.1", **headers: Any) -> bytes:
    """The request; a header that is None is left out, and underscores in names are hyphens."""
    told: dict[str, Any] = {
        "Host": "test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": subprotocol or None,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{name}: {value}" for name, value in told.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/{version}", *lines, "", ""]).encode()


class Framed:
    """A client that takes no byte before it is told to read.

    Attributes:
        client: its connection.
        head: of the answer to its handshake, once that came.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.head = ""
        self._came = bytearray()

    async def send(self, *data: bytes) -> None:
        """Send bytes; it waits while the server does not take them."""
        async with asyncio.timeout(GUARD_SECONDS):
            await asyncio.get_running_loop().sock_sendall(self.client.sock, b"".join(data))

    async def say(self, *items: Any) -> None:
        """Send each item in a message."""
        await self.send(*(frame(msgspec.json.encode(item)) for item in items))

    async def status(self) -> int:
        """Read the head of the answer to the handshake; give its status."""
        while b"\r\n\r\n" not in self._came:
            await self._more()
        head, _, self._came = self._came.partition(b"\r\n\r\n")
        self.head = head.decode()
        return int(self.head.split(" ")[1])

    async def read(self) -> Frame:
        """Read a frame, and nothing behind it."""
        first, second = await self._take(2)
        assert first & 0xF0 == 0x80, "our frames are final, and of no extension"
        assert second < 128, "a server's frames have no mask"
        size = second
        if size > 125:
            size = int.from_bytes(await self._take(2 if size == 126 else 8))
        return Frame(first & 15, await self._take(size))

    async def read_to_close(self) -> list[Frame]:
        """Read up to the server's close, and answer that."""
        frames = [await self.read()]
        while frames[-1].opcode != CLOSE:
            frames.append(await self.read())
        with suppress(ConnectionError):
            await self.send(frame(frames[-1].payload, CLOSE))
        return frames

    async def read_to_end(self) -> tuple[int, str]:
        """Read up to the server's close, and the end of the connection behind it; give what the close says."""
        told = (await self.read_to_close())[-1].closing
        await self.client.read_to_end()
        return told

    async def _take(self, size: int) -> bytes:
        while len(self._came) < size:
            await self._more(size - len(self._came))
        data = bytes(self._came[:size])
        del self._came[:size]
        return data

    async def _more(self, size: int = 2) -> None:
        data = await self.client.read(size)
        if not data:
            raise EOFError("the connection was closed without a close of the WebSocket")
        self._came += data


@asynccontextmanager
async def framed(
    port: int, path: str = "/0", *, receive_bytes: int = 0, subprotocol: str = "", rest: bytes = b"", **headers: str
) -> AsyncIterator[Framed]:
    """Connect, and send a handshake with what is to come behind it at once; its answer is not read."""
    async with client_of(port, receive_bytes=receive_bytes) as client:
        peer = Framed(client)
        await peer.send(handshake(path, subprotocol=subprotocol, **headers), rest)
        yield peer


@asynccontextmanager
async def opened(port: int, path: str = "/0", **options: Any) -> AsyncIterator[Framed]:
    """A client whose handshake was answered; see `framed`."""
    async with framed(port, path, **options) as peer:
        assert await peer.status() == 101, peer.head
        yield peer
