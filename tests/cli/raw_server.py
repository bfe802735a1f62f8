"""A server on a raw socket: what it answers, where it stops and what it waits for is the test's to say."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

GUARD_SECONDS = 40

Answer = Callable[[socket.socket, bytes], object]
"""Serves a connection, given the head of the request that was read from it."""


def head(*fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "Connection: close", "", ""]).encode()


def whole(content_type: str, body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    """An answer with a Content-Length."""
    return head(f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *fields, status=status) + body


def chunked(content_type: str, *pieces: bytes) -> bytes:
    """An answer in chunks, still without the last one."""
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
        with suppress(ConnectionError):  # the client may leave, if that is what the test is about
            self.server.answer(self.request, request)  # type: ignore[attr-defined]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = False
    answer: Answer


@contextmanager
def answering(answer: Answer | bytes) -> Iterator[str]:
    """Serve one answer to every request: bytes, or what a function does with the connection; yield the URL."""
    with _Server(("127.0.0.1", 0), _Requests) as server:
        server.answer = answer if callable(answer) else lambda connection, _: connection.sendall(answer)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


class Gate:
    """Where an answer waits until the test opens it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(GUARD_SECONDS), "the test never opened the gate"


@contextmanager
def answering_in_two(first: bytes, second: bytes) -> Iterator[tuple[str, Gate]]:
    """Serve an answer whose second half waits at a gate; yield the URL and the gate."""
    gate = Gate()

    def answer(connection: socket.socket, _: bytes) -> None:
        connection.sendall(first)
        gate.wait()
        connection.sendall(second)

    with answering(answer) as url:
        try:
            yield url, gate
        finally:
            gate.open()
