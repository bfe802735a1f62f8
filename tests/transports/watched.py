"""Our server with `setup`, the outcomes of its streams at hand; and clients on bare sockets, that read as they like."""

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
"""For the kernel's buffers: what it does not hold is seen at once."""


class Watched:
    """A server that runs.

    Attributes:
        runner: to clean up early, which may be done twice.
        port: where it listens.
    """

    def __init__(self, runner: web.AppRunner) -> None:
        self.runner = runner
        self.port = 0
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue()

    def note(self, _request: web.BaseRequest, outcome: Outcome) -> None:
        """See `OutcomeHook`."""
        self._outcomes.put_nowait(outcome)

    async def outcome(self) -> Outcome:
        """The next outcome, waited for."""
        async with asyncio.timeout(GUARD_SECONDS):
            return await self._outcomes.get()

    @property
    def has_more(self) -> bool:
        """Whether there is an outcome that was not read."""
        return not self._outcomes.empty()


@asynccontextmanager
async def watched(
    *handlers: Handler, grace_seconds: float = 0, send_bytes: int = 0, app: web.Application | None = None
) -> AsyncIterator[Watched]:
    """Serve handlers at /0, /1, ...; send_bytes is the size of the kernel's send buffer, if it is not to grow."""
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
        """Send a request; underscores in the names of headers are hyphens."""
        lines = [f"GET {path} HTTP/{version}", "Host: test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode()
        await asyncio.get_running_loop().sock_sendall(self.sock, request)

    async def read(self, size: int = 65536) -> bytes:
        """Read once: as many bytes as there are, ``b""`` at the end."""
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
        """Read until the server closes; say how: "closed" in order, or "reset"."""
        try:
            while await self.read():
                pass
        except ConnectionError:
            return "reset"
        return "closed"

    def half_close(self) -> None:
        """Send a FIN, and nothing else."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@asynccontextmanager
async def client_of(port: int, *, receive_bytes: int = 0) -> AsyncIterator[Client]:
    """Connect; receive_bytes is the size of the kernel's receive buffer, if it is not to grow."""
    with closing(socket.socket()) as sock:
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield Client(sock)


def ends_whole(client: Client) -> bool:
    """Whether an HTTP/1.1 answer has its last chunk."""
    return client.came.endswith(b"\r\n" + LAST)
