"""HTTP clients of other projects read a stream: each notices a failure, and accepts a complete stream.

All clients read the same source. It continues only after its client has confirmed the items so far, which shows that
items before a failure arrive, and arrive at once. For HTTP/1.0, clients that use only HTTP/1.1 get a proxy.
"""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
import requests
from aiohttp import hdrs, web
from playwright.async_api import Page

from chunkwise import respond
from chunkwise.formats.sse import ServerSentEvent
from chunkwise.testing.faults import http10
from chunkwise.testing.proxy import FaultProxy
from tests.each_row import each_row, rows_at_once
from tests.flow.producing import GUARD_SECONDS, NAMES, read_all, read_so_far
from tests.needs import needs_chromium, needs_curl, needs_node
from tests.transports.browsing import EVENTS, FETCH, blank, browser_page, evaluate
from tests.transports.wire import serving, streams, url_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERSIONS = ["1.1", "1.0"]
READY = 3
"""How many items the source yields before it waits."""

every_format = each_row("name", NAMES)
every_version = each_row("version", VERSIONS)
every_end = each_row("fails", [False, True], ids=["whole", "fails"])


def item(index: int) -> dict[str, str]:
    return {"n": str(index), "mark": mark_of(index)}


def mark_of(index: int) -> str:
    """Return text that shows, in any format, that an item was received."""
    return f"item {index}."


WHOLE = [item(index) for index in range(READY + 1)]


class Told:
    """A source that yields some items, waits until they were read, and then ends or fails."""

    def __init__(self, *, fails: bool) -> None:
        self.go = asyncio.Event()
        self._fails = fails

    async def items(self) -> AsyncIterator[Any]:
        for index in range(READY):
            yield item(index)
        await self.go.wait()
        if self._fails:
            raise ValueError
        yield item(READY)

    async def events(self) -> AsyncIterator[Any]:
        async for each in self.items():
            yield each
        yield ServerSentEvent(event="bye", data="an EventSource knows no other end")


class Served(NamedTuple):
    """A served source: its URL, and the URL where its client confirms the first items."""

    source: Told
    url: str
    read_url: str
    page_url: str


@asynccontextmanager
async def served(
    name: str, version: str = "1.1", *, fails: bool, coding: str | None = None, events: bool = False
) -> AsyncIterator[Served]:
    """Serve a source.

    Args:
        coding: replaces the client's Accept-Encoding; None to keep it.
        events: whether the source yields an additional event at its end.
    """
    source = Told(fails=fails)

    async def stream(request: web.Request) -> web.StreamResponse:
        if coding is not None:
            headers = request.headers.copy()
            headers[hdrs.ACCEPT_ENCODING] = coding
            request = request.clone(headers=headers)
        return await respond(request, source.events() if events else source.items(), name)

    async def read(request: web.Request) -> web.StreamResponse:
        source.go.set()
        return web.Response(text="good")

    async with serving(stream, read, blank) as port:
        urls = url_of(port, "/0"), url_of(port, "/1"), url_of(port, "/2")
        if version == "1.1":
            yield Served(source, *urls)
            return
        async with FaultProxy("127.0.0.1", port, http10()) as proxy:
            yield Served(source, proxy.url("/0"), proxy.url("/1"), proxy.url("/2"))


def check(name: str, came: bytes, *, fails: bool) -> None:
    """Check that all items that were sent have arrived."""
    if fails:
        assert read_so_far(name, came) == WHOLE[:READY]
    else:
        assert read_all(name, came) == WHOLE


# ---- curl


@cache
def curl_codings() -> list[str]:
    """Return the content codings that the installed curl supports."""
    if shutil.which("curl") is None:
        return ["gzip", "deflate"]
    told = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout
    (features,) = re.findall(r"^Features: (.*)$", told, re.MULTILINE)
    feature_of = {"gzip": "libz", "deflate": "libz", "br": "brotli", "zstd": "zstd"}
    return [coding for coding, feature in feature_of.items() if feature in features.split()]


every_curl_coding = each_row("coding", [None, *curl_codings()])


