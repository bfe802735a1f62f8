"""`respond` and `streaming`: the headers of a response, when it is committed, and how it fails."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, WSCloseCode, WSServerHandshakeError, web
from aiohttp.test_utils import TestServer

from chunkwise import UnknownFormat, respond, setup, streaming
from chunkwise.formats import FORMATS
from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import resumable
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, NAMES, Held, read_all, row
from tests.transports.wire import Handler, body_of, connected, serving, streams, url_of

every_format = each_row("name", NAMES)
COMMON = {"X-Accel-Buffering": "no", "Incremental": "?1", "Transfer-Encoding": "chunked"}


async def rows(count: int = 3) -> AsyncIterator[dict[str, str]]:
    for index in range(count):
        yield row(index)


async def got(handler: Handler, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with (
        asyncio.timeout(GUARD_SECONDS),
        serving(handler) as port,
        ClientSession() as session,
        session.request(method, url_of(port), headers=headers) as response,
    ):
        return response.status, dict(response.headers), await response.read()


@every_format
@each_row("count", [0, 1, 2000])
async def test_stream_is_complete_in_every_format(name: str, count: int) -> None:
    status, headers, data = await got(streams(lambda: rows(count), name))
    assert status == 200
    assert headers["Content-Type"] == FORMATS[name].content_type
    assert read_all(name, data) == [row(index) for index in range(count)]


SOURCES: dict[str, Any] = {
    "async generator": rows,
    "sync generator": lambda: (row(index) for index in range(3)),
    "list": lambda: [row(0), row(1), row(2)],
    "tuple": lambda: (row(0), row(1), row(2)),
    "map": lambda: map(row, range(3)),
    "batches": lambda: Batches(lists()),
}


async def lists() -> AsyncIterator[list[Any]]:
    yield [row(0), row(1)]
    yield []
    yield [row(2)]


@pytest.mark.parametrize("kind", SOURCES)
async def test_any_source_of_items_is_a_stream(kind: str) -> None:
    _, _, data = await got(streams(SOURCES[kind], "ndjson"))
    assert read_all("ndjson", data) == [row(0), row(1), row(2)]


DOCUMENTS: dict[str, tuple[Any, Any]] = {
    "dict": (lambda: {"users": rows(1), "total": 1}, {"users": [row(0)], "total": 1}),
    "string": (lambda: "text", "text"),
    "number": (lambda: 12.5, 12.5),
    "none": (lambda: None, None),
    "awaitable": (lambda: asyncio.sleep(0, {"a": 1}), {"a": 1}),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
async def test_single_value_is_a_document(kind: str) -> None:
    make, expected = DOCUMENTS[kind]
    _, _, data = await got(streams(make, "json"))
    assert msgspec.json.decode(data) == expected
    _, _, data = await got(streams(make, "ndjson"))
    assert data.endswith(b"\n")
    assert msgspec.json.decode(data) == expected


async def test_response_headers_suit_a_stream() -> None:
    _, headers, _ = await got(streams(rows, "json"))
    assert COMMON.items() <= headers.items()
    assert headers["Cache-Control"] == "no-transform"
    assert "Content-Length" not in headers
    _, headers, _ = await got(streams(rows, "sse"))
    assert headers["Cache-Control"] == "no-cache, no-transform"


async def test_handler_headers_are_joined_with_ours() -> None:
    mine = {"Cache-Control": "max-age=5, private", "X-Own": "1", "X-Accel-Buffering": "yes", "Vary": "Cookie"}
    _, headers, _ = await got(streams(rows, headers=mine))
    assert headers["Cache-Control"] == "max-age=5, private, no-transform"
    assert (headers["X-Own"], headers["X-Accel-Buffering"]) == ("1", "yes")
    assert headers["Vary"] == "Cookie, Accept, Accept-Encoding"
    _, headers, _ = await got(streams(rows, headers={"Cache-Control": "no-transform", "Vary": "Accept"}))
    assert (headers["Cache-Control"], headers["Vary"]) == ("no-transform", "Accept, Accept-Encoding")
    assert mine["Vary"] == "Cookie"


async def test_handler_sets_the_status() -> None:
    assert (await got(streams(rows, status=202)))[0] == 202


async def test_unknown_format_is_a_handler_error() -> None:
    told: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        with pytest.raises(UnknownFormat) as caught:
            await respond(request, [], "xml")
        told.append(str(caught.value))
        return web.Response()

    await got(handler)
    assert told == ["unknown format 'xml', expected one of json, ndjson, json-seq, sse, csv, text"]


@every_format
async def test_head_has_the_headers_of_get(name: str) -> None:
    started = False

    async def source() -> AsyncIterator[dict[str, str]]:
        nonlocal started
        started = True
        yield row(0)

    _, expected, _ = await got(streams(rows, [name, "json"]))
    status, headers, data = await got(streams(source, [name, "json"]), method="HEAD")
    assert (status, data, started) == (200, b"", False)
    del expected["Transfer-Encoding"]  # aiohttp omits it for HEAD (RFC 9110 §9.3.2)
    assert {**headers, "Date": ""} == {**expected, "Date": ""}


async def test_head_closes_the_source_without_running_it() -> None:
    async def part() -> int:
        raise AssertionError("started")

    status, _, _ = await got(streams(lambda: {"a": part(), "b": [rows(), part()]}), method="HEAD")
    gc.collect()  # pytest would report a "never awaited" warning as an error
    assert status == 200


async def test_refused_request_does_not_run_the_source() -> None:
    async def part() -> int:
        raise AssertionError("started")

    status, _, _ = await got(streams(lambda: {"a": part(), "b": rows()}), Accept="image/png")
    gc.collect()
    assert status == 406


async def test_headers_wait_a_limited_time_for_an_item() -> None:
    held = Held(ready=0)
    async with serving(streams(held.rows, "json", commit_after_seconds=0.001)) as port, connected(port) as wire:
        wire.ask()
        assert (await wire.read_until(b"\r\n1\r\n[\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert not held.go.is_set()
        held.go.set()
        assert body_of(await wire.read_until(b"0\r\n\r\n")) == b'[{"n":"0","pad":""}]'


async def test_headers_are_sent_without_a_first_byte() -> None:
    held = Held(ready=0)
    async with serving(streams(held.rows, "ndjson", commit_after_seconds=0.001)) as port, connected(port) as wire:
        wire.ask()
        assert (await wire.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert not held.go.is_set()
        held.go.set()
        assert body_of(await wire.read_until(b"0\r\n\r\n")) == b'{"n":"0","pad":""}\n'


async def failing_when(go: asyncio.Event) -> AsyncIterator[Any]:
    await go.wait()
    raise web.HTTPConflict
    yield


async def test_late_status_can_report_a_failure() -> None:
    go, asked = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.set()
        return await respond(request, failing_when(go), commit_after_seconds=3600)

    async with serving(handler) as port, connected(port) as wire:
        wire.ask()
        await asked.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        go.set()
        assert (await wire.read_until(b"}")).startswith(b"HTTP/1.1 409 Conflict\r\n")


async def test_later_failure_closes_the_connection() -> None:
    go = asyncio.Event()
    async with (
        serving(streams(lambda: failing_when(go), "ndjson", commit_after_seconds=0)) as port,
        connected(port) as wire,
    ):
        wire.ask()
        await wire.read_until(b"\r\n\r\n")
        go.set()
        answer = await wire.read_to_end()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 1


async def test_connection_is_kept_after_a_stream() -> None:
    async with serving(streams(rows, "ndjson")) as port, connected(port) as wire:
        for _ in range(3):
            wire.ask()
            assert read_all("ndjson", body_of(await wire.read_until(b"\r\n0\r\n\r\n"))) == [row(0), row(1), row(2)]
            wire.came.clear()


async def test_http_1_0_stream_ends_with_a_close() -> None:
    async with serving(streams(rows, "ndjson")) as port, connected(port) as wire:
        wire.ask(version="1.0")
        answer = await wire.read_to_end()
    head, _, data = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert read_all("ndjson", data) == [row(0), row(1), row(2)]


@streaming
async def plain_async(request: web.Request) -> AsyncIterator[Any]:
    yield {"path": request.path}


@streaming
def plain_sync(request: web.Request) -> Iterator[Any]:
    yield {"path": request.path, "main": threading.current_thread() is threading.main_thread()}


@streaming(format="ndjson", status=201, headers={"X-Own": "1"}, commit_after_seconds=1)
async def with_options(request: web.Request) -> AsyncIterator[Any]:
    yield {"path": request.path}


class View(web.View):
    @streaming
    async def get(self) -> AsyncIterator[Any]:
        yield {"path": self.request.path}

    @streaming(format="csv")
    def post(self) -> Iterator[Any]:
        yield {"path": self.request.path}


class Handlers:
    @streaming
    async def listing(self, request: web.Request) -> AsyncIterator[Any]:
        yield {"path": request.path, "of": type(self).__name__}


async def test_streaming_accepts_an_async_generator() -> None:
    _, headers, data = await got(plain_async)
    assert (headers["Content-Type"], data) == ("application/json", b'[{"path":"/0"}]')


async def test_streaming_runs_a_generator_in_a_thread() -> None:
    _, _, data = await got(plain_sync)
    assert msgspec.json.decode(data) == [{"path": "/0", "main": False}]


async def test_streaming_has_the_options_of_respond() -> None:
    status, headers, data = await got(with_options)
    assert (status, headers["Content-Type"], headers["X-Own"]) == (201, "application/x-ndjson", "1")
    assert data == b'{"path":"/0"}\n'


async def test_streaming_accepts_a_method() -> None:
    assert (await got(Handlers().listing))[2] == b'[{"path":"/0","of":"Handlers"}]'


async def test_streaming_works_in_views() -> None:
    async def view(request: web.Request) -> web.StreamResponse:
        return await View(request)

    assert (await got(view))[2] == b'[{"path":"/0"}]'
    assert (await got(view, method="POST"))[2] == b"path\r\n/0\r\n"
    assert (await got(view, method="PUT"))[0] == 405


async def test_streaming_works_in_routed_views() -> None:
    app = web.Application()
    app.router.add_view("/", View)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = url_of(runner.addresses[0][1], "/")
        async with ClientSession() as session, session.get(url) as response:
            assert await response.json() == [{"path": "/"}]
    finally:
        await runner.cleanup()


def test_streaming_keeps_the_function_name() -> None:
    assert plain_async.__name__ == "plain_async"


async def coroutine_function(request: web.Request) -> None: ...


@pytest.mark.parametrize("decorated", [coroutine_function, len, print, lambda request: [1]])
def test_streaming_needs_a_generator_function(decorated: Any) -> None:
    with pytest.raises(TypeError, match="expected a generator function"):
        streaming(decorated)
    with pytest.raises(TypeError, match="expected a generator function"):
        streaming(format="json")(decorated)


async def test_handler_can_respond_after_its_timeout() -> None:
    held = Held(ready=0)

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(0.05):
                return await respond(request, held.rows(), commit_after_seconds=GUARD_SECONDS)
        except TimeoutError:
            return web.Response(status=504)

    async with serving(handler) as port, ClientSession() as session, session.get(url_of(port)) as response:
        assert response.status == 504
    assert (held.ended, held.cleaned) == ("CancelledError", True)


async def test_refused_coding_lists_the_codings() -> None:
    held = Held()
    headers = {"Accept-Encoding": "identity;q=0, compress"}
    async with (
        serving(streams(held.rows)) as port,
        ClientSession() as session,
        session.get(url_of(port), headers=headers) as response,
    ):
        assert response.status == 406
        assert (await response.json(content_type=None))["available"] == ["zstd", "gzip", "br", "deflate", "identity"]
    assert held.ended is None


class Unread:
    """A source from which no item may be requested; it records whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def __aiter__(self) -> "Unread":
        return self

    async def __anext__(self) -> Any:
        raise AssertionError("asked")

    async def aclose(self) -> None:
        self.closed = True


