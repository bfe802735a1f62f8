"""client/upload_connection.py: failures with full buffers, stalls of sources that never wait, and TLS."""

import asyncio
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientError, ClientSession, ClientTimeout, SocketTimeoutError, web

import chunkwise
from chunkwise import RemoteError, StalledError, TruncatedError
from chunkwise.client import upload_connection
from chunkwise.client.upload import ClosingPayload
from chunkwise.transports.tcp import reset_when_closed
from tests.client.test_upload import PROBLEM, REFUSAL, Source, hold, posted, read_on, sent
from tests.flow.producing import GUARD_SECONDS, row, until
from tests.transports.reading import CHUNKED, LAST, NDJSON
from tests.transports.tls import CERTIFICATE
from tests.transports.wire import answering, chunked, head, serving, talking, url_of


@pytest.mark.parametrize("error", [None, LookupError("gone")])
async def test_body_can_be_a_response_payload(error: Exception | None) -> None:
    """A response of a server has no client connection to watch."""
    source, came = Source(3, error=error), list[Any]()
    body = chunkwise.body(source.rows(), "ndjson")

    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    async with serving(handler) as port, ClientSession() as session, session.get(url_of(port)) as response:
        with nullcontext() if error is None else pytest.raises(TruncatedError):
            await read_on(chunkwise.items(response), came, lambda: None)
    assert came == [row(index) for index in range(3)]
    assert (body.failure, body._connection, source.closed) == (error, None, 1)


class Filling:
    """Yields rows until written bytes wait in the transport's buffer, because the server reads nothing."""

    def __init__(self) -> None:
        self.body = chunkwise.body(self.rows(), "ndjson", stall_seconds=0.3)

    async def rows(self) -> AsyncIterator[dict[str, str]]:
        while self.waiting() == 0:
            yield row(0, 10_000)
            await asyncio.sleep(0)
        async for each in self.more():
            yield each

    async def more(self) -> AsyncIterator[dict[str, str]]:
        raise LookupError("gone")
        yield {}

    def waiting(self) -> int:
        assert self.body._connection is not None
        return self.body._connection._transport.get_write_buffer_size()


@pytest.mark.parametrize("takes", [False, True])
async def test_buffered_bytes_are_sent_after_a_failure(takes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_connection, "_FLUSH_SECONDS", GUARD_SECONDS if takes else 0.05)
    came, ended, fills = bytearray(), asyncio.Event(), Filling()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await until(lambda: fills.body.failure is not None)
        if not takes:
            return await hold(reader, writer)
        while data := await reader.read(65536):
            came.extend(data)
        return ended.set()

    async with talking(talk) as port, asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(ClientError, match="gone"):
            await posted(port, fills.body)
        if takes:
            await ended.wait()
    assert came.endswith(b"}\n\r\n") is takes


class Busy(Filling):
    """After that, yields rows without waiting, each of which takes some time."""

    async def more(self) -> AsyncIterator[dict[str, str]]:
        while True:
            time.sleep(0.06)
            yield row(0)


async def test_stall_of_a_busy_source_is_reported() -> None:
    fills = Busy()
    async with talking(hold) as port, asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(StalledError) as raised:
            await posted(port, fills.body)
    assert fills.body.failure is raised.value


async def test_slowly_reading_server_is_not_a_stall() -> None:
    """The server can respond only after it has read all bytes from the kernel; this time is no stall either."""
    size = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal size
        came = b""
        while not came.endswith(LAST):
            data = await reader.read(150_000)
            size += len(data)
            came = (came + data)[-len(LAST) :]
            await asyncio.sleep(0.05)
        writer.write(head("Content-Type: application/x-ndjson", "Content-Length: 0"))

    async with talking(talk) as port:
        source = Source(8_000, size=1000)
        assert await sent(port, chunkwise.body(source.rows(), "ndjson"), idle_seconds=2) == ([], None)
    assert size > 8_000_000


async def test_stall_with_unread_response_is_reported() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}\n")
        writer.write(head("Content-Type: application/x-ndjson") + b"1\n")
        await hold(reader, writer)

    fills = Busy()
    async with (
        talking(talk) as port,
        asyncio.timeout(GUARD_SECONDS),
        ClientSession() as session,
        session.post(url_of(port), data=fills.body) as response,
    ):
        stream = chunkwise.items(response)
        assert await anext(aiter(stream)) == 1
        await fills.body.wait_closed()  # the response is not read in this time
        assert isinstance(fills.body.failure, StalledError)
        with pytest.raises(TruncatedError):
            await anext(aiter(stream))


@pytest.mark.parametrize("resets", [False, True], ids=["ends its half", "resets"])
async def test_server_close_ends_the_upload(*, resets: bool) -> None:
    source = Source(size=1000)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}\n")
        if resets:
            reset_when_closed(writer.get_extra_info("socket"), yes=True)
            writer.transport.abort()
            return
        writer.write_eof()
        while await reader.read(65536):
            pass

    async with talking(talk) as port:
        came, error = await sent(port, chunkwise.body(source.rows(), "ndjson"))
    assert came == []
    assert isinstance(error, ClientConnectionError)
    assert source.closed == 1


