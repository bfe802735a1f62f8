"""A stream that has ended -> one outcome, passed to the hook and logged as a line of JSON."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import Outcome, open_stream, respond
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, NAMES, read_all, row
from tests.transports.reading import NDJSON
from tests.transports.watched import SMALL_BYTES, client_of, watched
from tests.transports.wire import Handler, body_of, connected, serving, streams, url_of

ROWS = [row(index) for index in range(5)]


async def rows(count: int = 5, *, error: Exception | None = None) -> AsyncIterator[dict[str, str]]:
    for index in range(count):
        yield row(index)
    if error is not None:
        await asyncio.sleep(0)
        raise error


async def hot() -> AsyncIterator[dict[str, str]]:
    while True:
        yield row(0, 1000)


def lines_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "chunkwise.access"]


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


def one_line(caplog: pytest.LogCaptureFixture, outcome: Outcome) -> dict[str, Any]:
    """Return the only log line, and check that it describes the only outcome."""
    (line,) = lines_of(caplog)
    assert line.levelno == logging.INFO
    assert getattr(line, "outcome", None) is outcome
    told: dict[str, Any] = msgspec.json.decode(line.getMessage())
    return told


async def outcome_of(handler: Handler, *, version: str = "1.1", **headers: str) -> tuple[Outcome, bytes]:
    """Read a response to its end; return the only outcome, and the response."""
    async with watched(handler) as server, client_of(server.port) as client:
        await client.ask(version=version, Connection="close", **headers)
        await client.read_to_end()
        outcome = await server.outcome()
        assert not server.has_more
    assert not server.has_more
    return outcome, bytes(client.came)


@each_row("name", NAMES)
@each_row("coding", ["identity", "gzip", "zstd", "br", "deflate"])
async def test_outcome_of_a_complete_stream(name: str, coding: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = streams(rows, [name, "json"], status=202)
    outcome, answer = await outcome_of(handler, Accept_Encoding=coding)
    assert (outcome.end, outcome.error, outcome.status) == ("complete", None, 202)
    assert (outcome.method, outcome.path, outcome.format) == ("GET", "/0", name)
    assert outcome.coding == (None if coding == "identity" else coding)
    assert outcome.items == 5
    assert outcome.bytes == len(body_of(answer))
    assert coding != "identity" or read_all(name, body_of(answer)) == ROWS
    assert outcome.first_item_seconds is not None
    assert 0 < outcome.first_item_seconds <= outcome.seconds < GUARD_SECONDS
    told = one_line(caplog, outcome)
    assert told.pop("remote") == "127.0.0.1"
    seconds = (told.pop("first_item_seconds"), told.pop("seconds"))
    assert seconds == pytest.approx((outcome.first_item_seconds, outcome.seconds), abs=1e-6)
    assert told == {
        "end": "complete",
        "method": "GET",
        "path": "/0",
        "status": 202,
        "format": name,
        "coding": outcome.coding,
        "items": 5,
        "bytes": outcome.bytes,
        "error": None,
    }


async def test_bytes_count_content_under_http_1_0() -> None:
    outcome, answer = await outcome_of(streams(rows, "ndjson"), version="1.0")
    assert outcome.bytes == len(answer.partition(b"\r\n\r\n")[2]) > 0


async def test_end_record_counts_as_bytes_not_items() -> None:
    plain, _ = await outcome_of(streams(rows, "ndjson"))
    proven, answer = await outcome_of(streams(rows, "ndjson"), Prefer="stream-end")
    assert (plain.items, proven.items) == (5, 5)
    assert plain.bytes < proven.bytes == len(body_of(answer))


async def test_logged_path_includes_the_query() -> None:
    async with watched(streams(rows)) as server, client_of(server.port) as client:
        await client.ask("/0?a=%20b&a=c")
        outcome = await server.outcome()
    assert outcome.path == "/0?a=%20b&a=c"


async def test_empty_stream_has_no_first_item_time(caplog: pytest.LogCaptureFixture) -> None:
    outcome, _ = await outcome_of(streams(lambda: rows(0), "json"))
    assert (outcome.end, outcome.items, outcome.first_item_seconds) == ("complete", 0, None)
    assert outcome.bytes == len("[]")
    assert one_line(caplog, outcome)["first_item_seconds"] is None


async def test_first_item_time_is_measured() -> None:
    async def late() -> AsyncIterator[int]:
        await asyncio.sleep(0.1)
        yield 1
        await asyncio.sleep(0.1)

    outcome, _ = await outcome_of(streams(late, commit_after_seconds=0))
    assert outcome.first_item_seconds is not None
    assert 0.09 < outcome.first_item_seconds < outcome.seconds - 0.09


async def test_outcome_of_a_failure_before_the_status(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("secret")
    outcome, answer = await outcome_of(streams(lambda: rows(0, error=error), "ndjson"))
    assert (outcome.end, outcome.status, outcome.error) == ("failed", 500, error)
    assert (outcome.items, outcome.bytes, outcome.first_item_seconds) == (0, 0, None)
    assert answer.startswith(b"HTTP/1.1 500 ")
    told = one_line(caplog, outcome)
    assert (told["end"], told["error"], told["status"]) == ("failed", "ValueError", 500)


@pytest.mark.parametrize("error", [web.HTTPNotFound, web.HTTPTooManyRequests, lambda: web.HTTPFound("/1")])
async def test_early_failure_records_the_sent_status(
    error: Callable[[], web.HTTPException],
) -> None:
    cause = error()
    outcome, answer = await outcome_of(streams(lambda: rows(0, error=cause), "ndjson"))
    assert (outcome.end, outcome.status, outcome.error) == ("failed", cause.status, cause)
    assert answer.startswith(f"HTTP/1.1 {cause.status} ".encode())


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_outcome_of_a_failure_after_items(version: str, caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("secret")
    outcome, answer = await outcome_of(streams(lambda: rows(3, error=error), "ndjson"), version=version)
    assert (outcome.end, outcome.status, outcome.error, outcome.items) == ("failed", 200, error, 3)
    assert outcome.bytes == len(body_of(answer) if version == "1.1" else answer.partition(b"\r\n\r\n")[2]) > 0
    told = one_line(caplog, outcome)
    assert (told["end"], told["error"], told["items"]) == ("failed", "ValueError", 3)
    assert "secret" not in msgspec.json.encode(told).decode()


async def test_unencodable_item_is_a_failure() -> None:
    outcome, _ = await outcome_of(streams(lambda: [row(0), object()], "ndjson"))
    assert (outcome.end, outcome.items) == ("failed", 1)
    assert isinstance(outcome.error, chunkwise.EncodeError)


async def test_cancelled_handler_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def waits() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        await asyncio.Event().wait()

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(0.05):
                return await respond(request, waits(), "ndjson")
        except TimeoutError:
            raise ConnectionResetError from None  # aiohttp then sends no response

    outcome, _ = await outcome_of(handler)
    assert (outcome.end, outcome.items, outcome.status) == ("failed", 1, 200)
    assert isinstance(outcome.error, asyncio.CancelledError)
    assert one_line(caplog, outcome)["error"] == "CancelledError"


async def test_outcome_of_a_client_that_disconnects(caplog: pytest.LogCaptureFixture) -> None:
    async with watched(streams(hot, "ndjson")) as server, client_of(server.port) as client:
        await client.ask()
        await client.read_until(b"xxx")
        client.reset()
        outcome = await server.outcome()
        assert not server.has_more
    assert (outcome.end, outcome.error, outcome.status) == ("client_gone", None, 200)
    assert outcome.items > 0
    assert outcome.bytes >= outcome.items * 1000
    assert one_line(caplog, outcome)["end"] == "client_gone"


async def test_outcome_of_a_stalled_client(caplog: pytest.LogCaptureFixture) -> None:
    async def one_by_one() -> AsyncIterator[dict[str, str]]:
        while True:
            yield row(0, 1000)
            await asyncio.sleep(0)

    async with (
        watched(streams(one_by_one, "ndjson", stall_seconds=0.1), send_bytes=SMALL_BYTES) as server,
        client_of(server.port, receive_bytes=SMALL_BYTES) as client,
    ):
        await client.ask()
        outcome = await server.outcome()
        assert not server.has_more
    assert (outcome.end, outcome.error, outcome.status) == ("stalled", None, 200)
    assert outcome.items > 0
    assert one_line(caplog, outcome)["end"] == "stalled"


async def test_outcome_of_a_stream_ended_by_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    async with watched(streams(hot, "ndjson")) as server, client_of(server.port) as client:
        await client.ask()
        await client.read_until(b"xxx")
        reading = asyncio.create_task(client.read_to_end())
        await server.runner.cleanup()
        outcome = await server.outcome()
        assert not server.has_more
        await reading
    assert (outcome.end, outcome.error, outcome.status) == ("shut_down", None, 200)
    assert one_line(caplog, outcome)["end"] == "shut_down"


async def test_each_stream_has_one_outcome(caplog: pytest.LogCaptureFixture) -> None:
    handlers = [streams(lambda: rows(3), "ndjson"), streams(lambda: rows(0, error=ValueError()), "json")]
    async with watched(*handlers) as server, client_of(server.port) as client:
        for index in range(10):  # ten requests on one connection
            await client.ask(f"/{index % 2}?{index}")
        outcomes = [await server.outcome() for _ in range(10)]
        assert not server.has_more
    assert [outcome.path for outcome in outcomes] == [f"/{index % 2}?{index}" for index in range(10)]
    assert [outcome.end for outcome in outcomes] == ["complete", "failed"] * 5
    assert [getattr(line, "outcome", None) for line in lines_of(caplog)] == outcomes


@pytest.fixture
def app() -> web.Application:
    return web.Application()


async def got(app: web.Application, path: str = "/", *, times: int = 1) -> list[Any]:
    """Request a stream of an application several times; return the items."""
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession() as session:
            for _ in range(times):
                async with open_stream(session, url_of(runner.addresses[0][1], path)) as stream:
                    came = [item async for item in stream]
    finally:
        await runner.cleanup()
    return came


async def test_hook_may_be_a_coroutine_function(app: web.Application) -> None:
    seen: list[tuple[str, Outcome]] = []

    async def hook(request: web.BaseRequest, outcome: Outcome) -> None:
        await asyncio.sleep(0)
        seen.append((request.path, outcome))

    app.router.add_get("/", streams(rows))
    chunkwise.setup(app, on_outcome=hook)
    assert await got(app) == ROWS
    ((path, outcome),) = seen
    assert (path, outcome.end, outcome.items) == ("/", "complete", 5)


@pytest.mark.parametrize("waits", [False, True], ids=["sync", "async"])
async def test_failing_hook_is_logged(app: web.Application, waits: bool, caplog: pytest.LogCaptureFixture) -> None:
    def hook(_request: web.BaseRequest, _outcome: Outcome) -> None:
        raise ValueError("the hook's")

    async def hook_later(_request: web.BaseRequest, _outcome: Outcome) -> None:
        await asyncio.sleep(0)
        raise ValueError("the hook's")

    app.router.add_get("/", streams(rows))
    chunkwise.setup(app, on_outcome=hook_later if waits else hook)
    assert await got(app, times=2) == ROWS
    failures = [record for record in caplog.records if record.levelno > logging.INFO]
    assert [(record.name, record.getMessage()) for record in failures] == [
        ("chunkwise", "on_outcome raised an exception for GET /")
    ] * 2
    assert all(record.exc_info and str(record.exc_info[1]) == "the hook's" for record in failures)
    assert len(lines_of(caplog)) == 2


def test_second_setup_of_an_application_is_refused(app: web.Application) -> None:
    chunkwise.setup(app)
    with pytest.raises(ValueError, match="call it once"):
        chunkwise.setup(app)


def test_setup_needs_an_application() -> None:
    with pytest.raises(TypeError, match=r"app: got RouteTableDef, expected the web\.Application"):
        chunkwise.setup(web.RouteTableDef())  # type: ignore[arg-type]


async def test_sub_applications_share_the_hook(app: web.Application) -> None:
    seen: list[tuple[str, str]] = []
    inner, innermost = web.Application(), web.Application()
    innermost.router.add_get("/rows", streams(rows))
    inner.add_subapp("/b", innermost)
    app.add_subapp("/a", inner)
    chunkwise.setup(app, on_outcome=lambda request, outcome: seen.append((request.path, outcome.end)))
    assert await got(app, "/a/b/rows") == ROWS
    assert seen == [("/a/b/rows", "complete")]


async def test_sub_application_may_have_its_own_hook(app: web.Application) -> None:
    seen: list[str] = []
    inner = web.Application()
    inner.router.add_get("/", streams(rows))
    chunkwise.setup(inner, on_outcome=lambda _request, outcome: seen.append(f"inner {outcome.end}"))
    chunkwise.setup(app, on_outcome=lambda _request, outcome: seen.append(f"outer {outcome.end}"))
    app.add_subapp("/inner", inner)
    app.router.add_get("/", streams(rows))
    await got(app, "/inner/")
    assert seen == ["inner complete"]


async def test_outcome_precedes_the_next_response() -> None:
    """The next response on a connection is sent after the outcome of the previous stream."""
    ends: list[str] = []

    async def hook(_request: web.BaseRequest, outcome: Outcome) -> None:
        await asyncio.sleep(0.01)
        ends.append(outcome.end)

    async def told(request: web.Request) -> web.Response:
        return web.json_response(ends)

    app = web.Application()
    app.router.add_get("/", streams(rows))
    app.router.add_get("/told", told)
    chunkwise.setup(app, on_outcome=hook)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with client_of(runner.addresses[0][1]) as client:
            await client.ask("/")
            await client.ask("/told")
            await client.read_until(b'["complete"]')
    finally:
        await runner.cleanup()


async def test_bad_upload_sends_no_second_response() -> None:
    """The client would take a second response for more bytes of the first."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        async for _ in chunkwise.items(request):
            pass
        return response

    async with watched(handler) as server, connected(server.port) as wire:
        wire.writer.write(b"POST /0 HTTP/1.1\r\nHost: x\r\n" + NDJSON.encode() + b"\r\nContent-Length: 5\r\n\r\noops\n")
        answer = await wire.read_to_end()
    assert answer.count(b"HTTP/1.1") == 1
    assert b"problem" not in answer


async def test_streams_without_setup_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        serving(streams(rows)) as port,
        ClientSession() as session,
        open_stream(session, url_of(port)) as stream,
    ):
        assert [item async for item in stream] == ROWS
    (line,) = lines_of(caplog)
    outcome = getattr(line, "outcome", None)
    assert isinstance(outcome, Outcome)
    assert (outcome.end, outcome.items) == ("complete", 5)


async def test_streams_work_without_an_application(caplog: pytest.LogCaptureFixture) -> None:
    """The requests of a `web.Server` belong to no application."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return await respond(request, rows(), "json")

    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with ClientSession() as session, session.get(url_of(runner.addresses[0][1], "/")) as response:
            assert await response.json() == ROWS
    finally:
        await runner.cleanup()
    assert len(lines_of(caplog)) == 1


async def test_disabled_log_level_writes_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "chunkwise.access")
    outcome, _ = await outcome_of(streams(rows))
    assert outcome.end == "complete"
    assert not lines_of(caplog)