@each_row(
    ("options", "told"),
    [
        ({"headers": {"content-length": "4"}}, "headers: got content-length"),  # a part would look complete
        ({"headers": {"Transfer-Encoding": "identity"}}, "headers: got Transfer-Encoding"),
        ({"status": 101}, "status: got 101, expected a status with content"),
        ({"status": 204}, "status: got 204, expected a status with content"),
        ({"status": 304}, "status: got 304, expected a status with content"),
        ({"commit_after_seconds": -1}, "commit_after_seconds must be >= 0, got -1"),
        ({"keepalive_seconds": -1}, "keepalive_seconds must be >= 0, got -1"),
        ({"stall_seconds": -0.5}, "stall_seconds must be >= 0, got -0.5"),
    ],
)
async def test_invalid_option_closes_the_source(options: dict[str, Any], told: str) -> None:
    source = Unread()

    async def handler(request: web.Request) -> web.StreamResponse:
        with pytest.raises(ValueError, match=told):
            await respond(request, source, **options)
        return web.Response(text="refused")

    assert (await got(handler))[2] == b"refused"
    assert source.closed


async def test_stream_during_shutdown_is_refused() -> None:
    source, app = Unread(), web.Application()
    setup(app)

    async def handler(request: web.Request) -> web.StreamResponse:
        await app.shutdown()
        return await respond(request, source)

    app.router.add_get("/", handler)
    async with TestServer(app) as server, ClientSession() as session, session.get(server.make_url("/")) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await response.json(content_type=None))["title"] == "Going Away"
    assert source.closed


