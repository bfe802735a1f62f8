"""Uploads that fail, stall, are refused early, or succeed: a failed upload never looks complete."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from aiohttp import ClientConnectionError, ClientSession, web

import chunkwise
from chunkwise import RemoteError, StalledError, StreamError, TruncatedError, body, items, open_stream, respond
from chunkwise.client.upload import ClosingPayload
from chunkwise.flow.inbound import ItemStream
from tests.flow.producing import GUARD_SECONDS, Held, row
from tests.transports.wire import head, serving, talking, url_of

LAST = b"0\r\n\r\n"
PROBLEM = {"title": "Too much", "status": 413, "detail": "no more than 3 items"}
PROBLEM_BYTES = msgspec.json.encode(PROBLEM)
REFUSAL = (
    head(
        "Content-Type: application/problem+json",
        f"Content-Length: {len(PROBLEM_BYTES)}",
        status="413 Content Too Large",
    )
    + PROBLEM_BYTES
)


class Source:
    """A source that counts its rows, and may fail.

    Attributes:
        made: how many rows were requested.
        closed: how often the source was closed.
    """

    def __init__(self, count: int = 10**9, *, error: BaseException | None = None, size: int = 0) -> None:
        self.made = 0
        self.closed = 0
        self._count = count
        self._error = error
        self._size = size

    async def rows(self) -> AsyncIterator[dict[str, str]]:
        try:
            for index in range(self._count):
                self.made += 1
                yield row(index, self._size)
            if self._error is not None:
                raise self._error
        finally:
            await asyncio.sleep(0)
            self.closed += 1


class Reading:
    """A handler that reads an upload, and records its items and its error."""

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.error: BaseException | None = None
        self.ended = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            async for item in chunkwise.items(request):
                self.came.append(item)
        except StreamError as error:
            self.error = error
        finally:
            self.ended.set()
        return web.json_response(len(self.came))


async def sent(
    port: int, body: ClosingPayload, *, on_item: Callable[[], object] = lambda: None, **options: Any
) -> tuple[list[Any], BaseException | None]:
    """Upload with our client; return the items of the response, and the error after them."""
    came: list[Any] = []
    try:
        async with (
            asyncio.timeout(GUARD_SECONDS),
            ClientSession() as session,
            chunkwise.open_stream(session, url_of(port), method="POST", data=body, **options) as stream,
        ):
            async for item in stream:
                came.append(item)
                on_item()
    except Exception as error:
        return came, error
    return came, None


async def posted(port: int, body: ClosingPayload, **options: Any) -> int:
    """Upload with aiohttp's client; return the status."""
    async with (
        asyncio.timeout(GUARD_SECONDS),
        ClientSession() as session,
        session.post(url_of(port), data=body, **options) as response,
    ):
        return response.status


async def read_on(stream: ItemStream, came: list[Any], on_item: Callable[[], object]) -> None:
    async for item in stream:
        came.append(item)
        on_item()


async def test_failed_source_is_seen_on_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    reading, error = Reading(), LookupError("no such row")
    source = Source(5, error=error)
    async with serving(reading.handle) as port:
        came, raised = await sent(port, chunkwise.body(source.rows(), "ndjson"))
        await reading.ended.wait()
    assert (came, raised) == ([], error)
    assert raised is error
    assert reading.came == [row(index) for index in range(5)]
    assert isinstance(reading.error, TruncatedError)
    assert reading.error.items_seen == 5
    assert source.closed == 1
    assert caplog.records == []


OF_SOURCES = [LookupError("x"), ConnectionResetError("database"), TimeoutError("database"), StalledError("upstream")]


@pytest.mark.parametrize("error", OF_SOURCES)
async def test_open_stream_raises_the_source_error(error: Exception) -> None:
    async with serving(Reading().handle) as port:
        assert (await sent(port, chunkwise.body(Source(2, error=error).rows(), "ndjson")))[1] is error


@pytest.mark.parametrize("error", OF_SOURCES)
async def test_plain_request_raises_the_source_error(error: Exception) -> None:
    body = chunkwise.body(Source(5, error=error).rows(), "ndjson")
    async with serving(Reading().handle) as port:
        with pytest.raises((ClientConnectionError, TimeoutError)) as raised:
            await posted(port, body)
    assert body.failure is error
    assert error in (raised.value, raised.value.__cause__)


