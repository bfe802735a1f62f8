"""Readers that stop reading are disconnected after `stall_seconds`, not earlier, and need few resources until then."""

import asyncio
import os
import random
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import Outcome, respond
from chunkwise.transports import periodic_checks, tcp
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, read_all, read_so_far, row, until
from tests.needs import needs_linux
from tests.server import stalling_server
from tests.transports.watched import LAST, SMALL_BYTES, Client, Watched, client_of, ends_whole, watched
from tests.transports.wire import Handler, body_of, talking

STALL_SECONDS = 0.4
SOON_SECONDS = GUARD_SECONDS
"""The stall limit in the tests; the connection is checked eight times in this time."""

LARGE_BYTES = 2**20

both_versions = each_row("version", ["1.1", "1.0"])


async def hot() -> AsyncIterator[dict[str, str]]:
    while True:
        yield row(0, 1000)


async def tail(*, fails: bool = False) -> AsyncIterator[dict[str, str]]:
    """Less than a connection accepts without waiting, more than the kernel's buffer holds."""
    for index in range(60):
        yield row(index, 1000)
    if fails:
        raise ValueError


def answering_with(make: Callable[[], Any], **options: Any) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, make(), "ndjson", **{"stall_seconds": STALL_SECONDS, **options})

    return handler


@asynccontextmanager
async def stalled_reader(
    handler: Handler, version: str = "1.1", *, send_bytes: int = SMALL_BYTES, **headers: str
) -> AsyncIterator[tuple[Watched, Client]]:
    """Connect a client that has sent a request, and reads only when the test does."""
    async with (
        watched(handler, send_bytes=send_bytes) as server,
        client_of(server.port, receive_bytes=SMALL_BYTES) as client,
    ):
        await client.ask(version=version, **headers)
        yield server, client


def content_of(client: Client, version: str) -> bytes:
    return body_of(client.came) if version == "1.1" else bytes(client.came).partition(b"\r\n\r\n")[2]


async def read_whole(client: Client, version: str) -> None:
    if version == "1.1":
        await client.read_until(b"\r\n" + LAST)
    else:
        assert await client.read_to_end() == "closed"


async def cut_off(server: Watched, *, seconds: float = SOON_SECONDS) -> Outcome:
    async with asyncio.timeout(seconds):
        outcome = await server.outcome()
    assert not server.has_more
    return outcome


@both_versions
@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
async def test_stalled_reader_is_disconnected(version: str, coding: str) -> None:
    closed = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        digits = random.Random(0)
        try:
            while True:
                yield str(digits.getrandbits(3000))  # no content coding compresses these digits much
        finally:
            closed.set()

    async with stalled_reader(answering_with(source), version, Accept_Encoding=coding) as (server, client):
        outcome = await cut_off(server)
        assert closed.is_set()
        await client.read_to_end()
    assert (outcome.end, outcome.error, outcome.status) == ("stalled", None, 200)
    assert outcome.seconds >= STALL_SECONDS
    assert outcome.coding == (None if coding == "identity" else coding)
    assert not ends_whole(client)


@needs_linux
@both_versions
async def test_stall_is_seen_in_kernel_bytes(version: str) -> None:
    """The source is so slow that our buffer never fills; only the kernel knows that the client reads nothing."""
    given = 0
    held: list[int] = []

    async def slow(request: web.Request) -> AsyncIterator[dict[str, str]]:
        nonlocal given
        while True:
            yield row(given, 2000)
            given += 1
            await asyncio.sleep(0.01)
            if request.transport is not None:
                held.append(request.transport.get_write_buffer_size())

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, slow(request), "ndjson", stall_seconds=STALL_SECONDS)

    async with stalled_reader(handler, version, send_bytes=LARGE_BYTES) as (server, _):
        outcome = await cut_off(server)
    assert outcome.end == "stalled"
    assert not any(held)
    assert given >= outcome.items > 10


@both_versions
async def test_stall_after_the_source_ended_is_seen(version: str) -> None:
    async with stalled_reader(answering_with(tail), version) as (server, client):
        outcome = await cut_off(server)
        await client.read_to_end()
    assert outcome.end == "stalled"
    assert not ends_whole(client)


