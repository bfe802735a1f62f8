"""testing/proxy.py: each fault happens at its exact position, observed with plain sockets on both sides."""

import asyncio
import gc
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Self

import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import TruncatedError
from chunkwise.testing import Fault, FaultProxy, cut_at, dribble, http10, none, reset_at, stall_at
from chunkwise.testing.proxy import _upload
from tests.flow.producing import GUARD_SECONDS, row, until
from tests.tables import check_rows_async, cross, named
from tests.transports.reading import read
from tests.transports.wire import chunked, head, serving, streams, talking

BODY = b"".join(chunked(b"x" * 100) for _ in range(10)) + b"0\r\n\r\n"
RESPONSE = head("Transfer-Encoding: chunked") + BODY
HEAD_BYTES = len(RESPONSE) - len(BODY)
RESETS = struct.pack("ii", 1, 0)


async def respond_always(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond to each request until the client disconnects."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(RESPONSE)


class Plain:
    """A client on a plain socket, which distinguishes a clean end from a reset."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(0)
        self.pieces: list[bytes] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()

    async def connect(self, port: int) -> None:
        await asyncio.get_running_loop().sock_connect(self.socket, ("127.0.0.1", port))

    async def ask(self, port: int, request: bytes = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n") -> None:
        await self.connect(port)
        await asyncio.get_running_loop().sock_sendall(self.socket, request)

    async def read(self, count: int) -> bytes:
        """Read until ``count`` bytes were received; return all bytes."""
        async with asyncio.timeout(GUARD_SECONDS):
            while len(b"".join(self.pieces)) < count:
                data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
                assert data, f"closed after {len(b''.join(self.pieces))} bytes, expected {count}"
                self.pieces.append(data)
        return b"".join(self.pieces)

    async def read_to_end(self) -> tuple[bytes, str]:
        """Read until the connection ends; return the bytes and how it ended."""
        async with asyncio.timeout(GUARD_SECONDS):
            try:
                while data := await asyncio.get_running_loop().sock_recv(self.socket, 65536):
                    self.pieces.append(data)
            except ConnectionResetError:
                return b"".join(self.pieces), "reset"
        return b"".join(self.pieces), "closed"

    async def is_silent(self) -> bool:
        """Return whether nothing arrives for a while, not even an end."""
        try:
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().sock_recv(self.socket, 1)
        except TimeoutError:
            return True
        return False


async def test_everything_passes_without_a_fault() -> None:
    async with talking(respond_always) as port, FaultProxy("127.0.0.1", port) as proxy, Plain() as client:
        await client.ask(proxy.port)
        assert await client.read(len(RESPONSE)) == RESPONSE
        await asyncio.get_running_loop().sock_sendall(client.socket, b"GET / HTTP/1.1\r\n\r\n")
        assert await client.read(2 * len(RESPONSE)) == 2 * RESPONSE
        assert proxy.connections == 1


async def test_response_ends_at_the_exact_byte() -> None:
    async def check(count: int, case: tuple[type, str]) -> None:
        fault, ending = case
        async with (
            talking(respond_always) as port,
            FaultProxy("127.0.0.1", port, fault(count)) as proxy,
            Plain() as client,
        ):
            await client.ask(proxy.port)
            assert await client.read_to_end() == (RESPONSE[:count], ending)

    await check_rows_async(
        cross(
            named([0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 500, len(RESPONSE) - 1, len(RESPONSE)]),
            {"cut": (cut_at, "closed"), "reset": (reset_at, "reset")},
        ),
        check,
    )


@pytest.mark.parametrize("count", [0, 1, 500])
@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2])
async def test_body_bytes_are_counted_after_the_head(count: int, interim: bytes) -> None:
    async def byte_by_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in interim + RESPONSE:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await reader.read()

    for talk in (respond_always, byte_by_byte):
        fault = cut_at(count, of="body")
        async with talking(talk) as port, FaultProxy("127.0.0.1", port, fault) as proxy, Plain() as client:
            await client.ask(proxy.port)
            got, ending = await client.read_to_end()
            assert ending == "closed"
            assert got.endswith(b"\r\n\r\n" + BODY[:count])


async def test_fault_after_response_end_never_happens() -> None:
    async with (
        talking(respond_always) as port,
        FaultProxy("127.0.0.1", port, cut_at(10**6)) as proxy,
        Plain() as client,
    ):
        await client.ask(proxy.port, b"GET / HTTP/1.1\r\n\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert await client.read_to_end() == (RESPONSE, "closed")


async def test_reset_waits_for_a_late_reader() -> None:
    size = 100_000  # more than the proxy reads at once

    async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x" * 2 * size)
        await reader.read()

    async with talking(large) as port, FaultProxy("127.0.0.1", port, reset_at(size)) as proxy, Plain() as client:
        await client.ask(proxy.port)
        await asyncio.sleep(0.1)
        assert await client.read_to_end() == (b"x" * size, "reset")


async def test_stall_keeps_the_connection_open() -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(RESPONSE)
        assert await reader.read() == b""
        left.set()

    async with talking(talk) as port, FaultProxy("127.0.0.1", port, stall_at(200)) as proxy, Plain() as client:
        await client.ask(proxy.port)
        assert await client.read(200) == RESPONSE[:200]
        assert await client.is_silent()
        assert not left.is_set()
        client.socket.close()
        async with asyncio.timeout(GUARD_SECONDS):
            await left.wait()


async def test_closing_proxy_resets_stalled_connections() -> None:
    async with talking(respond_always) as port, Plain() as client:
        async with FaultProxy("127.0.0.1", port, stall_at(200)) as proxy:
            await client.ask(proxy.port)
            await client.read(200)
        assert await client.read_to_end() == (RESPONSE[:200], "reset")


async def test_dribble_sends_pieces_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    taken = asyncio.Event()
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        if seconds != 60:
            await sleep(seconds)
            return
        pauses.append(seconds)
        await taken.wait()  # instead of sleeping for a minute, wait until the test has received the piece
        taken.clear()

    monkeypatch.setattr(asyncio, "sleep", pause)
    async with (
        talking(respond_always) as port,
        FaultProxy("127.0.0.1", port, dribble(7, 60)) as proxy,
        Plain() as client,
    ):
        await client.ask(proxy.port)
        for count in range(1, 20):
            assert await client.read(7 * count) == RESPONSE[: 7 * count]
            await until(lambda count=count: len(pauses) == count)  # type: ignore[misc]
            taken.set()


async def test_dribble_and_cut_combine() -> None:
    fault = dribble(3, 0) | cut_at(100)
    async with talking(respond_always) as port, FaultProxy("127.0.0.1", port, fault) as proxy, Plain() as client:
        await client.ask(proxy.port)
        assert await client.read_to_end() == (RESPONSE[:100], "closed")


class TestHttp10:
    async def test_server_receives_http_1_0_request(self) -> None:
        seen: list[web.BaseRequest] = []

        async def handler(request: web.Request) -> web.StreamResponse:
            seen.append(request)
            return await chunkwise.respond(request, (row(index) for index in range(100)), "ndjson")

        async with (
            serving(handler) as port,
            FaultProxy("127.0.0.1", port, http10()) as proxy,
            ClientSession() as session,
        ):
            for _ in range(2):
                headers = {"Connection": "keep-alive", "TE": "trailers", "X-Other": "kept"}
                async with session.get(proxy.url("/0"), headers=headers) as response:
                    assert response.version == (1, 0)
                    assert [item async for item in chunkwise.items(response)] == [row(index) for index in range(100)]
            assert proxy.connections == 2
        for request in seen:
            assert request.version == (1, 0)
            assert request.headers["X-Other"] == "kept"
            assert not {"Connection", "TE"} & {*request.headers}

    @pytest.mark.parametrize("ending", ["closed", "reset"])
    async def test_http10_and_cut_or_reset_combine(self, ending: str) -> None:
        fault = http10() | (cut_at if ending == "closed" else reset_at)(50, of="body")
        handler = streams(lambda: (row(index) for index in range(100)), "ndjson")
        async with serving(handler) as port, FaultProxy("127.0.0.1", port, fault) as proxy, Plain() as client:
            await client.ask(proxy.port, b"GET /0 HTTP/1.1\r\nHost: test\r\n\r\n")
            got, seen = await client.read_to_end()
        assert seen == ending
        assert got.startswith(b"HTTP/1.0 200 OK\r\n")
        assert len(got.partition(b"\r\n\r\n")[2]) == 50

    async def test_upload_passes_but_not_bytes_after_it(self) -> None:
        received = bytearray()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.extend(await reader.read())

        async with talking(talk) as port, FaultProxy("127.0.0.1", port, http10()) as proxy, Plain() as client:
            request = b"POST / HTTP/1.1\r\ncontent-length: 6\r\nconnection: x\r\n\r\nabc"
            await client.ask(proxy.port, request)
            await asyncio.sleep(0.01)
            await asyncio.get_running_loop().sock_sendall(client.socket, b"defGET / HTTP/1.1\r\n\r\n")
            client.socket.shutdown(socket.SHUT_WR)
            await client.read_to_end()
        assert received == b"POST / HTTP/1.0\r\ncontent-length: 6\r\n\r\nabcdef"

    async def test_chunked_upload_is_rejected(self) -> None:
        async with (
            talking(respond_always) as port,
            FaultProxy("127.0.0.1", port, http10()) as proxy,
            ClientSession() as session,
        ):
            body = chunkwise.body([row(0)], "ndjson")
            async with session.post(proxy.url(), data=body) as response:
                assert response.status == 411


async def test_times_limits_the_faulty_connections() -> None:
    async with talking(respond_always) as port, FaultProxy("127.0.0.1", port, cut_at(5), times=2) as proxy:
        got = []
        for _ in range(4):
            async with Plain() as client:
                await client.ask(proxy.port)
                client.socket.shutdown(socket.SHUT_WR)
                got.append(len((await client.read_to_end())[0]))
        assert got == [5, 5, len(RESPONSE), len(RESPONSE)]
        assert proxy.connections == 4


async def test_server_reset_resets_the_client() -> None:
    async def source() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        await asyncio.sleep(0)
        raise ValueError

    async with serving(streams(source, "ndjson")) as port, FaultProxy("127.0.0.1", port) as proxy, Plain() as client:
        await client.ask(proxy.port, b"GET /0 HTTP/1.0\r\n\r\n")
        got, ending = await client.read_to_end()
    assert ending == "reset"
    assert got.endswith(b'{"n":"0","pad":""}\n')


async def test_server_reset_of_upload_resets_the_client() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        writer.transport.abort()

    async def upload(client: Plain) -> None:
        while True:
            await asyncio.get_running_loop().sock_sendall(client.socket, b"x" * 65536)

    async with talking(talk) as port, FaultProxy("127.0.0.1", port) as proxy, Plain() as client:
        await client.ask(proxy.port, b"POST / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionError):
            await upload(client)


@pytest.mark.parametrize("is_heard", [False, True])
async def test_server_reset_is_reported_once(*, is_heard: bool) -> None:
    """The kernel reports a reset to one call only. Later calls see a closed connection."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as upstream:
        upstream.connect(listening.getsockname())
        server, _ = listening.accept()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        server.close()
        upstream.setblocking(False)
        if is_heard:
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(upstream, 1)
        broken, (ours, theirs) = asyncio.Event(), socket.socketpair()
        with ours, theirs:
            await _upload(ours, upstream, b"x", None, broken)
        assert broken.is_set() is not is_heard


async def test_client_reset_ends_the_server_connection() -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()

    async with talking(talk) as port, FaultProxy("127.0.0.1", port) as proxy, Plain() as client:
        await client.ask(proxy.port)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        client.socket.close()
        async with asyncio.timeout(GUARD_SECONDS):
            await left.wait()


async def test_slow_client_slows_the_server() -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with talking(talk) as port, FaultProxy("127.0.0.1", port) as proxy, Plain() as client:
        await client.ask(proxy.port)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 2**25, "the server sent more than the buffers of three sockets can hold"


async def test_client_gone_before_accept_is_ignored() -> None:
    async with talking(respond_always) as port, FaultProxy("127.0.0.1", port, cut_at(5)) as proxy, Plain() as client:
        proxy._accept(proxy._listener)  # some kernels report a connection, and remove it when the client disconnects
        assert proxy.connections == 0
        await client.ask(proxy.port)
        assert await client.read_to_end() == (RESPONSE[:5], "closed")
        assert proxy.connections == 1


async def test_unreachable_server_closes_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with FaultProxy("127.0.0.1", port) as proxy, Plain() as client:
        await client.ask(proxy.port)
        assert await client.read_to_end() == (b"", "closed")


@pytest.mark.parametrize("fault", [none(), stall_at(10), dribble(1, 60), http10(), cut_at(0), reset_at(0)])
@pytest.mark.filterwarnings("error")
async def test_proxy_leaves_no_tasks_or_connections(fault: Fault) -> None:
    before = asyncio.all_tasks()
    async with talking(respond_always) as port:
        clients = [Plain() for _ in range(5)]
        async with FaultProxy("127.0.0.1", port, fault) as proxy:
            for index, client in enumerate(clients):
                await client.connect(proxy.port)  # the proxy has not accepted the last connections yet
                if index < 3:
                    await asyncio.get_running_loop().sock_sendall(client.socket, b"GET / HTTP/1.1\r\n\r\n")
                    await asyncio.sleep(0.005)
        assert {task for task in asyncio.all_tasks() - before if "proxy.py" in repr(task)} == set()
        clients.append(Plain())
        with pytest.raises(ConnectionRefusedError):
            await clients[-1].connect(proxy.port)
        for client in clients:
            client.socket.close()
    gc.collect()  # an open socket would cause a ResourceWarning


async def test_client_detects_cut_and_reads_again() -> None:
    handler = streams(lambda: (row(index) for index in range(100)), "ndjson")
    fault = cut_at(500, of="body")
    async with (
        serving(handler) as port,
        FaultProxy("127.0.0.1", port, fault, times=1) as proxy,
        ClientSession() as session,
    ):
        outcomes = []
        for _ in range(2):
            async with session.get(proxy.url("/0"), headers={"Accept-Encoding": "identity"}) as response:
                got, error = await read(chunkwise.items(response))
                outcomes.append((len(got) == 100, type(error)))
        assert outcomes == [(False, TruncatedError), (True, type(None))]


@pytest.mark.parametrize(
    "make",
    [
        lambda: cut_at(-1),
        lambda: cut_at(1, of="answer"),  # type: ignore[arg-type]
        lambda: dribble(0, 1),
        lambda: dribble(1, -1),
        lambda: cut_at(1) | reset_at(1),
        lambda: dribble(1, 0) | dribble(2, 0),
    ],
)
def test_contradictory_fault_is_rejected(make: type) -> None:
    with pytest.raises(ValueError):
        make()


def test_faults_combine_in_any_order() -> None:
    assert http10() | cut_at(3, of="body") == cut_at(3, of="body") | http10()
    assert none() | stall_at(2) == stall_at(2)


async def test_listed_faults_apply_in_order() -> None:
    async with talking(respond_always) as port, FaultProxy("127.0.0.1", port, [cut_at(9), none(), cut_at(7)]) as proxy:
        for count, ended in ((9, True), (len(RESPONSE), False), (7, True), (len(RESPONSE), False)):
            async with Plain() as client:
                await client.ask(proxy.port)
                assert await client.read(count) == RESPONSE[:count]
                if ended:
                    assert await asyncio.get_running_loop().sock_recv(client.socket, 1) == b""


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"x" * 200_000])
async def test_incomplete_request_is_not_passed_on(sent: bytes) -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    async with talking(talk) as port, FaultProxy("127.0.0.1", port, http10()) as proxy, Plain() as client:
        await client.connect(proxy.port)
        with suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(client.socket, sent)
            client.socket.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            async with asyncio.timeout(GUARD_SECONDS):
                assert await asyncio.get_running_loop().sock_recv(client.socket, 1) == b""
    assert heard in ([], [b""])


async def test_response_with_endless_head_is_reset() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x" * 500_000)
        await writer.drain()

    async with talking(talk) as port, FaultProxy("127.0.0.1", port, cut_at(5, of="body")) as proxy, Plain() as client:
        await client.ask(proxy.port)
        got, ending = await client.read_to_end()
    assert ending == "reset"
    assert len(got) <= 65536
