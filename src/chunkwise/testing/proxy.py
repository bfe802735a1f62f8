"""A proxy on 127.0.0.1 that passes the responses of a server on and breaks them with a fault.

The proxy uses plain sockets, because asyncio's streams drop the bytes in their buffers when a connection is reset, and
the client would not receive them.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from chunkwise.testing.faults import MAX_HEAD_BYTES, Countdown, End, Fault, as_http10, none
from chunkwise.testing.sockets import BUFFER_BYTES, connect
from chunkwise.transports.tcp import reset_when_closed, unsent_bytes

# After the last byte, the proxy waits up to this long for the client to receive all bytes and close its side.
_LINGER_SECONDS = 5.0

_REFUSAL = (
    b"HTTP/1.0 411 Length Required\r\nContent-Type: text/plain\r\n\r\n"
    b"FaultProxy: HTTP/1.0 has no chunked requests: send a Content-Length\n"
)


class FaultProxy:
    """A TCP proxy that applies a fault to the responses of a server; an async context manager.

    ::

        async with FaultProxy("127.0.0.1", server.port, cut_at(100)) as proxy:
            await session.get(proxy.url("/numbers"))

    Bytes are passed on at once. If the server closes or resets its connection, the proxy does the same to the client's
    connection. If the server cannot be reached, the client's connection is closed. Connections that are open at the end
    of the ``async with`` block are reset.

    Args:
        host: the host of the server.
        port: the port of the server.
        fault: the fault of each connection, or a list with the fault of the first connection, the second, and so on.
            Connections after the end of the list have no fault.
        times: how many connections get the fault, from the first on; None for all.

    Attributes:
        port: the port of the proxy, inside the ``async with`` block.
        connections: the number of connections so far.
    """

    def __init__(
        self, host: str, port: int, fault: Fault | Sequence[Fault] | None = None, *, times: int | None = None
    ) -> None:
        self.port: int = 0
        self.connections: int = 0
        self._server = (host, port)
        self._fault = fault if fault is not None else none()
        self._times = times
        # This socket accepts connections. It is created when the ``async with`` block is entered.
        self._listener: socket.socket
        self._talks: set[asyncio.Task[None]] = set()

    def url(self, path: str = "/") -> str:
        """Return the URL of a path of the server, through the proxy.

        Args:
            path: the path with its leading slash, and the query.
        """
        return f"http://127.0.0.1:{self.port}{path}"

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0)
        self.port = self._listener.getsockname()[1]
        # A task with `sock_accept` is not used: if it were cancelled just after a client connects, nothing would close
        # the connection.
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
        try:
            client = listener.accept()[0]
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has disconnected before its connection was accepted
        talk = asyncio.create_task(_serve(client, self._server, self._next_fault()))
        self.connections += 1
        self._talks.add(talk)

        def end(talk: asyncio.Task[None]) -> None:
            # The socket is closed here because `_serve` never runs if its task is cancelled before the first step.
            client.close()
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
    """Pass bytes on between one client and the server, then end the client's connection as its fault requires."""
    client.settimeout(0)
    # With TCP_NODELAY, the kernel sends each piece at once. Otherwise it may join small pieces.
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # An OSError usually means that the client has disconnected. In any case, the connection is then closed.
    with suppress(OSError):
        try:
            end = await _pass_on(client, server, fault)
        except BaseException:
            # After an error or a cancellation, the response may be incomplete. A clean close could make it look
            # complete, so the connection is reset.
            reset_when_closed(client, yes=True)
            raise
        if end == "reset":
            await _delivered(client)
            reset_when_closed(client, yes=True)
        else:
            client.shutdown(socket.SHUT_WR)
            # If a socket is closed while it has unread bytes, the kernel resets the connection. So the client's bytes
            # are read until the client closes its side.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    await _discard(client)


async def _pass_on(client: socket.socket, server: tuple[str, int], fault: Fault) -> End:
    """Pass the bytes between a client and the server on, with the fault.

    Return how to end the connection to the client: ``"cut"``, ``"reset"`` or ``"stall"``.
    """
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
    """Return the head of a request, and the bytes received after it."""
    loop = asyncio.get_running_loop()
    received = b""
    while b"\r\n\r\n" not in received:
        data = await loop.sock_recv(client, BUFFER_BYTES)
        if not data or len(received) > MAX_HEAD_BYTES:
            raise ConnectionError(f"expected the head of a request, received {len(received)} bytes without its end")
        received += data
    head, end, rest = received.partition(b"\r\n\r\n")
    return head + end, rest


async def _upload(
    client: socket.socket, upstream: socket.socket, first: bytes, left: int | None, broken: asyncio.Event
) -> None:
    """Send ``first`` to the server, then the next ``left`` bytes from the client. Drop all bytes after these.

    If ``left`` is None, all bytes from the client are sent. ``broken`` is set if the server resets its connection.
    """
    loop = asyncio.get_running_loop()
    data = first
    try:
        while True:
            try:
                await loop.sock_sendall(upstream, data)
            except ConnectionResetError:
                # The kernel reports a reset only once, and has reported it here. `_download` receives a clean end, so
                # this event shows that the server has reset the connection.
                broken.set()
                return
            data = await loop.sock_recv(client, BUFFER_BYTES)
            if not data:
                break
            if left is not None:
                data = data[:left]
                left -= len(data)
        upstream.shutdown(socket.SHUT_WR)
    except BrokenPipeError:
        return  # The server reads no more of the request, but it may still respond, so `_download` continues.
    except OSError:
        with suppress(OSError):
            # The client has disconnected, so shut down the server's connection too. This also ends `_download`, which
            # reads from it.
            upstream.shutdown(socket.SHUT_RDWR)


async def _download(client: socket.socket, upstream: socket.socket, fault: Fault, broken: asyncio.Event) -> End:
    """Pass on the server's bytes until the fault or the end. Return how to end the connection to the client."""
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
    """Read and drop the client's bytes until the client closes its side of the connection."""
    while await asyncio.get_running_loop().sock_recv(client, BUFFER_BYTES):
        pass


async def _delivered(client: socket.socket) -> None:
    """Wait until the client's kernel has received all bytes, for at most 5 seconds."""
    if unsent_bytes(client) is None:
        await asyncio.sleep(0.1)
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while unsent_bytes(client):  # noqa: ASYNC110 - the kernel sends no notification
                await asyncio.sleep(0.001)