@both_versions
async def test_last_bytes_may_be_read_slowly(version: str) -> None:
    async with stalled_reader(answering_with(tail), version) as (server, client):
        begun = monotonic()
        while monotonic() - begun < 2 * STALL_SECONDS:
            await client.read(SMALL_BYTES)
            await asyncio.sleep(STALL_SECONDS / 5)
        assert not server.has_more
        await read_whole(client, version)
        assert (await cut_off(server)).end == "complete"
    assert read_all("ndjson", content_of(client, version)) == [row(index, 1000) for index in range(60)]


@both_versions
@pytest.mark.parametrize("send_bytes", [SMALL_BYTES, LARGE_BYTES], ids=["ours", "the kernel's"])
async def test_failure_waits_for_the_items_before_it(version: str, send_bytes: int) -> None:
    """Under HTTP/1.0 a failure is a reset, which discards bytes that the kernel has not sent."""
    failing = answering_with(lambda: tail(fails=True))
    async with stalled_reader(failing, version, send_bytes=send_bytes) as (server, client):
        for _ in range(5):
            await client.read(SMALL_BYTES)
            await asyncio.sleep(STALL_SECONDS / 5)
        assert await client.read_to_end() == ("reset" if version == "1.0" else "closed")
        outcome = await cut_off(server)
    assert (outcome.end, type(outcome.error)) == ("failed", ValueError)
    assert read_so_far("ndjson", content_of(client, version)) == [row(index, 1000) for index in range(60)]
    assert not ends_whole(client)


@both_versions
@pytest.mark.parametrize("send_bytes", [SMALL_BYTES, LARGE_BYTES], ids=["ours", "the kernel's"])
async def test_failure_does_not_wait_for_ever(version: str, send_bytes: int) -> None:
    failing = answering_with(lambda: tail(fails=True))
    async with stalled_reader(failing, version, send_bytes=send_bytes) as (server, client):
        outcome = await cut_off(server)
        how = await client.read_to_end()
    assert version == "1.1" or how == "reset"
    assert not ends_whole(client)
    if send_bytes == LARGE_BYTES:
        assert (outcome.end, type(outcome.error)) == ("failed", ValueError)
    else:
        assert outcome.end in ("failed", "stalled")  # it waits with the last items or the failure


@pytest.mark.parametrize("make", [hot, tail], ids=["hot", "tail"])
async def test_stalled_http_1_0_reader_sees_a_reset(make: Callable[[], Any]) -> None:
    async with stalled_reader(answering_with(make), "1.0") as (server, client):
        await cut_off(server)
        assert await client.read_to_end() == "reset"


@both_versions
@pytest.mark.parametrize("stall_seconds", [0, 60])
async def test_half_closed_reader_is_gone_at_once(version: str, stall_seconds: float) -> None:
    """The connection would close only after the client has received all bytes, which never happens."""
    closed = asyncio.Event()

    async def source() -> AsyncIterator[dict[str, str]]:
        try:
            async for item in hot():
                yield item
        finally:
            closed.set()

    async with stalled_reader(answering_with(source, stall_seconds=stall_seconds), version) as (server, client):
        await client.read(10)
        client.half_close()
        async with asyncio.timeout(GUARD_SECONDS):
            await closed.wait()
        outcome = await server.outcome()
        assert not server.has_more
    assert outcome.end == "client_gone"


@both_versions
async def test_client_that_left_sees_no_later_failure(version: str) -> None:
    """The source would fail next, but the connection closes while the server waits with the item before."""

    async def source() -> AsyncIterator[dict[str, str]]:
        yield row(0, 60_000)  # less than aiohttp accepts without waiting, more than the kernel's buffer holds
        raise ValueError

    async with stalled_reader(answering_with(source, stall_seconds=60), version) as (server, client):
        await client.read_until(b"pad")
        client.half_close()
        outcome = await cut_off(server)
    assert (outcome.end, outcome.error) == ("client_gone", None)


