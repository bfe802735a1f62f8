"""WebSocket clients of other projects read a stream: they get its items, and a close that shows how it ended.

All clients read the same source, which continues only after its client has confirmed the items so far.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import pytest_asyncio
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError, web
from playwright.async_api import Page
from websockets import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.asyncio.client import connect

import chunkwise
from chunkwise import LimitError, RemoteError
from tests.each_row import each_row, rows_at_once
from tests.flow.producing import GUARD_SECONDS, read_so_far
from tests.needs import needs_chromium
from tests.transports.browsing import WEBSOCKET, blank, browser_page, evaluate
from tests.transports.reading import read
from tests.transports.tls import CERTIFICATE, Secure
from tests.transports.watched import LAST, Watched, client_of, ends_whole, watched
from tests.transports.wire import body_of, streams

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Rows:
    """A source that yields some items, waits until it is released, and then ends or fails."""

    def __init__(self, count: int, error: Exception | None = None, *, size: int = 0) -> None:
        self.go = asyncio.Event()
        self.items = [{"n": index, "pad": "x" * size} for index in range(count)]
        self._error = error

    async def __call__(self) -> AsyncIterator[dict[str, Any]]:
        for item in self.items:
            yield item
        await self.go.wait()
        if self._error is not None:
            raise self._error


class Served(NamedTuple):
    """A served source."""

    server: Watched
    rows: Rows
    base: str

    def url(self, path: str = "/0", scheme: str = "ws") -> str:
        return f"{scheme}://{self.base}{path}"


@asynccontextmanager
async def served(
    rows: Rows, make: Callable[[], Any] | None = None, *, proxy: str = "", **options: Any
) -> AsyncIterator[Served]:
    """Serve a source, or a given handler; a request to /1 confirms the items so far.

    Args:
        proxy: the URL to request, without the port of the server, which is appended.
    """

    async def go(request: web.Request) -> web.StreamResponse:
        rows.go.set()
        return web.Response()

    handler = streams(make or rows, **{"commit_after_seconds": 0, **options})
    async with watched(handler, go, blank) as server, asyncio.timeout(GUARD_SECONDS):
        yield Served(server, rows, f"{proxy or '127.0.0.1:'}{server.port}")


# ---- the clients: each offers compression, and accepts messages of any size


class Told(NamedTuple):
    """The items and the end of a stream, as a client sees them."""

    items: list[Any]
    code: int | None
    reason: str | None
    compressed: bool = False


Client = Callable[[Served], Coroutine[Any, Any, Told]]
"""Reads a stream, and releases the source after the first items."""


async def by_websockets(it: Served) -> Told:
    items: list[Any] = []
    async with connect(it.url(), proxy=None, max_size=None) as websocket:
        try:
            while True:
                if len(items) == len(it.rows.items):
                    it.rows.go.set()
                items.append(msgspec.json.decode(await websocket.recv()))
        except ConnectionClosed:
            pass
    assert websocket.response is not None
    compressed = "permessage-deflate" in websocket.response.headers.get("Sec-WebSocket-Extensions", "")
    return Told(items, websocket.close_code, websocket.close_reason, compressed)


async def by_aiohttp(it: Served) -> Told:
    items: list[Any] = []
    async with ClientSession() as session, session.ws_connect(it.url(), compress=15, max_msg_size=0) as websocket:
        while True:
            if len(items) == len(it.rows.items):
                it.rows.go.set()
            message = await websocket.receive()
            if message.type is not WSMsgType.TEXT:
                break
            items.append(message.json())
        assert message.type is WSMsgType.CLOSE
        return Told(items, websocket.close_code, message.extra, bool(websocket.compress))


async def browse(page: Page, it: Served) -> dict[str, Any]:
    asked = {"url": it.url(), "readUrl": it.url("/1", "http"), "after": len(it.rows.items), "protocols": []}
    told: dict[str, Any] = await evaluate(page, it.url("/2", "http"), WEBSOCKET, asked)
    return told


async def by_chromium(page: Page, it: Served) -> Told:
    told = await browse(page, it)
    assert (told["opened"], told["failed"]) == (True, False)
    assert told["wasClean"]
    items = [msgspec.json.decode(message) for message in told["messages"]]
    return Told(items, told["code"], told["reason"], told["extensions"].startswith("permessage-deflate"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    async with browser_page() as page:
        yield page


@pytest.fixture(params=["websockets", "aiohttp", pytest.param("chromium", marks=needs_chromium)])
def client(request: pytest.FixtureRequest) -> Client:
    if request.param == "chromium":
        return partial(by_chromium, request.getfixturevalue("page"))
    return {"websockets": by_websockets, "aiohttp": by_aiohttp}[request.param]


# ---- how a stream ends


@rows_at_once(1)
@each_row("count", [0, 1, 3])
async def test_complete_stream_closes_with_its_count(client: Client, count: int) -> None:
    async with served(Rows(count)) as it:
        assert await client(it) == Told(it.rows.items, 1000, f"complete; items={count}")
        assert (await it.server.outcome()).end == "complete"


@rows_at_once(1)
@each_row("error", [ValueError("a secret"), web.HTTPConflict(text="too late")], ids=["bug", "409"])
@each_row("count", [0, 1, 3])
async def test_failing_stream_closes_with_the_title(client: Client, count: int, error: Exception) -> None:
    async with served(Rows(count, error)) as it:
        title = "Conflict" if isinstance(error, web.HTTPConflict) else "Internal Server Error"
        assert await client(it) == Told(it.rows.items, 1011, title)
        assert (await it.server.outcome()).end == "failed"


async def test_items_just_before_a_failure_arrive(client: Client) -> None:
    rows = Rows(1000, ValueError(), size=1000)
    rows.go.set()
    async with served(rows) as it:
        assert await client(it) == Told(rows.items, 1011, "Internal Server Error")


async def test_shutdown_closes_with_1012(client: Client) -> None:
    rows = Rows(3)

    async def endless() -> AsyncIterator[Any]:
        async for row in rows():
            yield row
        await asyncio.Event().wait()

    async with served(rows, endless) as it:
        reading = asyncio.create_task(client(it))
        await rows.go.wait()
        await it.server.runner.cleanup()
        assert await reading == Told(rows.items, 1012, "Going Away")
        assert (await it.server.outcome()).end == "shut_down"


@rows_at_once(1)
@each_row(
    ("title", "came"),
    [("x" * 123, "x" * 123), ("x" * 124, "x" * 123), ("ö" * 100, "ö" * 61), ("x" * 120 + "🎉", "x" * 120)],
    ids=["fits", "one too many", "two bytes each", "four bytes"],
)
async def test_long_title_is_cut_between_characters(client: Client, title: str, came: str) -> None:
    async with served(Rows(1, web.HTTPConflict(reason=title))) as it:
        assert await client(it) == Told(it.rows.items, 1011, came)


# ---- a refused handshake

REFUSALS = [
    (ValueError("a secret"), 500, {"title": "Internal Server Error", "status": 500}),
    (web.HTTPConflict(text="too late"), 409, {"title": "Conflict", "status": 409, "detail": "too late"}),
]


@asynccontextmanager
async def refusing(error: Exception) -> AsyncIterator[Served]:
    rows = Rows(0, error)
    rows.go.set()
    async with served(rows, commit_after_seconds=GUARD_SECONDS) as it:
        yield it


@pytest.mark.parametrize(("error", "status", "problem"), REFUSALS, ids=["bug", "409"])
async def test_websockets_sees_the_refusal_problem(error: Exception, status: int, problem: dict[str, Any]) -> None:
    async with refusing(error) as it:
        with pytest.raises(InvalidStatus) as caught:
            await connect(it.url(), proxy=None)
        response = caught.value.response
        assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")
        assert msgspec.json.decode(response.body or b"") == problem
        assert (await it.server.outcome()).status == status


@pytest.mark.parametrize(("error", "status", "problem"), REFUSALS, ids=["bug", "409"])
async def test_aiohttp_sees_the_refusal_status(error: Exception, status: int, problem: dict[str, Any]) -> None:
    async with refusing(error) as it, ClientSession() as session:
        with pytest.raises(WSServerHandshakeError) as caught:
            await session.ws_connect(it.url())
        assert caught.value.status == status


@needs_chromium
async def test_browser_sees_the_refusal(page: Page) -> None:
    async with refusing(web.HTTPConflict()) as it:
        told = await browse(page, it)
    assert (told["opened"], told["failed"], told["messages"]) == (False, True, [])
    assert (told["code"], told["wasClean"]) == (1006, False)


# ---- the content of the messages


async def test_messages_are_compressed_only_on_request(client: Client) -> None:
    for compress in (None, False, True):
        async with served(Rows(3, size=10_000), compress=compress) as it:
            told = await client(it)
            assert told == Told(it.rows.items, 1000, "complete; items=3", compressed=compress is True)


@pytest.mark.parametrize("compress", [False, True])
async def test_large_item_is_one_message(client: Client, compress: bool) -> None:
    async with served(Rows(2, size=5_000_000), compress=compress) as it:
        assert await client(it) == Told(it.rows.items, 1000, "complete; items=2", compressed=compress)


async def test_client_with_a_smaller_limit_is_gone() -> None:
    async with served(Rows(1, size=5_000_000)) as it, ClientSession() as session:
        async with connect(it.url(), proxy=None) as websocket:  # its default limit is 1 MiB
            with pytest.raises(ConnectionClosedError) as caught:
                await websocket.recv()
            assert caught.value.sent is not None
            assert caught.value.sent.code == 1009
        async with session.ws_connect(it.url()) as ours:  # its default limit is 4 MiB
            came, error = await read(chunkwise.items(ours))
            assert came == []
            assert isinstance(error, LimitError)
        assert [(await it.server.outcome()).end for _ in range(2)] == ["client_gone"] * 2


async def test_document_with_live_parts_is_one_message(client: Client) -> None:
    rows = Rows(3)
    whole = {"rows": rows.items, "total": 3, "nested": [rows.items]}

    def document() -> dict[str, Any]:
        rows.go.set()
        return {"rows": rows(), "total": asyncio.sleep(0, 3), "nested": [rows()]}

    async with served(rows, document) as it:
        assert await client(it) == Told([whole], 1000, "complete; items=1")


async def test_http_client_uses_the_same_route(client: Client) -> None:
    over_http, over_websocket = Rows(3), Rows(3)
    sources = iter([over_http, over_websocket])

    def source() -> AsyncIterator[Any]:
        return next(sources)()

    async with served(over_websocket, source) as it, client_of(it.server.port) as other:
        await other.ask(Accept="application/x-ndjson")
        await other.read_until(b'{"n":2,"pad":""}')
        assert await client(it) == Told(over_websocket.items, 1000, "complete; items=3")
        assert not ends_whole(other)
        over_http.go.set()
        await other.read_until(LAST)
        assert read_so_far("ndjson", body_of(other.came)) == over_http.items


async def test_stream_works_over_wss(tmp_path: Path) -> None:
    trusts = ssl.create_default_context(cadata=CERTIFICATE[CERTIFICATE.index("-----BEGIN CERT") :])
    for error, end in [(None, (1000, "complete; items=3")), (ValueError(), (1011, "Internal Server Error"))]:
        rows = Rows(3, error)
        async with Secure(streams(rows), tmp_path) as server, ClientSession() as session:
            url = f"wss://localhost:{server.runner.addresses[0][1]}/"
            rows.go.set()
            async with connect(url, ssl=trusts, proxy=None) as websocket:
                assert [msgspec.json.decode(await websocket.recv()) for _ in rows.items] == rows.items
                await websocket.wait_closed()
                assert (websocket.close_code, websocket.close_reason) == end
            async with session.ws_connect(url, ssl=trusts) as ours:
                came, failure = await read(chunkwise.items(ours))
            assert came == rows.items
            assert isinstance(failure, RemoteError) if error else failure is None