async def test_cancelled_task_fails_the_source() -> None:
    async def rows() -> AsyncIterator[int]:
        yield 1
        other = asyncio.ensure_future(asyncio.sleep(GUARD_SECONDS))
        asyncio.get_running_loop().call_soon(other.cancel)
        await other

    reading = Reading()
    async with serving(reading.handle) as port:
        _, error = await sent(port, chunkwise.body(rows(), "ndjson"))
        await reading.ended.wait()
    assert str(error) == "a task that the source waited for was cancelled"
    assert isinstance(reading.error, TruncatedError)


class FailingLater:
    """A source of one row that fails when a test sets an event."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.error = LookupError("no such row")

    async def rows(self) -> AsyncIterator[dict[str, str]]:
        yield row(0)
        await self.go.wait()
        raise self.error


class Echo(Reading):
    """A handler that responds to each item at once."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, self.items(request), "ndjson")

    async def items(self, request: web.Request) -> AsyncIterator[Any]:
        try:
            async for item in chunkwise.items(request):
                self.came.append(item)
                yield item
        except StreamError as error:
            self.error = error
            raise
        finally:
            self.ended.set()


async def test_late_source_failure_ends_both_sides() -> None:
    echo, source = Echo(), FailingLater()
    async with serving(echo.handle) as port:
        body = chunkwise.body(source.rows(), "ndjson")
        async with asyncio.timeout(GUARD_SECONDS):
            came, error = await sent(port, body, on_item=source.go.set)
            await echo.ended.wait()
    assert came == [row(0)]
    assert error is source.error
    assert isinstance(echo.error, TruncatedError)


async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond to the first item, without a length, and continue to read."""
    await reader.readuntil(b"}\n")
    writer.write(head("Content-Type: application/x-ndjson") + b"1\n")
    assert not (await reader.read()).endswith(LAST)


async def test_failed_upload_breaks_the_response() -> None:
    """A response that ends with the connection is included."""
    source = FailingLater()
    came: list[Any] = []
    async with (
        talking(begin) as port,
        asyncio.timeout(GUARD_SECONDS),
        ClientSession() as session,
        session.post(url_of(port), data=chunkwise.body(source.rows(), "ndjson")) as response,
    ):
        with pytest.raises(TruncatedError):
            await read_on(chunkwise.items(response), came, source.go.set)
    assert came == [1]


async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read nothing until the client has disconnected."""
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    connection: socket.socket = transport.get_extra_info("socket")
    async with asyncio.timeout(GUARD_SECONDS):
        with suppress(OSError):
            while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x01":  # the TCP state ESTABLISHED
                await asyncio.sleep(0.01)
    transport.abort()


@pytest.mark.parametrize("size", [1000, 8_000_000])
async def test_server_that_reads_nothing_is_a_stall(size: int) -> None:
    source = Source(size=size)
    async with talking(hold) as port:
        begun = time.monotonic()
        _, error = await sent(port, chunkwise.body(source.rows(), "ndjson"), idle_seconds=0.5)
        assert time.monotonic() - begun >= 0.5
    assert isinstance(error, StalledError)
    assert str(error) == "the server read nothing of the upload for 0.5 seconds"
    assert source.closed == 1


async def test_plain_request_reports_a_stalled_server() -> None:
    body = chunkwise.body(Source(size=1000).rows(), "ndjson", stall_seconds=0.3)
    async with talking(hold) as port:
        with pytest.raises(StalledError) as raised:
            await posted(port, body)
    assert body.failure is raised.value


async def test_stall_after_the_response_is_reported() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}\n")
        writer.write(head("Content-Type: application/x-ndjson") + b"1\n")
        await hold(reader, writer)

    body = chunkwise.body(Source(size=1000).rows(), "ndjson", stall_seconds=0.3)
    came: list[Any] = []
    async with (
        talking(talk) as port,
        asyncio.timeout(GUARD_SECONDS),
        ClientSession() as session,
        session.post(url_of(port), data=body) as response,
    ):
        with pytest.raises(TruncatedError):
            await read_on(chunkwise.items(response), came, lambda: None)
    assert came == [1]
    assert isinstance(body.failure, StalledError)


async def test_slow_source_is_not_a_stall() -> None:
    async def rows() -> AsyncIterator[dict[str, str]]:
        for index in range(3):
            yield row(index)
            await asyncio.sleep(0.5)

    reading = Reading()
    async with serving(reading.handle) as port:
        assert await sent(port, chunkwise.body(rows(), "ndjson"), idle_seconds=0.2) == ([3], None)
    assert (reading.came, reading.error) == ([row(index) for index in range(3)], None)


