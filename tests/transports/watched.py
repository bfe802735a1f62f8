"""A server with `setup` that records the outcomes of its streams; and clients on plain sockets."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from aiohttp import web

from chunkwise import Outcome, setup
from tests.flow.producing import GUARD_SECONDS
from tests.transports.wire import Handler, runner_of, started

LAST = b"0\r\n\r\n"
SMALL_BYTES = 4096
"""The size of the kernel's buffers: bytes that do not fit wait in our process, where a test sees them."""


class Watched:
    """A running server.

    Attributes:
        runner: the runner; a test may clean it up early, since a second cleanup does nothing.
        port: the port of the server.
    """

    def __init__(self, runner: web.AppRunner) -> None:
        self.runner = runner
        self.port = 0
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue()

    def note(self, _request: web.BaseRequest, outcome: Outcome) -> None:
        """See `OutcomeHook`."""
        self._outcomes.put_nowait(outcome)

    async def outcome(self) -> Outcome:
        """Wait for the next outcome, and return it."""
        async with asyncio.timeout(GUARD_SECONDS):
            return await self._outcomes.get()

    @property
    def has_more(self) -> bool:
        """Whether an outcome has not been read yet."""
        return not self._outcomes.empty()


@asynccontextmanager
async def watched(
    *handlers: Handler, grace_seconds: float = 0, send_bytes: int = 0, app: web.Application | None = None
) -> AsyncIterator[Watched]:
    """Serve handlers at /0, /1, ...; send_bytes fixes the size of the kernel's send buffer."""
    app = app if app is not None else web.Application()
    runner = runner_of(*handlers, app=app)
    server = Watched(runner)
    setup(app, grace_seconds=grace_seconds, on_outcome=server.note)
    async with started(runner, send_bytes=send_bytes) as server.port:
        yield server


class Client:
    """A connection that reads bytes only when a test calls `read`.

    Attributes:
        came: all bytes read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.came = bytearray()

    async def ask(self, path: str = "/0", *, version: str = "1.1", **headers: str) -> None:
        """Send a request; underscores in header names become hyphens."""
        lines = [f"GET {path} HTTP/{version}", "Host: test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode()
        await asyncio.get_running_loop().sock_sendall(self.sock, request)

    async def read(self, size: int = 65536) -> bytes:
        """Read once: all bytes that are available, or ``b""`` at the end."""
        async with asyncio.timeout(GUARD_SECONDS):
            data = await asyncio.get_running_loop().sock_recv(self.sock, size)
        self.came += data
        return data

    async def read_until(self, what: bytes) -> bytes:
        """Read up to some bytes; return all bytes read."""
        while what not in self.came:
            assert await self.read(), f"closed after {bytes(self.came[-99:])!r}, expected {what!r}"
        return bytes(self.came)

    async def read_to_end(self) -> str:
        """Read until the connection ends; return how: "closed" or "reset"."""
        try:
            while await self.read():
                pass
        except ConnectionError:
            return "reset"
        return "closed"

    def half_close(self) -> None:
        """Send a FIN without closing the connection."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@asynccontextmanager
async def client_of(port: int, *, receive_bytes: int = 0) -> AsyncIterator[Client]:
    """Connect; receive_bytes fixes the size of the kernel's receive buffer."""
    with closing(socket.socket()) as sock:
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield Client(sock)


def ends_whole(client: Client) -> bool:
    """Whether an HTTP/1.1 response has its last chunk."""
    return client.came.endswith(b"\r\n" + LAST)
