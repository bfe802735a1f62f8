"""Streams over real sockets: items are sent at once, and slow readers slow their sources."""

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import respond
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, LIVE_NAMES, NAMES, Held, decoded, read_so_far, row, until
from tests.transports.wire import Wire, body_of, connected, serving, streams, url_of

every_format = each_row("name", NAMES)


class HeldThread:
    """Like `Held`, but a sync generator that blocks its thread."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.closed = threading.Event()

    def rows(self) -> Iterator[dict[str, str]]:
        try:
            yield row(0)
            assert self.go.wait(GUARD_SECONDS)
            yield row(1)
        finally:
            self.closed.set()


async def read_items(wire: Wire, name: str, count: int) -> list[Any]:
    """Read ``count`` items."""
    async with asyncio.timeout(GUARD_SECONDS):
        while len(came := read_so_far(name, body_of(wire.came))) < count:
            data = await wire.reader.read(65536)
            assert data, "got the end of the connection, expected more items"
            wire.came += data
    return came


@every_format
async def test_async_generator_item_arrives_at_once(name: str) -> None:
    held = Held()
    async with serving(streams(held.rows, name)) as port, connected(port) as wire:
        wire.ask()
        assert await read_items(wire, name, 1) == [row(0)]
        assert not held.go.is_set()
        held.go.set()
        assert await read_items(wire, name, 2) == [row(0), row(1)]
        await wire.read_until(b"\r\n0\r\n\r\n")
    assert held.ended == "whole"


@every_format
async def test_blocking_generator_item_arrives_at_once(name: str) -> None:
    held = HeldThread()
    async with serving(streams(held.rows, name)) as port, connected(port) as wire:
        wire.ask()
        try:
            assert await read_items(wire, name, 1) == [row(0)]
            assert not held.go.is_set()
        finally:
            held.go.set()
        assert await read_items(wire, name, 2) == [row(0), row(1)]
        await wire.read_until(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("name", LIVE_NAMES)
async def test_item_in_a_document_arrives_at_once(name: str) -> None:
    held = Held()
    document = lambda: {"head": 1, "users": held.rows(), "total": asyncio.sleep(0, 2)}  # noqa: E731
    async with serving(streams(document, name)) as port, connected(port) as wire:
        wire.ask()
        async with asyncio.timeout(GUARD_SECONDS):
            while not body_of(wire.came).endswith(b'{"head":1,"users":[{"n":"0","pad":""}'):
                wire.came += await wire.reader.read(65536)
        assert not held.go.is_set()
        held.go.set()
        data = body_of(await wire.read_until(b"\r\n0\r\n\r\n"))
    assert b'"users":[{"n":"0","pad":""},{"n":"1","pad":""}],"total":2}' in data


@every_format
async def test_upload_is_read_while_it_is_produced(name: str) -> None:
    held = Held()
    came: list[Any] = []
    first = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        async for item in chunkwise.items(request):
            came.extend(decoded(name, [item]))
            first.set()
        return web.json_response(len(came))

    async with serving(handler) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        posting = asyncio.create_task(session.post(url_of(port), data=chunkwise.body(held.rows(), name)))
        await first.wait()
        assert came == [row(0)]
        assert not held.go.is_set()
        held.go.set()
        async with await posting as response:
            assert await response.json() == 2
    assert came == [row(0), row(1)]


@every_format
async def test_our_client_yields_each_item_at_once(name: str) -> None:
    held = Held()
    async with (
        serving(streams(held.rows, name)) as port,
        ClientSession() as session,
        session.get(url_of(port)) as response,
        asyncio.timeout(GUARD_SECONDS),
    ):
        stream = aiter(chunkwise.items(response))
        assert decoded(name, [await anext(stream)]) == [row(0)]
        assert not held.go.is_set()
        held.go.set()
        assert decoded(name, [item async for item in stream]) == [row(1)]


class Counting:
    """Sources of many rows that count their items, and record that they were closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0
        self.closed = threading.Event()
        self.threads: set[int] = set()

    async def on_the_loop(self) -> AsyncIterator[dict[str, str]]:
        try:
            for index in range(self.count):
                self.made += 1
                yield row(index, 1000)
        finally:
            await asyncio.sleep(0)
            self.closed.set()

    def in_a_thread(self) -> Iterator[dict[str, str]]:
        try:
            for index in range(self.count):
                self.made += 1
                self.threads.add(threading.get_ident())
                yield row(index, 1000)
        finally:
            self.threads.add(threading.get_ident())
            self.closed.set()

    async def in_a_document(self) -> AsyncIterator[Any]:
        yield {"users": self.on_the_loop()}


both_kinds = each_row("kind", ["on_the_loop", "in_a_thread", "in_a_document"])


def small_socket(port: int) -> socket.socket:
    """Open a connection with a small, fixed receive buffer, which fills at once if the client does not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**18)
    connection.connect(("127.0.0.1", port))
    connection.setblocking(False)
    return connection


@both_kinds
async def test_slow_client_slows_the_source_down(kind: str) -> None:
    source = Counting(16_000)
    transports: list[asyncio.Transport] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        assert isinstance(request.transport, asyncio.Transport)
        transports.append(request.transport)
        return await respond(request, getattr(source, kind)(), "ndjson")

    def is_full() -> bool:
        return bool(transports) and transports[0].get_write_buffer_size() > 0

    async with serving(handler) as port:
        with small_socket(port) as connection:
            reader, writer = await asyncio.open_connection(sock=connection, limit=2**16)
            wire = Wire(reader, writer)
            wire.ask()
            still, made = 0, 0
            async with asyncio.timeout(GUARD_SECONDS):
                while still < 500:  # turns of the event loop without progress
                    await asyncio.sleep(0)
                    still = still + 1 if is_full() and made == source.made else 0
                    made = source.made
            assert source.made < 8_000, "expected no more than 8 of 16 MB to be sent and not read"
            assert not source.closed.is_set()
            size = len(body_of(await wire.read_until(b"\r\n0\r\n\r\n")))
            writer.close()
    assert source.made == 16_000
    assert size > 16_000_000


@both_kinds
async def test_disconnect_closes_a_busy_source(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    source = Counting(10**9)
    with caplog.at_level(logging.WARNING):
        async with serving(streams(getattr(source, kind), "json")) as port:
            async with connected(port) as wire:
                wire.ask()
                await wire.reader.readexactly(100_000)
            await until(source.closed.is_set)
    assert caplog.records == []
    if kind == "in_a_thread":
        assert len(source.threads) == 1
        assert threading.get_ident() not in source.threads


async def test_disconnect_is_noticed_at_the_next_write(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go, ended = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[dict[str, str]]:
        try:
            yield row(0)
            await go.wait()
            while True:
                yield row(1)
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0.001)
            ended.set()

    with caplog.at_level(logging.WARNING):
        async with serving(streams(source, "ndjson")) as port:
            async with connected(port) as wire:
                wire.ask()
                await read_items(wire, "ndjson", 1)
            go.set()
            async with asyncio.timeout(GUARD_SECONDS):
                await ended.wait()
    assert caplog.records == []


async def test_handler_cancellation_closes_the_source(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = Held()
    with caplog.at_level(logging.WARNING):
        async with serving(streams(held.rows, "ndjson"), handler_cancellation=True) as port:
            async with connected(port) as wire:
                wire.ask()
                await read_items(wire, "ndjson", 1)
            await until(lambda: held.cleaned)
    assert held.ended == "CancelledError"
    assert caplog.records == []


async def test_server_shutdown_closes_a_waiting_source() -> None:
    held = Held()
    async with AsyncExitStack() as client:
        async with serving(streams(held.rows, "ndjson")) as port:
            wire = await client.enter_async_context(connected(port))
            wire.ask()
            await read_items(wire, "ndjson", 1)
        await until(lambda: held.cleaned)
        assert held.ended == "CancelledError"
        assert not (await wire.read_to_end()).endswith(b"0\r\n\r\n")


async def test_many_streams_do_not_delay_each_other() -> None:
    held = [Held() for _ in range(20)]
    waiting = iter(held)
    hot = Counting(2000)

    both = (streams(lambda: next(waiting).rows(), "ndjson"), streams(hot.in_a_thread, "ndjson"))
    async with serving(*both) as port, ClientSession() as session:
        responses = [await session.get(url_of(port)) for _ in held]
        async with session.get(url_of(port, "/1")) as response:
            assert len([item async for item in chunkwise.items(response)]) == 2000
        for each in held:
            each.go.set()
        for response in responses:
            assert [item async for item in chunkwise.items(response)] == [row(0), row(1)]