async def test_handshake_checks_the_origin() -> None:
    unread = Unread()
    async with (
        serving(streams(rows, "ndjson"), streams(lambda: ["a", "b\nc"], "text"), streams(lambda: unread)) as port,
        ClientSession() as session,
    ):
        for path, expected in (("/0", [msgspec.json.encode(row(n)).decode() for n in range(3)]), ("/1", ["a", "b\nc"])):
            async with session.ws_connect(url_of(port, path)) as websocket:
                assert [message.data async for message in websocket] == expected
                assert websocket.close_code == WSCloseCode.OK
        with pytest.raises(WSServerHandshakeError) as caught:
            await session.ws_connect(url_of(port, "/2"), origin="http://evil.test")
    assert (caught.value.status, unread.closed) == (403, True)


async def test_resumable_source_serves_ranges() -> None:
    asked: list[int] = []

    async def source(start: int) -> AsyncIterator[dict[str, str]]:
        asked.append(start)
        for index in range(start, 3):
            yield row(index)

    handler = streams(lambda: resumable(source, etag="v1", total=3), "ndjson", headers={"X-Own": "1"})
    status, headers, data = await got(handler, Range="items=1-")
    assert (status, headers["Content-Range"], headers["X-Own"]) == (206, "items 1-2/3", "1")
    assert read_all("ndjson", data) == [row(1), row(2)]
    status, headers, _ = await got(handler, Range="items=4-")
    assert (status, headers["Content-Range"]) == (416, "items */3")
    events = streams(lambda: resumable(source), "sse")
    status, _, data = await got(events, **{"Last-Event-ID": "2"})
    assert (status, data) == (204, b"")  # a browser does not reconnect after 204
    status, headers, data = await got(handler, method="POST", Range="items=1-")  # only GET has ranges
    assert (status, "Content-Range" in headers) == (200, False)
    assert (len(read_all("ndjson", data)), asked[0], asked[-1]) == (3, 1, 0)


