"""What attacks on the ends of streams found, once: under TLS, on Unix sockets, behind odd headers, in endless waits."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import ClientError, ClientSession, TCPConnector, web
from multidict import CIMultiDict

import chunkwise
from chunkwise import Outcome, StalledError
from tests.flow.producing import GUARD_SECONDS
from tests.transports.reading import CHUNKED, NDJSON, read
from tests.transports.watched import SMALL_BYTES, client_of, watched
from tests.transports.wire import Handler, answering, connected, head, serving, streams, url_of

# Of nobody: for "localhost", until 2126, made with openssl for this file.
CERTIFICATE = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEINnd0W/5/IoBpIIFlMWKY4xfzUh+EgnTqH+jEJ/3Eic1oAoGCCqGSM49
AwEHoUQDQgAE8qNQTA/plIWpsJ7QOPKAjxgmq2JPo9a+2MD788Yg5ETeEqInkR4u
Tb5IL/ZugGE9Q+zOTFRUylQ6e6uE3su8vQ==
-----END EC PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUQMjClny7vCDtjsvdqr4YrFId88owCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzE5MTk1N1oYDzIxMjYxMDMw
MTkxOTU3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATyo1BMD+mUhamwntA48oCPGCarYk+j1r7YwPvzxiDkRN4SoieRHi5N
vkgv9m6AYT1D7M5MVFTKVDp7q4Tey7y9o1MwUTAdBgNVHQ4EFgQUIDdlvnPeYbjz
RZJLsr7LODqUe8EwHwYDVR0jBBgwFoAUIDdlvnPeYbjzRZJLsr7LODqUe8EwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAr930ITjmRcFSCqGKOc11
T6Kg/jegZ7mphuOAamMSXAQCIQCEwDeSe1FLx5HLBl3HnUFFi16KmC49vZE/cTRs
YY4EhA==
-----END CERTIFICATE-----
"""


async def rows() -> AsyncIterator[dict[str, int]]:
    for n in range(5):
        yield {"n": n}
        await asyncio.sleep(0.01)


async def failing() -> AsyncIterator[dict[str, int]]:
    async for row in rows():
        yield row
    raise RuntimeError


async def waiting() -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(GUARD_SECONDS)


async def endless() -> AsyncIterator[str]:
    while True:
        yield "x" * 5000


class Secure:
    """A server behind TLS, and what its streams ended as."""

    def __init__(self, handler: Handler, folder: Path) -> None:
        self.outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        app = web.Application()
        app.router.add_get("/", handler)
        chunkwise.setup(app, grace_seconds=0, on_outcome=lambda _, outcome: self.outcomes.put_nowait(outcome))
        self.runner = web.AppRunner(app, shutdown_timeout=0.05)
        self._file = folder / "certificate.pem"

    async def __aenter__(self) -> Self:
        self._file.write_text(CERTIFICATE)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self._file)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=server).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        client = ssl.create_default_context(cadata=CERTIFICATE[CERTIFICATE.index("-----BEGIN CERT") :])
        return await asyncio.open_connection(*self.runner.addresses[0], ssl=client, server_hostname="localhost")


async def ending(reader: asyncio.StreamReader, seconds: float = 3) -> tuple[bytes, str]:
    """Read to the end; give what came, and how it ended."""
    came = b""
    try:
        async with asyncio.timeout(seconds):
            while data := await reader.read(65536):
                came += data
    except TimeoutError:
        return came, "open"
    except (ConnectionError, ssl.SSLError):
        return came, "reset"
    return came, "closed"


async def head_of(handler: Handler, *headers: str) -> list[str]:
    """The lines of an answer's head."""
    async with serving(handler) as port, connected(port) as wire:
        lines = ["GET /0 HTTP/1.1", "Host: test", "Connection: close", *headers, "", ""]
        wire.writer.write("\r\n".join(lines).encode())
        answer = await wire.read_to_end()
    return answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")


