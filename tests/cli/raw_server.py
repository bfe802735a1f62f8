"""A server on a raw socket. The test decides which bytes it sends, where it stops and what it waits for."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

GUARD_SECONDS = 40

Respond = Callable[[socket.socket, bytes], object]
"""A function that serves a connection. Its arguments are the connection and the head of the request."""


def head(*fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "Connection: close", "", ""]).encode()


def whole(content_type: str, body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """Return a response with a Content-Length."""
    return head(f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *fields, status=status) + body


def chunked(content_type: str, *pieces: bytes) -> bytes:
    """Return a response in chunks, without the last chunk."""
    return head(f"Content-Type: {content_type}", "Transfer-Encoding: chunked") + b"".join(map(chunk, pieces))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = chunk(b"")


class _Requests(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            data = self.request.recv(65536)
            if not data:
                return
            request += data
        with suppress(ConnectionError):  # some tests disconnect the client
            self.server.respond(self.request, request)  # type: ignore[attr-defined]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = False
    respond: Respond


@contextmanager
def responding(response: Respond | bytes) -> Iterator[str]:
    """Send the same response to every request; yield the URL. The response is bytes, or a function that sends it."""
    with _Server(("127.0.0.1", 0), _Requests) as server:
        server.respond = response if callable(response) else lambda connection, _: connection.sendall(response)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


class Gate:
    """A gate at which a response waits until the test opens it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(GUARD_SECONDS), "the test never opened the gate"


@contextmanager
def responding_in_two(first: bytes, second: bytes) -> Iterator[tuple[str, Gate]]:
    """Serve a response whose second half waits at a gate; yield the URL and the gate."""
    gate = Gate()

    def respond(connection: socket.socket, _: bytes) -> None:
        connection.sendall(first)
        gate.wait()
        connection.sendall(second)

    with responding(respond) as url:
        try:
            yield url, gate
        finally:
            gate.open()
