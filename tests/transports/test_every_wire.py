"""One handler, every kind of client: each gets the same items, and the first before the second is produced.

The handler is the one of the tutorial. Each client is written as its own documentation shows.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import websockets.asyncio.client
import websockets.sync.client
from aiohttp import ClientSession, web
from playwright.async_api import Page

import chunkwise
from chunkwise import FORMATS
from chunkwise.flow.inbound import ItemStream
from chunkwise.formats.messages import SUBPROTOCOL
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS
from tests.needs import needs_chromium, needs_curl
from tests.transports.browsing import EVENTS, FETCH, WEBSOCKET, blank, browser_page, evaluate
from tests.transports.wire import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

ITEMS: list[Any] = [
    {"n": 0, "title": "größer als 日本語 🎉"},
    {"nested": {"list": [1, [-2.5e-7, None, []], {"deep": {"er": True}}], "empty": {}}, "ß": ""},
    {"text": "two\nlines\r\n and a tab\t", "odd": '\u2028 \u2029 \x85 \x00 " \\ </script>'},
    "a string\nof its own, äöü\n",
    ["a list", None, 2**53 - 1],
]
LINES = ["größer als 日本語 🎉", "", '{"not": "JSON"}', "  blanks, a tab\t, \u2028 and \x85", "the last"]
"""Sent as strings with a line end each: in the format text, the source sends the line ends itself."""


class Served(NamedTuple):
    """A server of the handler."""

    port: int
    plain: bool
    """Whether the handler sends text instead of JSON."""
    shown: Callable[[], None]
    """A client calls this when it has the first item; only then does the source produce the second."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/0"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/0"

    def item(self, text: str) -> Any:
        return text if self.plain else json.loads(text)


@asynccontextmanager
async def served(*, plain: bool) -> AsyncIterator[Served]:
    items = [f"{line}\n" for line in LINES] if plain else ITEMS
    first_is_shown = asyncio.Event()

    @chunkwise.streaming(format="text" if plain else None)
    async def numbers(request: web.Request) -> AsyncIterator[Any]:
        yield items[0]
        await first_is_shown.wait()
        for item in items[1:]:
            yield item

    async def shown(request: web.Request) -> web.StreamResponse:
        first_is_shown.set()
        return web.Response()

    loop = asyncio.get_running_loop()

    def tell() -> None:
        loop.call_soon_threadsafe(first_is_shown.set)

    async with serving(numbers, shown, blank) as port, asyncio.timeout(GUARD_SECONDS):
        yield Served(port, plain, tell)


# ---- chunked HTTP


def split_json(text: str) -> list[Any]:
    items: list[Any] = json.loads(text)
    return items


def split_ndjson(text: str) -> list[Any]:
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


