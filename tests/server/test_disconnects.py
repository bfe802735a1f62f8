"""A client that disconnects -> each `finally` of the source runs, in any kind of source, and no error is logged."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

import chunkwise
from chunkwise import respond
from chunkwise.sources.batches import Batches
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, row
from tests.transports.watched import SMALL_BYTES, Client, Watched, client_of, ends_whole, watched

VERSIONS = ("1.1", "1.0")
LEAVING: dict[str, Callable[[Client], None]] = {"FIN": Client.half_close, "RST": Client.reset}


class Probe:
    """Makes sources of all kinds, and records whether each `finally` in them has run.

    Args:
        hot: whether the sources yield items for ever; otherwise they wait for ever after `ready` items.

    Attributes:
        waits: set when a source waits.
        closed: set while all sources that have begun are closed.
        release: set it to let a source continue that waits in a thread.
    """

    def __init__(self, *, hot: bool, ready: int = 1) -> None:
        self.waits = asyncio.Event()
        self.closed = asyncio.Event()
        self.release = threading.Event()
        self._hot = hot
        self._ready = ready
        self._open = 0
        self._loop = asyncio.get_running_loop()

    def _count(self, change: int) -> None:
        self._open += change
        if self._open:
            self.closed.clear()
        else:
            self.closed.set()

    async def rows(self) -> AsyncIterator[dict[str, str]]:
        self._count(1)
        try:
            for index in range(self._ready):
                yield row(index)
            while self._hot:
                yield row(0, 1000)
            await self._wait()
        finally:
            await asyncio.sleep(0)  # cleaning up may take a while
            self._count(-1)

    def rows_in_thread(self) -> Iterator[dict[str, str]]:
        self._loop.call_soon_threadsafe(self._count, 1)
        try:
            for index in range(self._ready):
                yield row(index)
            while self._hot:
                yield row(0, 1000)
            self._loop.call_soon_threadsafe(self.waits.set)
            self.release.wait(GUARD_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._count, -1)

    async def lists(self) -> AsyncIterator[list[Any]]:
        rows = self.rows()
        try:
            async for item in rows:
                yield [item]
        finally:
            await rows.aclose()  # type: ignore[attr-defined]

    async def value(self) -> int:
        self._count(1)
        try:
            await self._wait()
        finally:
            self._count(-1)
        return 1

    async def rows_later(self) -> AsyncIterator[dict[str, str]]:
        await asyncio.sleep(0)
        return self.rows()

    async def items_with(self, part: Any) -> AsyncIterator[Any]:
        self._count(1)
        try:
            yield row(0)
            yield {"part": part}
        finally:
            self._count(-1)

    async def _wait(self) -> None:
        self.waits.set()
        await asyncio.Event().wait()


# Each source, with the bytes that are sent before it waits.
IDLE: dict[str, tuple[Callable[[Probe], Any], bytes]] = {
    "async generator": (lambda probe: probe.rows(), b'"0"'),
    "batches": (lambda probe: Batches(probe.lists()), b'"0"'),
    "iterator in a dict": (lambda probe: {"a": 1, "rows": probe.rows()}, b'"0"'),
    "awaitable in a dict": (lambda probe: {"a": 1, "total": probe.value()}, b'"total":'),
    "both in a dict": (lambda probe: {"rows": probe.rows(), "total": probe.value()}, b'"0"'),
    "awaited iterator": (lambda probe: {"rows": probe.rows_later()}, b'"0"'),
    "iterator in an item": (lambda probe: probe.items_with(probe.rows()), b'"part":[{"n":"0"'),
    "awaitable in an item": (lambda probe: probe.items_with({"total": probe.value()}), b'"total":'),
}

HOT: dict[str, Callable[[Probe], Any]] = {
    "async generator": lambda probe: probe.rows(),
    "sync generator": lambda probe: probe.rows_in_thread(),
    "batches": lambda probe: Batches(probe.lists()),
    "iterator in a dict": lambda probe: {"a": 1, "rows": probe.rows()},
    "sync iterator in a dict": lambda probe: {"a": 1, "rows": probe.rows_in_thread()},
    "both in a dict": lambda probe: {"rows": probe.rows(), "total": probe.value()},
    "iterator in an item": lambda probe: probe.items_with(probe.rows()),
    "sync iterator in an item": lambda probe: probe.items_with(probe.rows_in_thread()),
}


def told_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]


async def serve_one(source: Any, began: Callable[[Watched, Client], Any], version: str, **options: Any) -> None:
    """Respond to a request with a source, and let a test look at the source."""

    async def handler(request: web.Request) -> web.StreamResponse:
        # Without keepalives, no failing write ends the stream.
        return await respond(request, source, "json", keepalive_seconds=0, **options)

    async with watched(handler) as server, client_of(server.port) as client:
        await client.ask(version=version)
        await began(server, client)


async def leave(
    make: Callable[[Probe], Any], probe: Probe, version: str, leaving: str, begin: bytes | None, **options: Any
) -> None:
    """Let a client disconnect; check that the source is closed in time, and the outcome."""
    where = f"{leaving} under HTTP/{version}, {'begun' if begin else 'not begun'}"

    async def began(server: Watched, client: Client) -> None:
        if begin:
            await client.read_until(begin)
        else:
            await asyncio.wait_for(probe.waits.wait(), GUARD_SECONDS)
        LEAVING[leaving](client)
        # This client sends a FIN and continues to read; test_stalls.py has clients that stop reading.
        rest = asyncio.create_task(client.read_to_end()) if leaving == "FIN" else None
        with suppress(TimeoutError):
            await asyncio.wait_for(probe.closed.wait(), GUARD_SECONDS)
        assert probe.closed.is_set(), where
        outcome = await server.outcome()
        assert (outcome.end, outcome.error) == ("client_gone", None), where
        assert not server.has_more
        if rest is not None:
            await rest
            assert not ends_whole(client), where

    await serve_one(make(probe), began, version, **options)


@each_row("shape", IDLE)
async def test_disconnect_closes_an_idle_source(shape: str, caplog: pytest.LogCaptureFixture) -> None:
    make, begin = IDLE[shape]
    async with asyncio.TaskGroup() as group:
        for version in VERSIONS:
            for leaving in LEAVING:
                group.create_task(leave(make, Probe(hot=False), version, leaving, begin))
    assert not told_of(caplog)


@pytest.mark.parametrize("shape", [shape for shape in IDLE if not shape.endswith("an item")])
async def test_disconnect_before_the_status_closes_the_source(shape: str, caplog: pytest.LogCaptureFixture) -> None:
    make, _ = IDLE[shape]
    async with asyncio.TaskGroup() as group:
        for version in VERSIONS:
            for leaving in LEAVING:
                probe = Probe(hot=False, ready=0)
                group.create_task(leave(make, probe, version, leaving, None, commit_after_seconds=5))
    assert not told_of(caplog)


@each_row("shape", HOT)
@each_row("version", VERSIONS)
@each_row("leaving", LEAVING)
async def test_disconnect_closes_a_busy_source(
    shape: str, version: str, leaving: str, caplog: pytest.LogCaptureFixture
) -> None:
    await leave(HOT[shape], Probe(hot=True), version, leaving, b"xxx")
    assert not told_of(caplog)


@pytest.mark.parametrize("commit_after_seconds", [0.01, 5])
async def test_blocked_source_is_closed_when_it_returns(
    commit_after_seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    probe = Probe(hot=False, ready=0)

    async def began(server: Watched, client: Client) -> None:
        await asyncio.wait_for(probe.waits.wait(), GUARD_SECONDS)
        client.reset()
        # The stream is checked every half second, then its thread is awaited for a second.
        async with asyncio.timeout(GUARD_SECONDS):
            outcome = await server.outcome()
        assert (outcome.end, outcome.items, outcome.first_item_seconds) == ("client_gone", 0, None)
        assert not probe.closed.is_set()
        probe.release.set()
        await asyncio.wait_for(probe.closed.wait(), GUARD_SECONDS)

    try:
        await serve_one(probe.rows_in_thread(), began, "1.1", commit_after_seconds=commit_after_seconds)
    finally:
        probe.release.set()
    assert not told_of(caplog)


@pytest.mark.parametrize("version", VERSIONS)
async def test_disconnect_before_the_last_bytes_is_gone(version: str, caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def source() -> AsyncIterator[dict[str, str]]:
        yield row(0, 30_000)  # too small for a separate write, too large for the kernel's buffer
        ended.set()

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, source(), "ndjson")

    async with (
        watched(handler, send_bytes=SMALL_BYTES) as server,
        client_of(server.port, receive_bytes=SMALL_BYTES) as client,
    ):
        await client.ask(version=version)
        await asyncio.wait_for(ended.wait(), GUARD_SECONDS)
        await client.read(10)
        assert not server.has_more
        client.reset()
        async with asyncio.timeout(GUARD_SECONDS):
            outcome = await server.outcome()
    assert outcome.end == "client_gone"
    assert not told_of(caplog)


async def until_gone(request: web.BaseRequest) -> None:
    """Wait until aiohttp has noticed that the client has left."""
    async with asyncio.timeout(GUARD_SECONDS):
        while request.transport is not None:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("version", VERSIONS)
async def test_disconnect_before_respond_is_gone(version: str, caplog: pytest.LogCaptureFixture) -> None:
    begun, probe = asyncio.Event(), Probe(hot=False)

    async def handler(request: web.Request) -> web.StreamResponse:
        begun.set()
        await until_gone(request)
        return await respond(request, probe.rows(), "json")

    async with watched(handler) as server, client_of(server.port) as client:
        await client.ask(version=version)
        await begun.wait()
        client.reset()
        outcome = await server.outcome()
    assert (outcome.end, outcome.error) == ("client_gone", None)
    assert not told_of(caplog)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fails", [False, True])
async def test_disconnect_in_prepare_signal_is_gone(
    version: str, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    begun, probe, app = asyncio.Event(), Probe(hot=False), web.Application()

    async def prepares(request: web.Request, _response: web.StreamResponse) -> None:
        begun.set()
        await until_gone(request)
        if fails:
            raise ConnectionResetError

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, probe.rows(), "json")

    app.on_response_prepare.append(prepares)
    async with watched(handler, app=app) as server, client_of(server.port) as client:
        await client.ask(version=version)
        await begun.wait()
        client.reset()
        outcome = await server.outcome()
        await asyncio.wait_for(probe.closed.wait(), GUARD_SECONDS)
    assert (outcome.end, outcome.error) == ("client_gone", None)
    assert not told_of(caplog)


async def test_cancelled_handler_outcome_has_no_error() -> None:
    outcomes: list[chunkwise.Outcome] = []
    begun = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        begun.set()
        await asyncio.sleep(60)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, source(), "ndjson")

    app = web.Application()
    app.router.add_get("/", handler)
    chunkwise.setup(app, on_outcome=lambda _, outcome: outcomes.append(outcome))
    async with TestServer(app) as server, ClientSession() as session:  # TestServer turns on handler_cancellation
        async with session.get(server.make_url("/")):
            await begun.wait()
        async with asyncio.timeout(GUARD_SECONDS):
            while not outcomes:
                await asyncio.sleep(0.01)
    assert [(outcome.end, outcome.error) for outcome in outcomes] == [("client_gone", None)]
