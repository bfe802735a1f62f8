"""Raw HTTP for tests: connections of raw bytes to our server, and servers that send what a test chooses."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web

from chunkwise import respond
from tests.flow.producing import GUARD_SECONDS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_chunk_size = re.compile(rb"([1-9a-f][0-9a-f]*)\r\n", re.IGNORECASE)


@asynccontextmanager
async def serving(
    *handlers: Handler, app: web.Application | None = None, send_bytes: int = 0, **runner_options: Any
) -> AsyncIterator[int]:
    """Serve handlers at /0, /1, ... on a real socket; yield the port.

    Args:
        handlers: the handlers, each for all methods.
        app: the application that gets the handlers, for example one with signals.
        send_bytes: the fixed size of the kernel's send buffers; 0 lets them grow.
        runner_options: options of `web.AppRunner`.
    """
    runner = runner_of(*handlers, app=app, **runner_options)
    async with started(runner, send_bytes=send_bytes) as port:
        yield port


def runner_of(*handlers: Handler, app: web.Application | None = None, **runner_options: Any) -> web.AppRunner:
    """Make a runner of an application with handlers at /0, /1, ..."""
    app = app if app is not None else web.Application()
    for index, handler in enumerate(handlers):
        app.router.add_route("*", f"/{index}", handler)
    return web.AppRunner(app, **{"shutdown_timeout": 0.05, **runner_options})


@asynccontextmanager
async def started(runner: web.AppRunner, *, send_bytes: int = 0) -> AsyncIterator[int]:
    """Run an application on a free port; yield the port."""
    await runner.setup()
    try:
        listening = socket.create_server(("127.0.0.1", 0))
        if send_bytes:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)  # accepted sockets inherit it
        await web.SockSite(runner, listening).start()
        yield listening.getsockname()[1]
    finally:
        await runner.cleanup()


def streams(make: Callable[[], Any], *args: Any, **options: Any) -> Handler:
    """Return a handler that responds to each request with a new source."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, make(), *args, **options)

    return handler


def url_of(port: int, path: str = "/0") -> str:
    return f"http://127.0.0.1:{port}{path}"


class Wire:
    """A connection of raw bytes to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.came = bytearray()

    def ask(self, path: str = "/0", *, method: str = "GET", version: str = "1.1", accept: str = "*/*") -> None:
        request = f"{method} {path} HTTP/{version}\r\nHost: test\r\nAccept: {accept}\r\n\r\n"
        self.writer.write(request.encode())

    async def read_until(self, end: bytes) -> bytes:
        """Read until the response ends with ``end``; return all bytes read so far."""
        async with asyncio.timeout(GUARD_SECONDS):
            while not self.came.endswith(end):
                data = await self.reader.read(65536)
                assert data, f"closed after {bytes(self.came[-99:])!r}, expected {end!r}"
                self.came += data
        return bytes(self.came)

    async def read_to_end(self) -> bytes:
        """Read until the server closes or resets the connection; return all bytes of the response."""
        async with asyncio.timeout(GUARD_SECONDS):
            try:
                while data := await self.reader.read(65536):
                    self.came += data
            except ConnectionResetError:
                self.came += b" reset"
        return bytes(self.came)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Wire]:
    """Open a connection of raw bytes to a server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def answering(*pieces: bytes, reset: bool = False, linger: asyncio.Event | None = None) -> AsyncIterator[int]:
    """Start a server that sends some bytes to each client, then closes; yield its port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)  # so that the pieces usually arrive separately
        if linger is not None:
            await linger.wait()
        if reset:
            writer.transport.abort()

    async with talking(talk) as port:
        yield port


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[int]:
    """Start a server that calls ``talk`` for each client; yield its port."""

    talks: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # the client has left
                await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    async with asyncio.timeout(GUARD_SECONDS):
        await asyncio.gather(*filter(None, talks))


def head(*headers: str, status: str = "200 OK") -> bytes:
    """Return the head of a response."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


def chunked(*datas: bytes) -> bytes:
    """Return chunks (RFC 9112 §7.1) without the last chunk."""
    return b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in datas)


def body_of(answer: bytes | bytearray) -> bytes:
    """Return the content of a chunked response; the response may be incomplete."""
    data = bytearray()
    position = answer.find(b"\r\n\r\n") + 4
    while match := _chunk_size.match(answer, position):
        size = int(match[1], 16)
        data += answer[match.end() : match.end() + size]
        position = match.end() + size + 2
    return bytes(data)


async def curl(*arguments: str) -> tuple[int, bytes]:
    """Run curl; return its exit status and its output."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-N", "--max-time", str(GUARD_SECONDS), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed
