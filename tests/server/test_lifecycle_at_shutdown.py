"""Server shutdown: streams have a grace time, then they fail visibly; nothing delays the shutdown."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import monotonic

import msgspec
import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import RemoteError, TruncatedError, open_stream, respond
from chunkwise.flow.inbound import ItemStream
from chunkwise.server import lifecycle
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, NAMES, decoded, row, until
from tests.server import shutdown_server
from tests.transports.reading import read
from tests.transports.watched import SMALL_BYTES, Watched, client_of, ends_whole, watched
from tests.transports.wire import body_of, streams, url_of

GRACE_SECONDS = 0.2
ALL_SECONDS = GUARD_SECONDS
"""The grace time, 2.5 seconds at most for streams that do not end by themselves, and 0.5 for a busy machine."""

GOING_AWAY = {"title": "Going Away", "status": 503, "detail": "the server is shutting down"}
PROVEN = ["ndjson", "json-seq", "sse"]
both_versions = each_row("version", ["1.1", "1.0"])


class Held:
    """A source that yields some items, waits until it is released, and yields another.

    Attributes:
        waits: set when the source waits.
        go: set it to release the source.
        closed: set when the source has ended.
    """

    def __init__(self, ready: int = 1) -> None:
        self.waits = asyncio.Event()
        self.go = asyncio.Event()
        self.closed = asyncio.Event()
        self._ready = ready

    async def rows(self) -> AsyncIterator[dict[str, str]]:
        try:
            for index in range(self._ready):
                yield row(index)
            self.waits.set()
            await self.go.wait()
            yield row(self._ready)
        finally:
            self.closed.set()


async def hot() -> AsyncIterator[dict[str, str]]:
    while True:
        yield row(0, 1000)


async def cleaned_up(server: Watched) -> float:
    """Stop a server; return how many seconds this took."""
    begun = monotonic()
    async with asyncio.timeout(GUARD_SECONDS):
        await server.runner.cleanup()
    return monotonic() - begun


def stop_of(app: web.Application) -> asyncio.Event:
    """Return an event that is set when the application begins to stop."""
    begun = asyncio.Event()

    async def stop(_app: web.Application) -> None:
        begun.set()

    app.on_shutdown.append(stop)  # added before the handler of setup(), so it is called first
    return begun


@both_versions
async def test_stream_may_end_in_the_grace_time(version: str) -> None:
    held, app = Held(), web.Application()
    begun = stop_of(app)
    async with (
        watched(streams(held.rows, "ndjson"), app=app, grace_seconds=GUARD_SECONDS) as server,
        client_of(server.port) as client,
    ):
        await client.ask(version=version)
        await client.read_until(b'{"n":"0","pad":""}\n')
        stopping = asyncio.create_task(cleaned_up(server))
        await begun.wait()
        held.go.set()
        assert await client.read_to_end() == "closed"
        assert await stopping < ALL_SECONDS
        outcome = await server.outcome()
        assert not server.has_more
    assert (outcome.end, outcome.items) == ("complete", 2)
    data = body_of(client.came) if version == "1.1" else bytes(client.came).partition(b"\r\n\r\n")[2]
    assert data == b'{"n":"0","pad":""}\n{"n":"1","pad":""}\n'
    assert version == "1.0" or ends_whole(client)


@pytest.mark.parametrize("name", NAMES)
async def test_stream_after_the_grace_time_fails(name: str) -> None:
    sources = [Held(), Held()]
    rest = iter(sources)
    async with (
        watched(streams(lambda: next(rest).rows(), name), grace_seconds=GRACE_SECONDS) as server,
        ClientSession() as session,
        session.get(url_of(server.port)) as response,
        open_stream(session, url_of(server.port)) as asked,
    ):
        plain = chunkwise.items(response)
        first = [await anext(aiter(stream)) for stream in (plain, asked)]
        assert GRACE_SECONDS <= await cleaned_up(server) < ALL_SECONDS
        assert all(source.closed.is_set() for source in sources)
        for stream, item in zip((plain, asked), first, strict=True):
            came, error = await read(stream)
            assert decoded(name, [item, *came]) == [row(0)]
            if stream is asked and name in PROVEN:
                assert isinstance(error, RemoteError)
                assert (error.status, error.problem) == (503, GOING_AWAY)
            else:
                assert isinstance(error, TruncatedError)
            outcome = await server.outcome()
            assert (outcome.end, outcome.items, outcome.status, outcome.error) == ("shut_down", 1, 200, None)
        assert not server.has_more


@pytest.mark.parametrize("goes_on", [False, True], ids=["ends", "goes on"])
async def test_end_record_counts_the_sent_items(*, goes_on: bool) -> None:
    """The source yields one more item after the shutdown has begun, which is counted too."""
    held = Held(ready=2)

    async def source() -> AsyncIterator[dict[str, str]]:
        async for item in held.rows():
            yield item
        if goes_on:
            await asyncio.sleep(GUARD_SECONDS)

    async with watched(streams(source, "ndjson"), grace_seconds=0.0) as server, ClientSession() as session:
        async with open_stream(session, url_of(server.port)) as stream:
            items = aiter(stream)
            assert [await anext(items), await anext(items)] == [row(0), row(1)]
            await asyncio.wait_for(held.waits.wait(), GUARD_SECONDS)
            stopping = asyncio.create_task(cleaned_up(server))
            await asyncio.sleep(0.05)  # the grace time is over; the stream notices it within half a second
            held.go.set()
            came, error = await read(stream)
            await stopping
        outcome = await server.outcome()
    assert (came, outcome.items, outcome.end) == ([row(2)], 3, "shut_down" if goes_on else "complete")
    assert (error is None) != goes_on
    assert error is None or (error.item_index == 3 and "failed after 3 items" in str(error))


@both_versions
async def test_busy_stream_fails_at_shutdown(version: str) -> None:
    async with (
        watched(streams(hot, "ndjson"), grace_seconds=GRACE_SECONDS) as server,
        client_of(server.port) as client,
    ):
        await client.ask(version=version)
        await client.read_until(b"pad")
        reading = asyncio.create_task(client.read_to_end())
        assert await cleaned_up(server) < ALL_SECONDS
        assert await reading == ("reset" if version == "1.0" else "closed")
        assert (await server.outcome()).end == "shut_down"
        assert not server.has_more
    assert not ends_whole(client)


async def test_stream_without_items_gets_a_503() -> None:
    held = Held(ready=0)
    async with (
        watched(streams(held.rows, commit_after_seconds=3600), grace_seconds=GRACE_SECONDS) as server,
        ClientSession() as session,
    ):
        asking = asyncio.create_task(session.get(url_of(server.port)))
        await asyncio.wait_for(held.waits.wait(), GUARD_SECONDS)
        assert await cleaned_up(server) < ALL_SECONDS
        async with await asking as response:
            assert response.status == 503
            assert response.content_type == "application/problem+json"
            assert response.headers["Retry-After"] == "1"
            assert await response.json(content_type=None) == GOING_AWAY
        outcome = await server.outcome()
        assert not server.has_more
    assert (outcome.end, outcome.status, outcome.items, outcome.bytes) == ("shut_down", 503, 0, 0)
    assert held.closed.is_set()


@pytest.mark.parametrize(("version", "stall_seconds"), [("1.1", 0), ("1.1", 60), ("1.0", 0)])
async def test_stalled_reader_does_not_delay_shutdown(version: str, stall_seconds: float) -> None:
    source = streams(hot, "ndjson", stall_seconds=stall_seconds)
    async with (
        watched(source, grace_seconds=GRACE_SECONDS, send_bytes=SMALL_BYTES) as server,
        client_of(server.port, receive_bytes=SMALL_BYTES) as client,
    ):
        await client.ask(version=version)
        await client.read(100)
        assert await cleaned_up(server) < ALL_SECONDS
        assert (await server.outcome()).end == "shut_down"
        assert not server.has_more
        how = await client.read_to_end()
    assert version == "1.1" or how == "reset"
    assert not ends_whole(client)


class Blocked:
    """A sync source that yields an item, then blocks in its thread."""

    def __init__(self, ready: int) -> None:
        self.blocks = asyncio.Event()
        self.release = threading.Event()
        self._ready = ready
        self._loop = asyncio.get_running_loop()

    def rows(self) -> Iterator[dict[str, str]]:
        for index in range(self._ready):
            yield row(index)
        self._loop.call_soon_threadsafe(self.blocks.set)
        self.release.wait(GUARD_SECONDS)


@pytest.mark.parametrize("ready", [0, 1])
async def test_blocking_source_does_not_delay_shutdown(ready: int) -> None:
    blocked = Blocked(ready)
    handler = streams(blocked.rows, "ndjson", commit_after_seconds=0 if ready else 3600)
    try:
        async with watched(handler, grace_seconds=GRACE_SECONDS) as server, client_of(server.port) as client:
            await client.ask()
            await asyncio.wait_for(blocked.blocks.wait(), GUARD_SECONDS)
            if ready:
                await client.read_until(b"pad")
            reading = asyncio.create_task(client.read_to_end())
            assert await cleaned_up(server) < ALL_SECONDS
            await reading
            assert (await server.outcome()).end == "shut_down"
            assert not server.has_more
    finally:
        blocked.release.set()
    assert client.came.startswith(b"HTTP/1.1 200 " if ready else b"HTTP/1.1 503 ")
    assert ready == 0 or not ends_whole(client)


async def test_client_of_a_blocking_source_gets_an_error() -> None:
    blocked = Blocked(1)
    try:
        async with (
            watched(streams(blocked.rows, "ndjson"), grace_seconds=0) as server,
            ClientSession() as session,
            open_stream(session, url_of(server.port)) as stream,
        ):
            assert await anext(aiter(stream)) == row(0)
            await cleaned_up(server)
            _, error = await read(stream)
    finally:
        blocked.release.set()
    assert isinstance(error, RemoteError)
    assert error.problem == GOING_AWAY


async def test_new_stream_in_the_grace_time_gets_a_503() -> None:
    """The source of the new stream is closed without being run."""
    held, app = Held(), web.Application()
    arrived, begun = asyncio.Event(), stop_of(app)
    ran = False

    async def part() -> int:
        nonlocal ran
        ran = True
        return 1

    async def late(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await begun.wait()
        await asyncio.sleep(GRACE_SECONDS / 2)
        return await respond(request, {"a": part()})

    async with (
        watched(streams(held.rows), late, app=app, grace_seconds=GRACE_SECONDS) as server,
        client_of(server.port) as client,
        client_of(server.port) as other,
    ):
        await client.ask("/0")  # this stream uses all of the grace time
        await held.waits.wait()
        await other.ask("/1")
        await arrived.wait()
        stopping = asyncio.create_task(cleaned_up(server))
        await other.read_to_end()
        assert await stopping < ALL_SECONDS
    assert other.came.startswith(b"HTTP/1.1 503 ")
    assert msgspec.json.decode(other.came.partition(b"\r\n\r\n")[2]) == GOING_AWAY
    assert not ran


async def test_kept_connection_gets_no_new_stream() -> None:
    """aiohttp may close the idle connection first; then no response is sent at all."""
    held, app = Held(), web.Application()
    begun = stop_of(app)
    async with (
        watched(streams(held.rows), streams(lambda: [1], "json"), app=app, grace_seconds=GRACE_SECONDS) as server,
        client_of(server.port) as client,
        client_of(server.port) as kept,
    ):
        await kept.ask("/1")
        await kept.read_until(b"[1]\r\n0\r\n\r\n")
        assert (await server.outcome()).end == "complete"
        first = len(kept.came)
        await client.ask("/0")
        await held.waits.wait()
        stopping = asyncio.create_task(cleaned_up(server))
        await begun.wait()
        with suppress(ConnectionError):
            await kept.ask("/1")
        await kept.read_to_end()
        await stopping
        assert (await server.outcome()).path == "/0"
        assert not server.has_more
    assert kept.came[first:].startswith(b"HTTP/1.1 503 ") or not kept.came[first:]


async def test_many_streams_end_in_parallel() -> None:
    async with watched(streams(lambda: Held().rows(), "ndjson"), grace_seconds=GRACE_SECONDS) as server:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(client_of(server.port)) for _ in range(50)]
            for client in clients:
                await client.ask()
            for client in clients:
                await client.read_until(b"pad")
            assert await cleaned_up(server) < ALL_SECONDS
        ends = [(await server.outcome()).end for _ in clients]
        assert not server.has_more
    assert ends == ["shut_down"] * 50


async def test_shutdown_without_streams_is_immediate() -> None:
    async with watched(streams(lambda: [1]), grace_seconds=100 * GUARD_SECONDS) as server:
        assert await cleaned_up(server) < ALL_SECONDS


async def test_streams_of_a_sub_application_end() -> None:
    held = Held()
    app, inner = web.Application(), web.Application()
    inner.router.add_get("/rows", streams(held.rows, "ndjson"))
    app.add_subapp("/inner", inner)
    async with watched(app=app, grace_seconds=GRACE_SECONDS) as server, client_of(server.port) as client:
        await client.ask("/inner/rows")
        await client.read_until(b"pad")
        assert await cleaned_up(server) < ALL_SECONDS
        assert (await server.outcome()).end == "shut_down"
        await client.read_to_end()
    assert not ends_whole(client)


class Process:
    """Run `shutdown_server.py` with a stream in progress."""

    def __init__(self, process: asyncio.subprocess.Process, stream: ItemStream) -> None:
        self.process = process
        self.stream = stream

    @property
    def is_running(self) -> bool:
        return self.process.returncode is None


@asynccontextmanager
async def process_with_a_stream(session: ClientSession, *grace_seconds: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, shutdown_server.__file__, *grace_seconds, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(GUARD_SECONDS):
            port = int(await process.stdout.readline())
        async with open_stream(session, url_of(port, "/")) as stream:
            assert await anext(aiter(stream)) == 1
            yield Process(process, stream)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_terminated_process_exits_in_time() -> None:
    async with (
        ClientSession() as session,
        process_with_a_stream(session) as other,
        process_with_a_stream(session, str(GRACE_SECONDS)) as ours,
    ):
        other.process.send_signal(signal.SIGTERM)
        begun = monotonic()
        ours.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(GUARD_SECONDS):
            assert await ours.process.wait() == 0
        assert monotonic() - begun > GRACE_SECONDS
        assert other.is_running
        _, error = await read(ours.stream)
    assert isinstance(error, RemoteError)
    assert error.status == 503


async def test_working_handler_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers whose client has left are included."""
    monkeypatch.setattr(lifecycle, "_NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(lifecycle, "_ABORT_SECONDS", 0.1)
    working, over = asyncio.Queue[web.Request](), asyncio.Event()

    async def works(request: web.Request) -> web.StreamResponse:
        await request.read()
        working.put_nowait(request)
        await over.wait()
        return web.Response()

    request = b"POST /0 HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n1"
    async with watched(works) as server, client_of(server.port) as client, client_of(server.port) as leaving:
        for each in (client, leaving):
            await asyncio.get_running_loop().sock_sendall(each.sock, request)
        requests = [await working.get() for _ in range(2)]
        leaving.reset()
        async with asyncio.timeout(GUARD_SECONDS):
            while all(request.transport for request in requests):
                await asyncio.sleep(0.001)
        stopping = asyncio.create_task(cleaned_up(server))
        assert await client.read_to_end() in ("closed", "reset")
        assert client.came == b""
        over.set()
        assert await stopping < ALL_SECONDS


@pytest.mark.parametrize("answers", [False, True], ids=["reads", "answers"])
async def test_upload_fails_after_its_received_items(*, answers: bool) -> None:
    """If the response has begun, the response reports the failure."""
    came: list[int] = []
    began = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        yield 2
        began.set()
        await asyncio.Event().wait()

    async def taken(request: web.Request) -> AsyncIterator[int]:
        async for item in chunkwise.items(request):
            came.append(item)
            yield item

    async def handler(request: web.Request) -> web.StreamResponse:
        if answers:
            return await respond(request, taken(request), "ndjson")
        return web.json_response([item async for item in taken(request)])

    async def send(port: int) -> None:
        body = chunkwise.body(slow(), "ndjson")
        async with ClientSession() as session, open_stream(session, url_of(port), method="POST", data=body) as stream:
            async for _ in stream:
                pass

    async with asyncio.timeout(GUARD_SECONDS), watched(handler, grace_seconds=GRACE_SECONDS) as server:
        sending = asyncio.create_task(send(server.port))
        await began.wait()
        await until(lambda: len(came) == 2)
        await server.runner.cleanup()
        with pytest.raises(RemoteError) as caught:
            await sending
        assert (caught.value.status, caught.value.problem, came) == (503, GOING_AWAY, [1, 2])
        assert server.has_more is answers
        assert not answers or (await server.outcome()).end == "shut_down"