async def test_unix_socket_http_1_0_needs_a_proven_end(tmp_path: Path) -> None:
    """A Unix socket has no reset, so a failure would look like the end. nginx's proxy_pass uses HTTP/1.0 by default."""
    path, unread, app = str(tmp_path / "socket"), Unread(), web.Application()
    app.router.add_get("/ndjson", streams(lambda: unread, "ndjson"))
    app.router.add_get("/json", streams(rows, "json"))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, path).start()

        async def answer(target: str) -> bytes:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(f"GET {target} HTTP/1.0\r\nHost: test\r\n\r\n".encode())
            async with asyncio.timeout(GUARD_SECONDS):
                came = await reader.read(-1)
            writer.close()
            return came

        refusal, whole = await answer("/ndjson"), await answer("/json")
    finally:
        await runner.cleanup()
    assert refusal.startswith(b"HTTP/1.0 505 ")
    assert b"let the proxy use HTTP/1.1" in refusal
    assert unread.closed
    assert whole.startswith(b"HTTP/1.0 200 ")
    assert read_all("json", whole.partition(b"\r\n\r\n")[2]) == [row(0), row(1), row(2)]


async def test_keepalive_seconds_are_respected() -> None:
    held = Held()
    async with serving(streams(held.rows, "ndjson", keepalive_seconds=0.01)) as port, connected(port) as wire:
        wire.ask()
        await wire.read_until(b"1\r\n\n\r\n" * 3)
        held.go.set()
        assert read_all("ndjson", body_of(await wire.read_until(b"\r\n0\r\n\r\n"))) == [row(0), row(1)]


async def test_swapped_arguments_are_reported() -> None:
    swapped: Any = respond
    with pytest.raises(TypeError, match=r"request: got list, expected a web\.Request: "):
        await swapped([1, 2], web.Request)
