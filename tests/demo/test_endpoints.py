"""The routes of the tutorial, served by `chunkwise demo`, read by curl and by clients."""

import asyncio
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import ijson
import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise.client.stream import Stream
from tests.cli.running import Serving, curl, started
from tests.demo.tutorial import EVENTS, LINES, NESTED, ROUTES, USERS, Route, encoded, read_exactly, running_demo
from tests.needs import needs_curl
from tests.tables import check_rows, cross, named

FAST = "?interval=0.01"
HELD = "?interval=60"

EACH_ROUTE = {f"{route.path}{' ws' * bool(route.options)}": route for route in ROUTES}


@pytest.fixture(scope="module")
def demo() -> Iterator[Serving]:
    with running_demo() as served:
        yield served
        assert "Traceback" not in served.running.err


@needs_curl
def test_route_sends_these_bytes(demo: Serving) -> None:
    def check(route: Route) -> None:
        # curl does not answer the close frame of a WebSocket, so it ends only when it is stopped.
        with started("curl", "-sN", "--max-time", 30, *route.options, demo.url(route.path + FAST)) as reading:
            if route.options:
                assert read_exactly(reading, len(route.whole)) == encoded(route.whole)
            else:
                done = reading.end()
                assert (done.out, done.code) == (encoded(route.whole), route.code)

    check_rows(EACH_ROUTE, check)


@needs_curl
def test_first_item_is_sent_before_the_second(demo: Serving) -> None:
    def check(route: Route) -> None:
        with started("curl", "-sN", *route.options, demo.url(route.path + HELD)) as reading:
            assert read_exactly(reading, len(encoded(route.first))) == encoded(route.first)
            assert reading.is_running()
            reading.process.terminate()
            assert not reading.end().out

    check_rows(EACH_ROUTE, check)


@needs_curl
def test_buffered_response_is_sent_at_the_end(demo: Serving) -> None:
    got = curl(demo.url("/non-chunked" + FAST), "-i")
    head, _, body = got.out.partition(b"\r\n\r\n")
    assert body.decode() == "".join(LINES)
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"chunked" not in head
    with started("curl", "-sN", "--max-time", "0.5", demo.url("/non-chunked" + HELD)) as reading:
        assert reading.end().out == b""  # the other routes have sent their first item by then
    assert curl(demo.url("/non-chunked?interval=0&fail=2"), "-w", "%{stderr}%{http_code}").err == "503"


@needs_curl
def test_upload_is_returned_while_it_is_sent(demo: Serving) -> None:
    with started("curl", "-sN", "-T", ".", demo.url("/upper"), stdin=subprocess.PIPE) as talking:
        assert talking.process.stdin is not None
        for sent, received in (
            (b"h\xc3", b"H"),
            (b"\xa4llo \xf0\x9f", "ÄLLO ".encode()),
            (b"\x8e\x89\n", "🎉\n".encode()),
        ):
            talking.process.stdin.write(sent)
            talking.process.stdin.flush()
            assert read_exactly(talking, len(received)) == received
        talking.process.stdin.close()
        talking.process.stdin = None
        done = talking.end()
    assert (done.out, done.code) == (b"", 0)


@needs_curl
def test_upload_that_is_not_text_is_refused(demo: Serving) -> None:
    got = curl(demo.url("/upper"), "--data-binary", "@-", "-w", "%{stderr}%{http_code}", input=b"\xff")
    assert got.err == "422"
    assert "invalid UTF-8" in json.loads(got.out)["detail"]


@needs_curl
def test_large_document_is_sent_as_events(demo: Serving) -> None:
    items = 20_001  # more than one block
    document = json.dumps({"items": [{"id": n} for n in range(1, items + 1)]}).encode()
    expected = "".join(f"{prefix} {event} {value}\n" for prefix, event, value in ijson.parse(document))
    received = curl(demo.url(f"/large?items={items}")).out
    assert hashlib.md5(received).hexdigest() == hashlib.md5(expected.encode()).hexdigest()
    assert curl(demo.url("/large?items=3")).out.decode() == EVENTS
    assert curl(demo.url("/large?items=0")).out.decode().count("\n") == 5


@needs_curl
def test_disconnected_client_stops_a_large_document(demo: Serving) -> None:
    with started("curl", "-sN", demo.url("/large?items=100000000")) as reading:
        assert read_exactly(reading, 100_000).startswith(b" start_map None\n")
    assert curl(demo.url("/chunked?interval=0")).out.decode() == "".join(LINES)


@needs_curl
def test_invalid_parameters_are_refused(demo: Serving) -> None:
    def check(path: str, query: str) -> None:
        got = curl(demo.url(f"{path}?{query}"), "-w", "%{stderr}%{http_code}")
        assert got.err == "400"
        name = query.partition("=")[0]
        assert re.search(rf"{name}: got '.*', expected .* from 0 to [\d,]+", got.out.decode())

    check_rows(
        cross(
            named([*{route.path for route in ROUTES}, "/non-chunked", "/large"]),
            named(
                [
                    "interval=-1",
                    "interval=61",
                    "interval=nan",
                    "interval=x",
                    "items=-1",
                    "items=1.5",
                    "items=1_0",
                    "items=%202",
                    "items=100000001",
                    "size=1e9",
                    "fail=x",
                    "parts=2",
                    "names=x",
                    "items=%D9%A3",
                ]
            ),
        ),
        check,
    )