@both_versions
async def test_slow_reader_is_not_disconnected(version: str) -> None:
    rows = [row(index, 1000) for index in range(200)]
    async with stalled_reader(answering_with(lambda: rows), version) as (server, client):
        begun = monotonic()
        while monotonic() - begun < 3 * STALL_SECONDS:
            await client.read(SMALL_BYTES)
            await asyncio.sleep(STALL_SECONDS / 5)
        assert not server.has_more
        await read_whole(client, version)
        outcome = await cut_off(server)
    assert (outcome.end, outcome.items) == ("complete", 200)
    assert outcome.seconds > 3 * STALL_SECONDS
    assert read_all("ndjson", content_of(client, version)) == rows


async def test_waiting_source_is_not_a_stall() -> None:
    go = asyncio.Event()

    async def silent() -> AsyncIterator[int]:
        yield 1
        await go.wait()
        yield 2

    async def limited(request: web.Request) -> web.StreamResponse:
        source = silent() if request.query else hot()
        return await respond(request, source, "ndjson", stall_seconds=STALL_SECONDS / 5)

    async with stalled_reader(limited) as (server, _), client_of(server.port) as client:
        await client.ask("/0?silent")
        await client.read_until(b"1\n")
        assert (await server.outcome()).end == "stalled"  # so the silent stream has waited as long
        await asyncio.sleep(STALL_SECONDS)
        assert not server.has_more
        go.set()
        await client.read_until(b"2\n\r\n" + LAST)
        assert (await server.outcome()).end == "complete"


async def test_zero_stall_seconds_means_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic_checks, "CHECK_SECONDS", STALL_SECONDS / 20)  # check without a limit, too
    rows = [row(index, 1000) for index in range(200)]
    limited = answering_with(hot, stall_seconds=STALL_SECONDS / 5)
    async with (
        watched(answering_with(lambda: rows, stall_seconds=0), limited, send_bytes=SMALL_BYTES) as server,
        client_of(server.port, receive_bytes=SMALL_BYTES) as patient,
    ):
        await patient.ask("/0")
        for _ in range(3):
            async with client_of(server.port, receive_bytes=SMALL_BYTES) as other:
                await other.ask("/1")
                assert (await server.outcome()).path == "/1"
        assert not server.has_more
        await patient.read_until(b"\r\n" + LAST)
        assert (await server.outcome()).end == "complete"
    assert read_all("ndjson", body_of(patient.came)) == rows


READERS = 300
MAX_KIB = 192
LONG_STALL_SECONDS = 6.0
"""Long enough for all readers to connect and the paced stream to end before the first disconnect."""


class Stood(NamedTuple):
    """Observations while many readers did not read.

    Attributes:
        numbers: the items that another client received in this time.
        together: the outcomes up to the end of that other stream.
        ends: the outcomes at the end.
        kib_each: the growth of the server's resident memory, divided by the number of readers, in KiB.
    """

    numbers: list[int]
    together: dict[str, int]
    ends: dict[str, int]
    kib_each: float