def split_events(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n") if line.startswith("data: ")]


def split_lines(text: str) -> list[Any]:
    return text.removesuffix("\n").split("\n")


SPLIT = {"json": split_json, "ndjson": split_ndjson, "sse": split_events, "text": split_lines}
"""The name of a format -> a function that splits it as an independent reader does."""


async def by_curl(it: Served, name: str) -> list[Any]:
    asked = ["-H", f"Accept: {FORMATS[name].media_types[0]}"]
    process = await asyncio.create_subprocess_exec(
        "curl", "-q", "-sS", "-N", "--noproxy", "*", *asked, it.url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    printed, told = b"", False
    while data := await process.stdout.read(65536):
        printed += data
        if not told and FORMATS[name].decoder().feed(printed):
            told = True
            it.shown()
    assert await process.wait() == 0
    return SPLIT[name](printed.decode())


async def read(it: Served, stream: ItemStream) -> list[Any]:
    """Read one of our streams."""
    items = []
    async for item in stream:
        items.append(item)
        it.shown()
    return items


async def by_items(it: Served, name: str) -> list[Any]:
    accept = {"Accept": FORMATS[name].media_types[0]}
    async with ClientSession() as session, session.get(it.url, headers=accept) as response:
        assert response.content_type == FORMATS[name].media_types[0]
        return await read(it, chunkwise.items(response))


async def by_open_stream(it: Served) -> list[Any]:
    async with ClientSession() as session, chunkwise.open_stream(session, it.url) as stream:
        return await read(it, stream)


async def by_open_stream_of_a_websocket(it: Served) -> list[Any]:
    asked = "text" if it.plain else None
    async with ClientSession() as session, chunkwise.open_stream(session, it.websocket_url, format=asked) as stream:
        items = await read(it, stream)
        assert stream.end == "proven"
    return items


# ---- WebSocket


def unpacked(it: Served, message: str | bytes, subprotocol: str | None) -> list[Any]:
    """Return the items of a message: one item or, in our subprotocol, lines."""
    assert isinstance(message, str)
    return [it.item(message)] if subprotocol is None else split_ndjson(message)


async def by_aiohttp(it: Served, protocols: Sequence[str] = ()) -> list[Any]:
    items = []
    async with ClientSession() as session, session.ws_connect(it.websocket_url, protocols=protocols) as websocket:
        async for message in websocket:
            items += unpacked(it, message.data, websocket.protocol)
            it.shown()
        assert websocket.close_code == 1000
    return items


async def by_items_of_aiohttps_websocket(it: Served, protocols: Sequence[str] = ()) -> list[Any]:
    async with ClientSession() as session, session.ws_connect(it.websocket_url, protocols=protocols) as websocket:
        return await read(it, chunkwise.items(websocket, format="text" if it.plain else None))


async def by_websockets(it: Served, protocols: Sequence[str] = ()) -> list[Any]:
    items = []
    offered = [websockets.Subprotocol(protocol) for protocol in protocols] or None
    async with websockets.asyncio.client.connect(it.websocket_url, subprotocols=offered, proxy=None) as websocket:
        async for message in websocket:
            items += unpacked(it, message, websocket.subprotocol)
            it.shown()
    return items


async def by_websockets_in_a_thread(it: Served, protocols: Sequence[str] = ()) -> list[Any]:
    offered = [websockets.Subprotocol(protocol) for protocol in protocols] or None

    def read_all() -> list[Any]:
        items = []
        with websockets.sync.client.connect(it.websocket_url, subprotocols=offered, proxy=None) as websocket:
            for message in websocket:
                items += unpacked(it, message, websocket.subprotocol)
                it.shown()
        return items

    return await asyncio.to_thread(read_all)


# ---- a browser


async def browse(it: Served, page: Page, script: str, url: str, **arguments: Any) -> dict[str, Any]:
    """Run a script in a page; it requests our second handler when it has the first item."""
    base = f"http://127.0.0.1:{it.port}"
    told: dict[str, Any] = await evaluate(page, f"{base}/2", script, {"url": url, "readUrl": f"{base}/1", **arguments})
    return told


async def by_event_source(it: Served, page: Page) -> list[Any]:
    items: list[Any] = (await browse(it, page, EVENTS, it.url, mark=ITEMS[0]["title"]))["items"]
    return items


async def by_fetch(it: Served, page: Page, name: str) -> list[Any]:
    mark = LINES[0] if it.plain else ITEMS[0]["title"] + '"}'
    told = await browse(it, page, FETCH, it.url, mark=mark, headers={"Accept": FORMATS[name].media_types[0]})
    assert told["error"] is None
    return SPLIT[name](told["text"])


async def by_browsers_websocket(it: Served, page: Page, protocols: Sequence[str] = ()) -> list[Any]:
    told = await browse(it, page, WEBSOCKET, it.websocket_url, after=1, protocols=list(protocols))
    assert (told["code"], told["reason"], told["wasClean"]) == (1000, f"complete; items={len(ITEMS)}", True)
    subprotocol = protocols[0] if protocols else None
    return [item for message in told["messages"] for item in unpacked(it, message, subprotocol)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    async with browser_page() as page:
        yield page


# ---- the tests

Reader = Callable[..., Awaitable[list[Any]]]
"""A client: takes the server (and a browser its page), and returns all items that it received."""

OVER_WEBSOCKETS: dict[str, Reader] = {
    "aiohttp": by_aiohttp,
    "items of aiohttp": by_items_of_aiohttps_websocket,
    "websockets": by_websockets,
    "websockets in a thread": by_websockets_in_a_thread,
}

OF_EITHER: dict[str, Reader] = {
    **OVER_WEBSOCKETS,
    **{f"{name}, {SUBPROTOCOL}": partial(read, protocols=[SUBPROTOCOL]) for name, read in OVER_WEBSOCKETS.items()},
    "open_stream": by_open_stream,
    "open_stream of a WebSocket": by_open_stream_of_a_websocket,
}
"""Readers of JSON and of text."""

IN_BROWSERS: dict[str, Reader] = {
    "WebSocket": by_browsers_websocket,
    f"WebSocket, {SUBPROTOCOL}": partial(by_browsers_websocket, protocols=[SUBPROTOCOL]),
}

JSON_NAMES = ["json", "ndjson", "sse"]
JSON_READERS = OF_EITHER | {f"items of {name}": partial(by_items, name=name) for name in [*JSON_NAMES, "json-seq"]}
TEXT_READERS = OF_EITHER | {"items": partial(by_items, name="text")}
JSON_BROWSERS = {"EventSource": by_event_source} | IN_BROWSERS
JSON_BROWSERS |= {f"fetch of {name}": partial(by_fetch, name=name) for name in JSON_NAMES}
TEXT_BROWSERS = {"fetch": partial(by_fetch, name="text")} | IN_BROWSERS


@each_row("name", JSON_READERS)
async def test_every_client_reads_the_items(name: str) -> None:
    async with served(plain=False) as it:
        assert await JSON_READERS[name](it) == ITEMS


@each_row("name", TEXT_READERS)
async def test_every_client_reads_the_lines(name: str) -> None:
    async with served(plain=True) as it:
        assert await TEXT_READERS[name](it) == LINES


@needs_curl
@pytest.mark.parametrize("name", JSON_NAMES)
async def test_curl_reads_the_items(name: str) -> None:
    async with served(plain=False) as it:
        assert await by_curl(it, name) == ITEMS


@needs_curl
async def test_curl_reads_the_lines() -> None:
    async with served(plain=True) as it:
        assert await by_curl(it, "text") == LINES


@needs_chromium
@pytest.mark.parametrize("name", JSON_BROWSERS)
async def test_browser_reads_the_items(page: Page, name: str) -> None:
    async with served(plain=False) as it:
        assert await JSON_BROWSERS[name](it, page) == ITEMS


@needs_chromium
@pytest.mark.parametrize("name", TEXT_BROWSERS)
async def test_browser_reads_the_lines(page: Page, name: str) -> None:
    async with served(plain=True) as it:
        assert await TEXT_BROWSERS[name](it, page) == LINES
