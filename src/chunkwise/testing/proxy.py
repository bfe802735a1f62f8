"""A proxy that breaks answers on purpose, over real sockets on the loopback.

Must not know HTTP beyond what `faults` says of it: it passes bytes on. Plain sockets, not asyncio's streams: those
forget what they hold when a connection is reset, and hide what the kernel holds.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from chunkwise.testing.faults import MAX_HEAD_BYTES, Countdown, End, Fault, as_http10, none
from chunkwise.testing.sockets import BUFFER_BYTES, connect
from chunkwise.transports.tcp import reset_when_closed, unsent_bytes

_LINGER_SECONDS = 5.0  # for a client to take what was sent, and to close its side

_REFUSAL = (
    b"HTTP/1.0 411 Length Required\r\nContent-Type: text/plain\r\n\r\n"
    b"FaultProxy: HTTP/1.0 has no chunked requests: send a Content-Length\n"
)


class FaultProxy:
    """A TCP proxy that does a fault to the answers of a server; an async context manager.

    ::

        async with FaultProxy("127.0.0.1", server.port, cut_at(100)) as proxy:
            await session.get(proxy.url("/numbers"))

    If the server cannot be reached, the client's connection is closed. Bytes are passed on as they come, also an end or
    a reset. Connections that are open when the proxy is left are reset.

    Args:
        host: of the server.
        port: of the server.
        fault: what is done to each connection; or a list of what is done to the first, the second, ... of them.
        times: to how many connections it is done, from the first on; those behind are passed on as they are, as are
            those behind the end of a list. None for all.

    Attributes:
        port: of the proxy, once it is entered.
        connections: how many came so far.
    """

    def __init__(
        self, host: str, port: int, fault: Fault | Sequence[Fault] | None = None, *, times: int | None = None
    ) -> None:
        self.port: int = 0
        self.connections: int = 0
        self._server = (host, port)
        self._fault = fault if fault is not None else none()
        self._times = times
        self._listener: socket.socket  # from when it is entered
        self._talks: set[asyncio.Task[None]] = set()

    def url(self, path: str = "/") -> str:
        """Return the URL of a path of the server, through the proxy.

        Args:
            path: with its slash, and the query.
        """
        return f"http://127.0.0.1:{self.port}{path}"

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0)
        self.port = self._listener.getsockname()[1]
        # Not `sock_accept`: a task that is cancelled at the wrong moment would lose the connection that it got.
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for talk in self._talks:
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):  # it has left already
            self._begin(listener.accept()[0])

    def _begin(self, client: socket.socket) -> None:
        talk = asyncio.create_task(_serve(client, self._server, self._next_fault()))
        self.connections += 1
        self._talks.add(talk)

        def end(talk: asyncio.Task[None]) -> None:
            client.close()  # here, since a task that is cancelled at once never runs
            self._talks.discard(talk)

        talk.add_done_callback(end)

    def _next_fault(self) -> Fault:
        index = self.connections
        if self._times is not None and index >= self._times:
            return none()
        if isinstance(self._fault, Fault):
            return self._fault
        return self._fault[index] if index < len(self._fault) else none()


async def _serve(client: socket.socket, server: tuple[str, int], fault: Fault) -> None:
    """Talk with one client until its connection can be closed."""
    client.settimeout(0)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # pieces arrive as pieces
    with suppress(OSError):  # the client has left
        try:
            end = await _pass_on(client, server, fault)
        except BaseException:
            reset_when_closed(client, yes=True)  # what the proxy's own end interrupts must not look whole
            raise
        if end == "reset":
            await _delivered(client)
            reset_when_closed(client, yes=True)
        else:
            client.shutdown(socket.SHUT_WR)
            # Closing with unread bytes would reset: so they are read, until the client closes as well.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    await _discard(client)


async def _pass_on(client: socket.socket, server: tuple[str, int], fault: Fault) -> End:
    """Pass a connection on, and do the fault to it; return how the client's side is to end."""
    loop = asyncio.get_running_loop()
    first, left = b"", None
    if fault.as_http10:
        head, rest = await _request_head(client)
        downgraded = as_http10(head)
        if downgraded is None:
            await loop.sock_sendall(client, _REFUSAL)
            return "cut"
        first, left = downgraded[0] + rest[: downgraded[1]], max(0, downgraded[1] - len(rest))
    try:
        upstream = await connect(*server)
    except OSError:
        return "cut"
    with upstream:
        broken = asyncio.Event()
        uploading = asyncio.create_task(_upload(client, upstream, first, left, broken))
        try:
            end = await _download(client, upstream, fault, broken)
        finally:
            uploading.cancel()
            await asyncio.wait([uploading])
        if end == "stall":
            await _discard(client)
    return end


async def _request_head(client: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of a request, and what came behind it."""
    loop = asyncio.get_running_loop()
    came = b""
    while b"\r\n\r\n" not in came:
        data = await loop.sock_recv(client, BUFFER_BYTES)
        if not data or len(came) > MAX_HEAD_BYTES:
            raise ConnectionError("no whole request came")
        came += data
    head, end, rest = came.partition(b"\r\n\r\n")
    return head + end, rest


async def _upload(
    client: socket.socket, upstream: socket.socket, first: bytes, left: int | None, broken: asyncio.Event
) -> None:
    """Pass on what the client sends: some bytes first, then as many as are left, or all; the rest is dropped."""
    loop = asyncio.get_running_loop()
    data = first
    try:
        while True:
            try:
                await loop.sock_sendall(upstream, data)
            except ConnectionResetError:
                broken.set()  # the kernel says it once: the download would see a clean end
                return
            data = await loop.sock_recv(client, BUFFER_BYTES)
            if not data:
                break
            if left is not None:
                data = data[:left]
                left -= len(data)
        upstream.shutdown(socket.SHUT_WR)
    except BrokenPipeError:
        return  # the server reads no more: what it answers is still passed on
    except OSError:
        with suppress(OSError):
            upstream.shutdown(socket.SHUT_RDWR)  # the client has left: ends the download as well


async def _download(client: socket.socket, upstream: socket.socket, fault: Fault, broken: asyncio.Event) -> End:
    """Pass on what the server sends up to the fault; return how it is to end."""
    loop = asyncio.get_running_loop()
    countdown = Countdown(fault)
    while True:
        try:
            data = await loop.sock_recv(upstream, BUFFER_BYTES)
            allowed, strikes = countdown.allow(data)
        except ConnectionError:
            return "reset"
        if not data:
            return "reset" if broken.is_set() else "cut"
        size = fault.piece_bytes or len(data)
        for start in range(0, len(allowed), size):
            await loop.sock_sendall(client, allowed[start : start + size])
            if fault.piece_bytes:
                await asyncio.sleep(fault.every_seconds)
        if strikes and fault.end is not None:
            return fault.end


async def _discard(client: socket.socket) -> None:
    """Read until the client closes its side."""
    while await asyncio.get_running_loop().sock_recv(client, BUFFER_BYTES):
        pass


async def _delivered(client: socket.socket) -> None:
    """Wait until the client's kernel has all that was sent, or does not take it for long."""
    if unsent_bytes(client) is None:
        await asyncio.sleep(0.1)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while unsent_bytes(client):  # noqa: ASYNC110 - the kernel calls nobody back
                await asyncio.sleep(0.001)