# TLS


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_whole_stream_ends_under_tls(version: str, tmp_path: Path) -> None:
    # set_write_buffer_limits(high=0): asyncio's TLS then pauses at 0 bytes, and nothing resumes it.
    async with Secure(streams(rows, "ndjson"), tmp_path) as server:
        reader, writer = await server.connect()
        writer.write(f"GET / HTTP/{version}\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        came, how = await ending(reader)
        writer.close()
        assert how == "closed", f"it was left {how} behind {came[-50:]!r}"
        assert came.count(b'{"n":') == 5
        async with asyncio.timeout(3):
            assert (await server.outcomes.get()).end == "complete"


async def test_a_failed_stream_under_http_1_0_and_tls_is_reset(tmp_path: Path) -> None:
    # transport.close() sends close_notify, which is as clean an end as there is, before the reset of the TCP below.
    async with Secure(streams(failing, "ndjson"), tmp_path) as server:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")
        came, how = await ending(reader)
        writer.close()
        assert how == "reset", f"it was {how} behind {came[-50:]!r}"


async def test_a_client_that_leaves_under_tls_is_no_error_of_the_loop(tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with Secure(streams(waiting, "ndjson", stall_seconds=0.4), tmp_path) as server:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await reader.readuntil(b"1\n")
        writer.transport.abort()
        async with asyncio.timeout(GUARD_SECONDS):
            assert (await server.outcomes.get()).end == "client_gone"
        await asyncio.sleep(0.2)  # more than a look of the stall watch
    assert not told


# HTTP/1.0 where no connection can be reset


async def test_a_failed_stream_under_http_1_0_on_a_unix_socket_does_not_look_whole(tmp_path: Path) -> None:
    # nginx's proxy_pass is HTTP/1.0 by default, and makes a whole chunked answer of what comes.
    path = str(tmp_path / "socket")
    app = web.Application()
    app.router.add_get("/", streams(failing, "ndjson"))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, path).start()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")
        came, how = await ending(reader)
        writer.close()
    finally:
        await runner.cleanup()
    assert not (came.startswith(b"HTTP/1.0 200") and how == "closed"), came


# What the server sends


async def test_a_signal_that_fails_leaves_no_record_without_a_head() -> None:
    async def signal(request: web.Request, response: web.StreamResponse) -> None:
        raise web.HTTPForbidden

    app = web.Application()
    app.on_response_prepare.append(signal)
    async with watched(streams(rows, "ndjson"), app=app) as server, client_of(server.port) as client:
        await client.ask(Prefer="stream-end")
        await client.read_to_end()
    assert not client.came or client.came.startswith(b"HTTP/")


async def test_what_came_before_a_failure_reaches_a_client_whose_own_body_was_not_read() -> None:
    # Closing with unread bytes in the kernel is a reset, which throws away what was not sent.
    async def source() -> AsyncIterator[str]:
        for _ in range(20):
            yield "x" * 1000
        raise RuntimeError

    loop = asyncio.get_running_loop()
    async with (
        watched(streams(source, "ndjson", compress=False)) as server,
        client_of(server.port, receive_bytes=SMALL_BYTES) as client,
    ):
        request = b"POST /0 HTTP/1.1\r\nHost: test\r\nPrefer: stream-end\r\nContent-Length: 9999999\r\n\r\n"
        sending = asyncio.create_task(loop.sock_sendall(client.sock, request + b"z" * 9_999_999))
        await asyncio.sleep(0.3)  # the server is through, or waits for us
        await client.read_to_end()
        sending.cancel()
        with suppress(ConnectionError, asyncio.CancelledError):
            await sending
    assert client.came.count(b"x" * 1000) == 20
    assert b'"failed"' in client.came


async def test_a_cancelled_handler_does_not_keep_the_connection_of_a_client_that_takes_nothing() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        async with asyncio.timeout(0.1):
            return await chunkwise.respond(request, endless(), "ndjson", stall_seconds=0.3, compress=False)

    async with (
        watched(handler, send_bytes=SMALL_BYTES) as server,
        client_of(server.port, receive_bytes=SMALL_BYTES) as client,
    ):
        await client.ask()
        assert (await server.outcome()).end == "failed"
        await asyncio.sleep(1)  # three times stall_seconds
        assert server.runner.server is not None
        assert server.runner.server.connections == []


async def test_a_strong_etag_is_not_of_a_stream_with_and_of_one_without_its_end_record() -> None:
    handler = streams(rows, "ndjson", compress=False, headers={"ETag": '"v1"'})
    plain = [line for line in await head_of(handler) if line.startswith("ETag")]
    asked = [line for line in await head_of(handler, "Prefer: stream-end") if line.startswith("ETag")]
    assert plain != asked or plain == ['ETag: W/"v1"']


@pytest.mark.parametrize(("name", "values"), [("Cache-Control", ("max-age=60", "private")), ("Vary", ("A", "Cookie"))])
async def test_no_line_of_a_header_of_several_is_lost(name: str, values: tuple[str, str]) -> None:
    headers = CIMultiDict([(name, value) for value in values])
    lines = await head_of(streams(rows, "ndjson", headers=headers))
    sent = ", ".join(line for line in lines if line.startswith(name))
    assert values[0] in sent
    assert values[1] in sent


# What the client makes of answers

RECORD = b' {"stream-end":{"status":"%b","items":2}}\n'


@pytest.mark.parametrize("status", [b"complete", b"failed"])
async def test_a_record_that_is_announced_in_a_second_line_is_no_item(status: bytes) -> None:
    data = b"1\n2\n" + RECORD % status
    told = ("Preference-Applied: handling=lenient", "Preference-Applied: stream-end")
    answer = head(NDJSON, *told, f"Content-Length: {len(data)}") + data
    async with (
        answering(answer) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port)) as stream,
    ):
        came, error = await read(stream)
    assert came == [1, 2]
    assert (error is None) == (status == b"complete")


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ("Content-Encoding: gzip", gzip.compress(b"1\n2\n", mtime=0)),  # of two members, say: the second never came
        ("Content-Encoding: identity, identity", b"1\n2\n12"),
        ("Transfer-Encoding: chunked, gzip", b"1\n2\n12"),  # RFC 9112 §6.3, rule 4: read until the close
    ],
)
async def test_what_only_the_close_ends_is_not_framed(header: str, data: bytes) -> None:
    async with (
        answering(head(NDJSON, header) + data) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port)) as stream,
    ):
        came, _ = await read(stream)
    assert came == [1, 2]
    assert stream.end != "framed"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", head(NDJSON, "Content-Encoding: gzip", status="304 Not Modified")),
        ("HEAD", head("Content-Type: application/json", "Content-Length: 5")),
    ],
)
async def test_an_answer_that_has_no_content_is_not_cut(method: str, answer: bytes) -> None:
    async with (
        answering(answer) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port), method=method) as stream,
    ):
        assert await read(stream) == ([], None)


# Endless waits of the client


async def opening(session: ClientSession, port: int, **options: Any) -> None:
    async with asyncio.timeout(3), chunkwise.open_stream(session, url_of(port), idle_seconds=0.2, **options):
        pass


async def test_a_wait_for_a_connection_of_the_pool_is_given_up() -> None:
    left = asyncio.Event()
    async with (
        answering(head(NDJSON, CHUNKED) + b"2\r\n1\n\r\n", linger=left) as port,
        ClientSession(connector=TCPConnector(limit=1, family=socket.AF_INET)) as session,
        chunkwise.open_stream(session, url_of(port)),
    ):
        try:
            with pytest.raises((StalledError, ClientError)):
                await opening(session, port)
        finally:
            left.set()