@needs_curl
@pytest.mark.parametrize("path", ["/chunked", "/json", "/sse", "/ws"])
def test_items_have_a_number_and_a_size(demo: Serving, path: str) -> None:
    few = curl(demo.url(f"{path}?interval=0&items=1")).out
    many = curl(demo.url(f"{path}?interval=0&items=8&size=100")).out
    assert many.count(b"x" * 100) == 8
    assert b"x" not in few


LANES = ["/non-chunked?names=1", "/chunked?names=1", "/json?", "/nested?parts=0", "/sse?", "/ws?names=1"]
"""The page's requests: all make the same items at the same time."""


@needs_curl
def test_lanes_send_the_same_items(demo: Serving) -> None:
    def check(lane: str) -> None:
        whole = curl(demo.url(f"{lane}&items=5&interval=0")).out.decode()
        assert re.findall("Tom|Adam|Sam|Eve|Kim", whole) == ["Tom", "Adam", "Sam", "Eve", "Kim"]
        assert "Chunk" not in whole

    check_rows(named(LANES), check)


@needs_curl
def test_lanes_pause_only_between_items(demo: Serving) -> None:
    """With one item, a response with any other pause would not end before curl gives up."""

    def check(lane: str) -> None:
        assert curl(demo.url(f"{lane}&items=1&interval=60"), "--max-time", "30").code == 0

    check_rows(named(LANES), check)


@needs_curl
@pytest.mark.parametrize("path", ["/chunked", "/json", "/nested", "/sse", "/events", "/ws"])
def test_route_fails_after_the_given_items(demo: Serving, path: str) -> None:
    whole = curl(demo.url(f"{path}?interval=0"))
    cut = curl(demo.url(f"{path}?interval=0.01&fail=2"))
    assert (whole.code, cut.code) == (0, 18)
    assert whole.out.startswith(cut.out)
    assert 0 < len(cut.out) < len(whole.out)


async def read(demo: Serving, path: str, format: str | None = None, scheme: str = "http") -> tuple[list[Any], Any]:
    """Read all items and the end proof; check that the first item is sent before the second is made."""
    url = demo.url(path).replace("http", scheme, 1)
    async with ClientSession() as session:
        async with asyncio.timeout(30), chunkwise.open_stream(session, url + HELD, format=format) as stream:
            first = await anext(stream)
        async with chunkwise.open_stream(session, url + FAST, format=format) as stream:
            items = [item async for item in stream]
    assert items[0] == first
    return items, stream.end


async def test_client_reads_every_stream(demo: Serving) -> None:
    users = [json.loads(user) for user in USERS]
    assert await read(demo, "/chunked") == ([line.rstrip() for line in LINES], "framed")
    assert await read(demo, "/json") == (users, "proven")
    for name in ("ndjson", "json-seq", "sse"):
        assert await read(demo, "/json", format=name) == (users, "proven")
    assert await read(demo, "/json", format="csv") == (
        [{"id": str(u["id"]), "name": u["name"]} for u in users],
        "framed",
    )
    assert await read(demo, "/json", scheme="ws") == (users, "proven")
    assert await read(demo, "/ws", scheme="ws", format="text") == (
        [f"WebSocket message {n}" for n in range(5)],
        "proven",
    )
    assert await read(demo, "/events") == (EVENTS.splitlines(), "framed")


async def test_client_reads_inside_a_nested_document(demo: Serving) -> None:
    async with ClientSession() as session:
        async with chunkwise.open_stream(session, demo.url("/nested" + FAST)) as stream:
            assert [item async for item in stream] == [json.loads(NESTED)]
        async with chunkwise.open_stream(session, demo.url("/nested" + FAST), "users.item.roles.item") as stream:
            assert [item async for item in stream] == ["admin", "user", "user"]


async def test_client_reports_why_a_stream_failed(demo: Serving) -> None:
    url = demo.url("/fail" + FAST)
    reason = "the producer fails on purpose after 2 items"
    async with ClientSession() as session:
        for name, kind in (
            ("ndjson", chunkwise.RemoteError),
            ("sse", chunkwise.RemoteError),
            ("json", chunkwise.TruncatedError),
        ):
            failing = chunkwise.open_stream(session, url, format=name)
            received: list[Any] = []
            with pytest.raises(kind) as caught:
                await collect(failing, received)
            assert received == [json.loads(user) for user in USERS[:2]]
            assert (reason in str(caught.value)) == (kind is chunkwise.RemoteError)


async def collect(opened: AbstractAsyncContextManager[Stream], items: list[Any]) -> None:
    async with opened as stream:
        async for item in stream:
            items.append(item)  # noqa: PERF401 - those before a failure are kept