@asynccontextmanager
async def curl(url: str, version: str, coding: str | None) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run curl; ``coding`` is the content coding that it requests and decompresses; None for no coding."""
    compressed = [] if coding is None else ["--compressed", "-H", f"Accept-Encoding: {coding}"]
    process = await asyncio.create_subprocess_exec(
        "curl", "-q", "-sS", "-N", "--noproxy", "*", f"--http{version}", *compressed, url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def print_until(process: asyncio.subprocess.Process, printed: bytearray, mark: str) -> None:
    """Read the output of a process until it contains a mark."""
    assert process.stdout is not None
    while mark.encode() not in printed:
        data = await process.stdout.read(65536)
        assert data, f"ended after {bytes(printed)!r}, expected {mark!r}"
        printed += data


@needs_curl
@every_format
@every_version
@every_curl_coding
@every_end
async def test_curl_sees_how_a_stream_ends(name: str, version: str, coding: str | None, fails: bool) -> None:
    printed = bytearray()
    async with served(name, fails=fails) as it, curl(it.url, version, coding) as process:
        await print_until(process, printed, mark_of(READY - 1))
        it.source.go.set()
        rest, said = await process.communicate()
    check(name, bytes(printed + rest), fails=fails)
    expected = {"1.1": 18, "1.0": 56} if fails else {"1.1": 0, "1.0": 0}  # "partial file", "failure in receiving"
    assert process.returncode == expected[version], said


@needs_curl
@every_format
@every_version
@every_curl_coding
async def test_curl_prints_each_item_at_once(name: str, version: str, coding: str | None) -> None:
    read = [asyncio.Event() for _ in range(5)]

    async def items() -> AsyncIterator[dict[str, str]]:
        for index, event in enumerate(read):
            yield item(index)
            await event.wait()

    printed = bytearray()
    async with serving(streams(items, name)) as port, curl(url_of(port), version, coding) as process:
        for index, event in enumerate(read):
            await print_until(process, printed, mark_of(index))
            assert mark_of(index + 1).encode() not in printed
            event.set()
        rest, said = await process.communicate()
    assert read_all(name, bytes(printed + rest)) == [item(index) for index in range(5)]
    assert process.returncode == 0, said


# ---- fetch, in Node and in a browser

FETCH_TEXT = """
async ({url, headers}) => {
    try {
        const response = await fetch(url, {headers});
        return {text: await response.text(), error: null};
    } catch (caught) {
        return {text: null, error: String(caught)};
    }
}
"""
"""Reads the whole body with one call."""


def arguments(it: Served, coding: str | None = None) -> dict[str, Any]:
    headers = {} if coding is None else {"Accept-Encoding": coding}
    return {"url": it.url, "readUrl": it.read_url, "mark": mark_of(READY - 1), "headers": headers}


def check_fetch(name: str, pieces: dict[str, Any], text: dict[str, Any], *, fails: bool) -> None:
    """Check that both ways of reading fail, or neither; chunk by chunk, the items before the failure arrive."""
    check(name, pieces["text"].encode(), fails=fails)
    if fails:
        assert pieces["error"]
        assert text["error"]
        assert text["text"] is None
    else:
        assert pieces["error"] is None
        assert text["error"] is None
        check(name, text["text"].encode(), fails=False)


NODE = f"""
const lines = require("node:readline").createInterface({{input: process.stdin}});
const both = async (asked) => [await ({FETCH})(asked), await ({FETCH_TEXT})(asked)];
lines.on("line", async (line) => {{
    const told = await both(JSON.parse(line)).catch(String);
    console.log(JSON.stringify(told));
}});
"""
"""For each line of arguments, writes a line with the results of both scripts, or an error."""

Fetch = Callable[[Served, str], Awaitable[tuple[dict[str, Any], dict[str, Any]]]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[Fetch]:
    """Start Node; return a function that fetches a source twice: chunk by chunk, and with one call."""
    process = await asyncio.create_subprocess_exec(
        "node", "-e", NODE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )

    async def fetch(it: Served, coding: str) -> tuple[dict[str, Any], dict[str, Any]]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(arguments(it, coding)).encode() + b"\n")
        async with asyncio.timeout(GUARD_SECONDS):
            told = json.loads(await process.stdout.readline())
        assert isinstance(told, list), told
        return told[0], told[1]

    try:
        yield fetch
    finally:
        process.kill()
        await process.communicate()


@rows_at_once(1)
@needs_node
@every_format
@each_row("coding", ["identity", "gzip", "deflate", "br"])
@every_end
async def test_node_fetch_sees_how_a_stream_ends(node: Fetch, name: str, coding: str, fails: bool) -> None:
    async with served(name, fails=fails) as it:
        pieces, text = await node(it, coding)
    assert (pieces["coding"] or "identity") == coding
    check_fetch(name, pieces, text, fails=fails)


@rows_at_once(1)
@needs_node
@every_format
async def test_node_fetch_reads_http_1_0_streams(node: Fetch, name: str) -> None:
    # Only complete streams are tested: undici (6.24, in Node 20.20) takes a failed one for complete, because a reset
    # ends a response without a length like a close. Node sends HTTP/1.1 requests, so this happens only with a proxy.
    async with served(name, "1.0", fails=False) as it:
        check_fetch(name, *await node(it, "identity"), fails=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    async with browser_page() as page:
        yield page


@rows_at_once(1)
@needs_chromium
@every_format
@every_version
@each_row("coding", ["identity", "gzip"])
@every_end
async def test_browser_fetch_sees_how_a_stream_ends(
    page: Page, name: str, version: str, coding: str, fails: bool
) -> None:
    async with served(name, version, fails=fails, coding=coding) as it:
        pieces = await evaluate(page, it.page_url, FETCH, arguments(it))
        text = await evaluate(page, it.page_url, FETCH_TEXT, arguments(it))
    assert (pieces["coding"] or "identity") == coding
    check_fetch(name, pieces, text, fails=fails)


@rows_at_once(1)
@needs_chromium
@every_version
@each_row("coding", ["identity", "gzip"])
@every_end
async def test_event_source_sees_how_a_stream_ends(page: Page, version: str, coding: str, fails: bool) -> None:
    async with served("sse", version, fails=fails, coding=coding, events=True) as it:
        told = await evaluate(page, it.page_url, EVENTS, arguments(it))
    if fails:  # an EventSource reports an end and a failure alike; only the last event differs
        assert told == {"items": WHOLE[:READY], "reported": True, "end": "error"}
    else:
        assert told == {"items": WHOLE, "reported": True, "end": "bye"}


# ---- Python

AS_MANY_THREADS = 4
"""How many clients run at once. On two cores asyncio has six threads, and the proxy needs some of them."""


class Reading(NamedTuple):
    """The result of a client: the content, its content coding, and the error."""

    came: bytes
    coding: str
    error: Exception | None


def read_pieces(pieces: Iterator[bytes], told: Callable[[], None]) -> tuple[bytes, Exception | None]:
    """Read chunks to their end, and confirm the first items when they have arrived."""
    came = b""
    try:
        for piece in pieces:
            came += piece
            if mark_of(READY - 1).encode() in came:
                told()
    except Exception as error:
        return came, error
    return came, None


def by_httpx(url: str, coding: str, told: Callable[[], None]) -> Reading:
    with (
        httpx.Client(trust_env=False, timeout=GUARD_SECONDS, headers={"Accept-Encoding": coding}) as client,
        client.stream("GET", url) as response,
    ):
        came, error = read_pieces(response.iter_bytes(), told)
        return Reading(came, response.headers.get("Content-Encoding", "identity"), error)


def by_requests(url: str, coding: str, told: Callable[[], None]) -> Reading:
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Accept-Encoding": coding}
        with session.get(url, headers=headers, stream=True, timeout=GUARD_SECONDS) as response:
            came, error = read_pieces(response.iter_content(1), told)
            return Reading(came, response.headers.get("Content-Encoding", "identity"), error)


async def check_library(
    client: Callable[[str, str, Callable[[], None]], Reading],
    expected: type[Exception],
    name: str,
    version: str,
    coding: str,
    fails: bool,
) -> None:
    """Let a library read a source in a thread."""
    loop = asyncio.get_running_loop()
    async with served(name, version, fails=fails) as it, asyncio.timeout(GUARD_SECONDS):

        def told() -> None:
            loop.call_soon_threadsafe(it.source.go.set)

        came, used, error = await asyncio.to_thread(client, it.url, coding, told)
    assert used == coding
    check(name, came, fails=fails)
    assert isinstance(error, expected) if fails else error is None


@rows_at_once(AS_MANY_THREADS)
@every_format
@every_version
@each_row("coding", ["identity", "gzip", "deflate", "br"])
@every_end
async def test_httpx_sees_how_a_stream_ends(name: str, version: str, coding: str, fails: bool) -> None:
    await check_library(by_httpx, httpx.TransportError, name, version, coding, fails)


@rows_at_once(AS_MANY_THREADS)
@every_format
@every_version
@each_row("coding", ["identity", "gzip", "deflate", "br", "zstd"])
@every_end
async def test_requests_sees_how_a_stream_ends(name: str, version: str, coding: str, fails: bool) -> None:
    await check_library(by_requests, requests.RequestException, name, version, coding, fails)
