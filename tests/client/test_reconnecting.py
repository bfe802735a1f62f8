"""A stream whose connection breaks is continued: each item once, in order, or an error that says why not."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise.client import reconnecting
from chunkwise.client.stream import Stream
from chunkwise.errors import StreamError
from chunkwise.sources.resumable import resumable
from chunkwise.testing import FaultProxy, cut_at, reset_at, stall_at
from chunkwise.testing.faults import Fault
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS
from tests.transports.wire import serving, streams

COUNT = 100_000
CUTS = 100


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(reconnecting, "_MAX_PAUSE_SECONDS", 0.01)


def item(index: int) -> dict[str, str]:
    return {"n": str(index), "name": f"é{index}"}


async def rows(start: int, count: int = COUNT) -> AsyncIterator[Any]:
    for index in range(start, count):
        yield item(index)


class User(msgspec.Struct):
    n: str
    name: str


WIRES = [("http", "json"), ("http", "ndjson"), ("http", "csv"), ("http", "sse"), ("http", "json-seq"), ("ws", None)]


@pytest.mark.parametrize(("scheme", "name"), WIRES)
async def test_hundred_cuts_yield_each_item_once(scheme: str, name: str | None) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)  # noqa: T201 - shown where the test fails
    chosen = random.Random(seed)
    faults = [
        (cut_at if chosen.random() < 0.5 else reset_at)(
            chosen.randrange(15_000), of="body" if scheme == "http" else "response"
        )
        for _ in range(CUTS)
    ]
    faults[0] = cut_at(20_000)  # after the first message, which says that the stream can be resumed
    handler = streams(lambda: resumable(rows, etag="v1"), compress=False)
    async with (
        serving(handler) as port,
        FaultProxy("127.0.0.1", port, faults) as proxy,
        ClientSession() as session,
        asyncio.timeout(GUARD_SECONDS),
        # The first cut is after the first response has begun: a failed first request causes no reconnect.
        chunkwise.open_stream(
            session, proxy.url("/0").replace("http", scheme, 1), format=name, max_reconnects=CUTS
        ) as stream,
    ):
        index = 0
        async for batch in stream.batches():
            assert batch == [item(place) for place in range(index, index + len(batch))]
            index += len(batch)
    assert (index, stream.items_seen) == (COUNT, COUNT)
    assert proxy.connections == CUTS + 1
    assert 0.9 * CUTS < stream.reconnects <= CUTS  # aiohttp itself repeats some requests


async def test_websocket_cut_before_a_message_resumes() -> None:
    faults = [cut_at(20_000), *(cut_at(size) for size in range(100, 400, 5))]  # some are in the handshake
    handler = streams(lambda: resumable(lambda start: rows(start, 2000), etag="v1"), compress=False)
    async with (
        serving(handler) as port,
        FaultProxy("127.0.0.1", port, faults) as proxy,
        ClientSession() as session,
        asyncio.timeout(GUARD_SECONDS),
        chunkwise.open_stream(session, proxy.url("/0").replace("http", "ws", 1), max_reconnects=len(faults)) as stream,
    ):
        assert [each async for each in stream] == [item(index) for index in range(2000)]
    assert proxy.connections == len(faults) + 1


# --- requests, and refused responses

HTTP = ["json", "ndjson", "csv", "sse", "json-seq"]
FEW = 40


def few(start: int) -> AsyncIterator[Any]:
    return rows(start, FEW)


FEW_ROWS = [item(index) for index in range(FEW)]


async def read(
    handler: Any, *faults: Fault, name: Any = "ndjson", path: Any = "", url: str = "/0", **options: Any
) -> tuple[list[Any], Stream, StreamError | None]:
    """Read a stream through a proxy with these faults; return the items, the stream, and the error."""
    items: list[Any] = []
    async with (
        serving(*([handler] if callable(handler) else handler)) as port,
        FaultProxy("127.0.0.1", port, faults) as proxy,
        ClientSession() as session,
        asyncio.timeout(GUARD_SECONDS),
        chunkwise.open_stream(session, proxy.url(url), path, format=name, **options) as stream,
    ):
        try:
            async for each in stream:
                items.append(each)  # noqa: PERF401 - those before a failure are wanted
        except chunkwise.StreamError as error:
            return items, stream, error
    return items, stream, None


HALF = cut_at(200, of="body")


@pytest.mark.parametrize("name", HTTP)
async def test_changed_version_is_reported(name: str) -> None:
    version = iter(["v1", "v2"])
    handler = streams(lambda: resumable(few, etag=next(version)), compress=False)
    items, stream, error = await read(handler, HALF, name=name)
    assert isinstance(error, chunkwise.TruncatedError)
    assert 'got the ETag "v2", expected "v1"' in str(error)
    assert 0 < len(items) < FEW
    assert items == FEW_ROWS[: len(items)]
    assert (error.items_seen, stream.items_seen) == (len(items), len(items))


@each_row("restart", [False, True])
@each_row("name", HTTP)
async def test_restart_allows_requesting_all_items(name: str, restart: bool) -> None:
    items, stream, error = await read(
        streams(lambda: few(0), compress=False), HALF, name=name, restart=restart, max_reconnects=10
    )
    if restart:
        assert (items, error, stream.reconnects) == (FEW_ROWS, None, 1)
    elif name == "sse":  # the events have ids, but the server starts again with the first event
        assert isinstance(error, chunkwise.TruncatedError)
        assert "the server started at item 0: the server cannot resume" in str(error)
    else:
        assert isinstance(error, chunkwise.TruncatedError)
        assert "cannot resume: the server sends no ranges of items (restart=True requests all items again)" in str(
            error
        )
        assert (items, stream.reconnects) == (FEW_ROWS[: len(items)], 0)


async def test_repeated_items_are_compared() -> None:
    async def other(first: int) -> AsyncIterator[Any]:
        for index in range(FEW):
            yield item(index + first)

    for second, why in (
        (1, "items have changed"),
        (FEW - 5, "have changed"),
        (None, "got 2 items, expected at least"),
    ):
        numbers = iter([0, second])

        def source(numbers: Iterator[int | None] = numbers) -> Any:
            first = next(numbers)
            return [item(0), item(1)] if first is None else other(first)

        items, _, error = await read(streams(source, compress=False), HALF, restart=True)
        assert isinstance(error, chunkwise.TruncatedError)
        assert why in str(error)
        assert items == FEW_ROWS[: len(items)]


async def test_wrong_first_item_is_refused() -> None:
    async def liar(request: web.Request) -> web.StreamResponse:
        wrong = "Range" in request.headers
        headers = {"Accept-Ranges": "items", **({"Content-Range": "items 3-*/*"} if wrong else {})}
        return await chunkwise.respond(
            request, few(0), "ndjson", status=206 if wrong else 200, headers=headers, compress=False
        )

    items, _, error = await read(liar, HALF)
    assert f"requested the rest from item {len(items)}, but the server started at item 3" in str(error)
    assert items == FEW_ROWS[: len(items)]


async def test_retries_respect_retry_after() -> None:
    waits: list[float] = []
    asked = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked in (2, 3, 4):
            waits.append(asyncio.get_running_loop().time())
            headers = {"Retry-After": "1"} if asked == 3 else {}
            return web.Response(status=(503, 503, 502)[asked - 2], headers=headers)
        waits.append(asyncio.get_running_loop().time())
        return await chunkwise.respond(request, resumable(few), "ndjson", compress=False)

    items, stream, error = await read(handler, HALF)
    assert (items, error, stream.reconnects) == (FEW_ROWS, None, 4)
    assert waits[3] - waits[2] >= 1  # the client waits at least for Retry-After


async def test_permanent_error_status_is_raised() -> None:
    asked = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise web.HTTPForbidden(text="no more")
        return await chunkwise.respond(request, resumable(few), "ndjson", compress=False)

    items, stream, error = await read(handler, HALF)
    assert isinstance(error, chunkwise.RemoteError)
    assert (error.status, stream.reconnects) == (403, 1)
    assert items == FEW_ROWS[: len(items)]
    assert f"to the request for the rest after {len(items)} items" in str(error)


async def test_gives_up_after_max_reconnects() -> None:
    handler = streams(lambda: resumable(few), compress=False)
    items, stream, error = await read(handler, HALF, *[cut_at(0)] * 20, max_reconnects=3)
    assert isinstance(error, chunkwise.TruncatedError)
    assert "gave up after 3 tries in 0." in str(error)
    assert (error.items_seen, stream.reconnects) == (len(items), 3)
    assert items == FEW_ROWS[: len(items)]
    _, stream, error = await read(handler, HALF, max_reconnects=0)
    assert isinstance(error, chunkwise.TruncatedError)
    assert stream.reconnects == 0


async def test_gives_up_after_max_reconnect_seconds() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if "Range" in request.headers:
            return web.Response(status=503, headers={"Retry-After": "3600"})
        return await chunkwise.respond(request, resumable(few), "ndjson", compress=False)

    _, stream, error = await read(handler, HALF, max_reconnect_seconds=60)
    assert isinstance(error, chunkwise.TruncatedError)
    assert "503" in str(error)
    assert stream.reconnects == 1


async def test_gives_up_if_the_server_is_lost() -> None:
    async with serving(streams(lambda: resumable(rows), "ndjson")) as port, ClientSession() as session:
        async with FaultProxy("127.0.0.1", port, cut_at(100_000)) as proxy:
            opened = chunkwise.open_stream(session, proxy.url("/0"), max_reconnects=3)
            stream = await opened.__aenter__()
            first = await anext(stream.batches())
        with pytest.raises(chunkwise.TruncatedError, match="gave up after 3 tries in") as caught:
            async for _ in stream.batches():
                pass
        await opened.__aexit__(None, None, None)
    assert first[0] == item(0)
    assert isinstance(caught.value.__cause__, OSError)


async def test_stall_causes_a_reconnect() -> None:
    handler = streams(lambda: resumable(few), compress=False)
    items, stream, error = await read(handler, stall_at(200, of="body"), idle_seconds=1)
    assert (items, error, stream.reconnects) == (FEW_ROWS, None, 1)


async def test_failed_source_causes_no_reconnect() -> None:
    async def failing(start: int) -> AsyncIterator[Any]:
        yield item(start)
        raise ValueError("on purpose")

    items, stream, error = await read(streams(lambda: resumable(failing)))
    assert isinstance(error, chunkwise.RemoteError)
    assert (items, stream.reconnects) == ([item(0)], 0)


async def test_server_shutdown_causes_a_reconnect() -> None:
    async def leaving(start: int) -> AsyncIterator[Any]:
        yield item(start)
        if start < 5:
            raise web.HTTPServiceUnavailable(text="going away")
        for index in range(start + 1, FEW):
            yield item(index)

    items, stream, error = await read(streams(lambda: resumable(leaving)))
    assert (items, error, stream.reconnects) == (FEW_ROWS, None, 5)


@each_row("scheme", ["http", "ws"])
@each_row(
    ("query", "asked"),
    [
        ("", {"headers": {"range": "items=30-35"}}),
        ("", {"params": {"range": "items=30-35"}}),
        ("", {"params": [("a", "1"), ("a", "2"), ("range", "items=30-35")]}),
        ("?range=items=30-35", {}),
        ("", {"session": {"range": "items=30-35"}}),
    ],
)
async def test_caller_range_is_received(scheme: str, query: str, asked: dict[str, Any]) -> None:
    async with (
        serving(streams(lambda: resumable(few, etag="v"))) as port,
        ClientSession(headers=asked.get("session")) as session,
    ):
        url = f"{scheme}://127.0.0.1:{port}/0{query}"
        options = {name: value for name, value in asked.items() if name != "session"}
        async with chunkwise.open_stream(session, url, **options) as stream:
            assert [each async for each in stream] == FEW_ROWS[30:36]


# --- paths, types and keys


async def test_path_inside_records_resumes_by_record() -> None:
    async def tagged(start: int) -> AsyncIterator[Any]:
        for index in range(start, FEW):
            yield {"tags": [f"{index}.{tag}" for tag in range(index % 3)], "pad": "x" * 20}

    expected = [f"{index}.{tag}" for index in range(FEW) for tag in range(index % 3)]
    for name in ("ndjson", "sse", "json-seq"):
        handler = streams(lambda: resumable(tagged), compress=False)
        cuts = [cut_at(count, of="body") for count in (300, 200, 111, 50)]
        items, stream, error = await read(handler, *cuts, name=name, path="tags.item", required=True)
        assert (items, error) == (expected, None), name
        assert stream.reconnects == 4
    items, _, error = await read(handler, cuts[0], name="json", path="item.tags.item", max_reconnects=10)
    assert isinstance(error, chunkwise.TruncatedError)
    assert "the path selects inside the records" in str(error)
    items, _, error = await read(handler, cuts[0], name="json", path="item.tags.item", restart=True)
    assert (items, error) == (expected, None)


@pytest.mark.parametrize("path", ["item", ()])
@pytest.mark.parametrize("name", ["json", "ndjson", "json-seq"])
async def test_path_item_selects_inside_records(name: str, path: Any) -> None:
    async def arrays(start: int) -> AsyncIterator[Any]:
        for index in range(start, FEW):
            yield [index] * (index % 4)

    everything = [[index] * (index % 4) for index in range(FEW)]
    inside = everything if name == "json" else [index for index in range(FEW) for _ in range(index % 4)]
    expected = inside if path else everything
    handler = streams(lambda: resumable(arrays), compress=False)
    cuts = [cut_at(count, of="body") for count in (120, 40, 9, 33)]
    items, stream, error = await read(handler, *cuts, name=name, path=path, max_reconnects=10)
    if name == "json" and not path:  # the whole document is one item
        assert isinstance(error, chunkwise.TruncatedError) or items == [everything]
        return
    if name == "json-seq" and error is not None:  # json-seq yields items of a text before the text is complete
        assert "the path selects inside the records" in str(error)
        assert items == expected[: len(items)]
        return
    assert (items, error, stream.reconnects) == (expected, None, 4)


async def test_custom_format_is_resumed() -> None:
    mine = replace(chunkwise.FORMATS["ndjson"], name="mine", media_types=("application/x-mine",))
    handler = streams(lambda: resumable(few), mine, compress=False)
    items, stream, error = await read(handler, HALF, name=mine)
    assert (items, error, stream.reconnects) == (FEW_ROWS, None, 1)
    items, stream, error = await read(handler, HALF, name=mine, path="n")
    assert (items, error, stream.reconnects) == ([row["n"] for row in FEW_ROWS], None, 1)


# --- server-sent events of other servers


async def test_events_resume_by_id_and_end_with_204() -> None:
    asked: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Last-Event-ID"))
        if len(asked) == 3:
            return web.Response(status=204)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        start = len(asked) * 10
        await response.write(b"retry: 2\n\n")
        for number in range(start, start + 2):
            await response.write(f"id: a{number}\ndata: {number}\n\n".encode())
        await response.write(b"id: lost\ndata: 99\n")  # this event has no end
        assert request.transport is not None
        request.transport.close()
        return response

    items, stream, error = await read(handler, name="sse", max_reconnects=10)
    assert (items, error) == ([10, 11, 20, 21], None)
    assert asked == [None, "a11", "a21"]
    assert (stream.reconnects, stream.items_seen, stream.end) == (2, 4, "framed")


async def test_foreign_events_resume_only_on_request() -> None:
    items, stream, error = await read(streams(lambda: few(0), compress=False), HALF, name="sse")
    assert isinstance(error, chunkwise.TruncatedError)
    assert (items, stream.reconnects) == (FEW_ROWS[: len(items)], 0)


async def test_events_without_ids_cannot_resume() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        assert request.transport is not None
        request.transport.close()
        return response

    items, stream, error = await read(handler, name="sse", max_reconnects=10)
    assert isinstance(error, chunkwise.TruncatedError)
    assert (items, stream.reconnects) == ([1], 0)


# --- WebSockets


async def test_websocket_reports_a_changed_version() -> None:
    version = iter(["v1", "v2"])
    handler = streams(lambda: resumable(rows, etag=next(version)))
    items: list[Any] = []
    async with (
        serving(handler) as port,
        FaultProxy("127.0.0.1", port, [cut_at(100_000)]) as proxy,
        ClientSession() as session,
        chunkwise.open_stream(session, proxy.url("/0").replace("http", "ws")) as stream,
    ):
        with pytest.raises(chunkwise.TruncatedError, match='got the ETag "v2", expected "v1"'):
            items.extend([each async for each in stream])
    assert stream.items_seen > 100


async def test_websocket_restarts_only_on_request() -> None:
    async with serving(streams(lambda: rows(0))) as port, ClientSession() as session:
        for restart in (False, True):
            async with FaultProxy("127.0.0.1", port, [cut_at(100_000)]) as proxy:
                url = proxy.url("/0").replace("http", "ws")
                async with chunkwise.open_stream(session, url, max_reconnects=10, restart=restart) as stream:
                    if restart:
                        assert [each async for each in stream] == [item(index) for index in range(COUNT)]
                    else:
                        with pytest.raises(chunkwise.TruncatedError, match="sends no ranges of items"):
                            async for _ in stream.batches():
                                pass


async def test_post_request_is_never_sent_again() -> None:
    asked = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await chunkwise.respond(request, resumable(few), "ndjson", compress=False)

    sent: list[dict[str, Any]] = [{"method": "POST"}, {"json": {}}, {"data": b"x"}]
    for options in sent:
        _, stream, error = await read(handler, HALF, **options)
        assert isinstance(error, chunkwise.TruncatedError)
        assert stream.reconnects == 0
    assert asked == 3