@pytest.mark.parametrize("by_open_stream", [False, True])
async def test_reset_does_not_interrupt_the_clean_up(*, by_open_stream: bool) -> None:
    """aiohttp cancels the upload when it notices the reset: at this time the source is already being closed."""
    cleaned: list[str] = []

    async def rows() -> AsyncIterator[dict[str, str]]:
        try:
            while True:
                yield {"pad": "x" * 1000}
        finally:
            try:
                for _ in range(100):
                    await asyncio.sleep(0)
                cleaned.append("completely")
            except asyncio.CancelledError:
                cleaned.append("interrupted")
                raise

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}\n")
        reset_when_closed(writer.get_extra_info("socket"), yes=True)
        writer.transport.abort()

    async with talking(talk) as port, asyncio.timeout(GUARD_SECONDS):
        body = chunkwise.body(rows(), "ndjson")
        if by_open_stream:
            _, error = await sent(port, body)
            assert isinstance(error, ClientConnectionError)
        else:
            with pytest.raises(ClientConnectionError):
                await posted(port, body)
        await body.wait_closed()
    assert cleaned == ["completely"]


@contextmanager
def refusing(read_bytes: int) -> Iterator[int]:
    """Start a server that reads a little, responds, and closes with unread bytes; yield its port."""
    stop = threading.Event()

    def serve(listening: socket.socket) -> None:
        while not stop.is_set():
            connection, _ = listening.accept()
            with connection, suppress(ConnectionError):
                came = 0
                while came < read_bytes and (data := connection.recv(65536)):
                    came += len(data)
                if not stop.is_set():
                    connection.sendall(REFUSAL)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield port
        finally:
            stop.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join(GUARD_SECONDS)


async def hot_pieces(source: Source) -> AsyncIterator[bytes]:
    """Yields bytes without a turn of the event loop between them; each chunk takes some time."""
    try:
        while True:
            source.made += 1
            time.sleep(0.0003)
            yield b"1\n" * 20_000
    finally:
        source.closed += 1


@pytest.mark.parametrize("read_bytes", [1, 200_000])
async def test_plain_request_reads_a_refusal_before_reset(read_bytes: int) -> None:
    """asyncio closes the connection at the first failed write; the response may be in the kernel, unread."""
    seen: list[Any] = []
    async with ClientSession() as session, asyncio.timeout(GUARD_SECONDS * 2):
        with refusing(read_bytes) as port:
            for _ in range(300):
                source = Source()
                body = ClosingPayload(hot_pieces(source), chunkwise.FORMATS["ndjson"])  # type: ignore[arg-type]
                try:
                    async with session.post(url_of(port), data=body) as response:
                        made = source.made
                        seen.append((response.status, await response.json(content_type=None)))
                except ClientError as error:
                    seen.append(error)
                else:
                    assert source.made == made, "the source was asked for an item after the response arrived"
                await body.wait_closed()
                assert source.closed == bool(source.made)  # a refusal may arrive before the first row is requested
    assert seen == [(413, PROBLEM)] * 300


@pytest.mark.parametrize("read_bytes", [1, 200_000])
async def test_open_stream_raises_a_refusal_before_reset(read_bytes: int) -> None:
    with refusing(read_bytes) as port:
        for _ in range(100):
            source = Source(size=1000)
            _, error = await sent(port, chunkwise.body(source.rows(), "ndjson"))
            assert isinstance(error, RemoteError)
            assert (error.status, error.problem) == (413, PROBLEM)
            assert source.closed == bool(source.made)  # a refusal may arrive before the first row is requested


async def test_reset_under_tls_ends_the_upload() -> None:
    """Bytes in the kernel are encrypted, so a response cannot be read from there."""
    source, certificate = Source(size=1000), CERTIFICATE[CERTIFICATE.index("-----BEGIN CERT") :]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}\n")
        reset_when_closed(writer.get_extra_info("socket"), yes=True)
        writer.transport.abort()

    with tempfile.NamedTemporaryFile("w") as file:
        file.write(CERTIFICATE)
        file.flush()
        serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serves.load_cert_chain(file.name)
    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=serves)
    trusts = ssl.create_default_context(cadata=certificate)
    async with server, asyncio.timeout(GUARD_SECONDS), ClientSession() as session:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        body = chunkwise.body(source.rows(), "ndjson")
        with pytest.raises(ClientError):
            await session.post(url, data=body, ssl=trusts, server_hostname="localhost")
        await body.wait_closed()
    assert source.closed == 1


async def test_timeout_of_the_caller_is_unchanged() -> None:
    linger = asyncio.Event()
    async with (
        answering(head(NDJSON, CHUNKED), chunked(b"1\n"), LAST) as port,
        answering(linger=linger) as silent,
        ClientSession() as session,
    ):
        mine = chunkwise.body([1, 2], "ndjson")
        with pytest.raises(SocketTimeoutError):
            async with chunkwise.open_stream(session, url_of(port), method="POST", data=mine):
                await session.get(url_of(silent), timeout=ClientTimeout(sock_read=0.05))
        linger.set()