@asynccontextmanager
async def server_process(stall_seconds: float) -> AsyncIterator[tuple[int, int]]:
    """Start `stalling_server.py`; yield its process id and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, stalling_server.__file__, str(stall_seconds), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(GUARD_SECONDS):
            port = int(await process.stdout.readline())
        yield process.pid, port
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def resident_kib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1024


async def stand(readers: int) -> Stood:
    async with (
        server_process(LONG_STALL_SECONDS) as (pid, port),
        ClientSession(f"http://127.0.0.1:{port}") as session,
        AsyncExitStack() as stack,
    ):

        async def paced() -> list[int]:
            async with session.get("/paced") as response:
                return [item["n"] async for item in chunkwise.items(response)]

        async def outcomes() -> dict[str, int]:
            async with session.get("/outcomes") as response:
                ends: dict[str, int] = await response.json()
                return ends

        await paced()  # the first stream allocates memory that later streams share
        before = highest = resident_kib(pid)
        for _ in range(readers):
            client = await stack.enter_async_context(client_of(port, receive_bytes=SMALL_BYTES))
            await client.ask("/hot")
        pacing = asyncio.create_task(paced())
        while not pacing.done():
            highest = max(highest, resident_kib(pid))
            await asyncio.sleep(0.02)
        numbers = await pacing
        together = ends = await outcomes()
        guard = monotonic() + LONG_STALL_SECONDS + GUARD_SECONDS
        while sum(ends.values()) < readers + sum(together.values()) and monotonic() < guard:
            highest = max(highest, resident_kib(pid))
            await asyncio.sleep(0.05)
            ends = await outcomes()
        return Stood(numbers, together, ends, (highest - before) / readers)


@pytest.fixture(scope="module")
def stood() -> Stood:
    return asyncio.run(stand(READERS))


@needs_linux
def test_only_stalled_readers_are_disconnected(stood: Stood) -> None:
    assert stood.together == {"complete": 2}, "expected all readers to be stalled at the same time"
    assert stood.ends == {"complete": 2, "stalled": READERS}


@needs_linux
def test_stalled_readers_do_not_slow_others(stood: Stood) -> None:
    assert stood.numbers == list(range(stalling_server.ITEMS))
    assert stood.together["complete"] == 2, "expected the paced stream to end before the first disconnect"


@needs_linux
def test_stalled_reader_needs_little_memory(stood: Stood) -> None:
    assert stood.kib_each < MAX_KIB, f"{stood.kib_each:.0f} KiB for each, expected less than {MAX_KIB}"


async def test_watch_works_without_a_socket() -> None:
    """For example a pipe whose reader reads nothing."""
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb") as file:
        transport: Any
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, file)
        written = LARGE_BYTES
        watch = tcp.StallWatch(transport, transport.get_extra_info("socket"), 0.1, lambda: written)
        assert (watch.waiting(), watch.has_left()) == (0, False)
        transport.write(b"x" * written)
        assert watch.waiting() > LARGE_BYTES // 2
        async with asyncio.timeout(GUARD_SECONDS):
            while not watch.stalled:
                await asyncio.sleep(0.01)
        assert transport.is_closing()


@needs_linux
@pytest.mark.parametrize("leaving", [Client.half_close, Client.reset], ids=["closed", "reset"])
async def test_watch_sees_a_disconnect_without_reading(
    leaving: Callable[[Client], None],
) -> None:
    watched_now, seen = asyncio.Event(), asyncio.Event()

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport: Any = writer.transport
        transport.pause_reading()
        watch = tcp.StallWatch(transport, writer.get_extra_info("socket"), 0, lambda: 0)
        assert not watch.has_left()
        watched_now.set()
        await until(watch.has_left)
        watch.end()
        seen.set()

    async with talking(talk) as port, client_of(port) as client, asyncio.timeout(GUARD_SECONDS):
        await watched_now.wait()
        leaving(client)
        await seen.wait()


@needs_linux
async def test_silent_seconds_restart_with_each_byte() -> None:
    begun, (reading, writing) = monotonic(), tcp_pair()
    with reading, writing:
        await until(lambda: (tcp.silent_seconds(reading) or 0) > 0.05)
        assert (tcp.silent_seconds(reading) or 0) < monotonic() - begun + 0.05  # the kernel counts in ticks

        def has_come() -> bool:
            writing.send(b"x")
            assert reading.recv(1) == b"x"
            return (tcp.silent_seconds(reading) or 0) <= 0.05

        await until(has_come)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connecting = socket.create_connection(listening.getsockname())
        return listening.accept()[0], connecting


def test_closed_socket_has_no_unsent_bytes() -> None:
    with socket.socket() as closed:
        pass
    assert (tcp.unsent_bytes(closed), tcp.silent_seconds(closed)) == (None, None)
    tcp.reset_when_closed(closed, yes=True)


def test_stalled_upload_names_the_timeout() -> None:
    error = tcp.stalled_upload(0.5)
    assert isinstance(error, TimeoutError)
    assert str(error) == "the server read nothing of the upload for 0.5 seconds"


async def endless() -> AsyncIterator[str]:
    while True:
        yield "x" * 5000


async def test_cancelled_handler_drops_a_stalled_client() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        async with asyncio.timeout(0.1):
            return await chunkwise.respond(request, endless(), "ndjson", stall_seconds=0.3, compress=False)

    async with (
        watched(handler, send_bytes=SMALL_BYTES) as server,
        client_of(server.port, receive_bytes=SMALL_BYTES) as client,
    ):
        await client.ask()
        assert (await server.outcome()).end == "failed"
        await asyncio.sleep(1)  # wait for three times stall_seconds
        assert server.runner.server is not None
        assert server.runner.server.connections == []