async def test_refusal_closes_a_waiting_source() -> None:
    held = Held()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}\n")
        writer.write(REFUSAL)
        await reader.read()

    async with talking(talk) as port:
        body = chunkwise.body(held.rows(), "ndjson")
        _, error = await sent(port, body)
    assert isinstance(error, RemoteError)
    assert error.problem == PROBLEM
    assert (held.ended, held.cleaned) == ("CancelledError", True)
    assert body.failure is None


async def test_connection_is_kept_after_an_upload() -> None:
    reading = Reading()
    connections = set()

    async def handler(request: web.Request) -> web.StreamResponse:
        connections.add(request.transport)
        return await reading.handle(request)

    sizes = [(3, 0), (5_000, 1000), (0, 0), (20_000, 1000)]
    async with serving(handler) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        for count, size in sizes:
            source = Source(count, size=size)
            async with session.post(url_of(port), data=chunkwise.body(source.rows(), "ndjson")) as response:
                assert response.status == 200
                await response.read()
            assert source.closed == 1
        async with session.get(url_of(port)) as response:
            await response.read()
    assert len(reading.came) == sum(count for count, _ in sizes)
    assert len(connections) == 1


async def test_body_cannot_be_sent_twice() -> None:
    """aiohttp would send an empty body the second time, which looks like a complete stream without items."""
    body = chunkwise.body(Source(3).rows(), "ndjson")
    async with serving(Reading().handle) as port:
        assert await sent(port, body) == ([3], None)
        came, error = await sent(port, body)
    assert (came, str(error)) == ([], "a source can be sent only once: make a new body from a new source")


@pytest.mark.parametrize("count", [2, 4])
async def test_content_length_must_match_the_body(count: int) -> None:
    async def ones(count: int) -> AsyncIterator[int]:
        for _ in range(count):
            yield 1
            await asyncio.sleep(0.001)

    reading = Reading()
    length = {"Content-Length": "6"}
    async with serving(reading.handle) as port:
        with pytest.raises(ClientConnectionError, match="Content-Length: 6"):
            await posted(port, chunkwise.body(ones(count), "ndjson"), headers=length)
        await reading.ended.wait()
        assert isinstance(reading.error, TruncatedError)
        reading.error = None
        assert await posted(port, chunkwise.body(ones(3), "ndjson"), headers=length) == 200
        assert reading.error is None


async def test_unreachable_server_closes_the_source() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    source = Source(3)
    rows = source.rows()
    assert await anext(rows) == row(0)
    _, error = await sent(port, chunkwise.body(rows, "ndjson"))
    assert isinstance(error, ClientConnectionError)
    assert source.closed == 1


async def test_negative_stall_seconds_are_refused() -> None:
    with pytest.raises(ValueError, match="must be >= 0, got -1"):
        chunkwise.body([], "ndjson", stall_seconds=-1)


async def two() -> AsyncIterator[int]:
    yield 1
    yield 2


async def test_document_is_uploaded_as_one() -> None:
    async def upload(request: web.Request) -> web.StreamResponse:
        return web.json_response([item async for item in chunkwise.items(request, "users.item")])

    async with serving(upload) as port, ClientSession() as session:
        body = chunkwise.body({"users": two()}, "json")
        async with session.post(url_of(port), data=body) as response:
            assert await response.json() == [1, 2]


async def test_function_is_refused_as_a_source() -> None:
    with pytest.raises(TypeError, match="call it"):
        chunkwise.body(two, "json")


class Stop(BaseException):
    """A base exception, such as those of pytest, or a group of them."""


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_base_exception_fails_the_upload(scheme: str) -> None:
    async def source() -> AsyncIterator[Any]:
        yield 1
        await asyncio.sleep(0.05)
        raise Stop

    async def echo(request: web.Request) -> web.StreamResponse:
        return await respond(request, (item async for item in items(request)))

    async def upload(session: ClientSession, port: int) -> None:
        how: Any = {"method": "POST"} if scheme == "http" else {}
        url = f"{scheme}://127.0.0.1:{port}/0"
        async with open_stream(session, url, data=body(source(), "ndjson"), **how) as stream:
            async for _ in stream:
                pass

    async with serving(echo) as port, ClientSession() as session:
        task = asyncio.create_task(upload(session, port))
        done, _ = await asyncio.wait({task}, timeout=GUARD_SECONDS)
        task.cancel()
        with suppress(BaseException):
            await task
    assert done
