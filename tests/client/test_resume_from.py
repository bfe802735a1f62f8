"""`resume_from`, `on_reconnect` and `Stream.resume_point`: continue a stream in this program or another."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import ResumePoint, StreamError, TruncatedError
from chunkwise.sources.resumable import resumable
from chunkwise.testing import FaultProxy, cut_at
from tests.client.test_reconnecting import COUNT, FEW, FEW_ROWS, HALF, User, few, hurry, rows
from tests.transports.wire import serving, streams

__all__ = ["hurry"]

SCHEMES = ["http", "ws"]


def keyed(etag: str = "v1") -> Any:
    """A source that is resumed by key, so that earlier items may be deleted."""

    def after(key: tuple[str] | None) -> list[dict[str, str]]:
        return [row for row in FEW_ROWS if key is None or int(row["n"]) > int(key[0])]

    return resumable(after, key=["n"], etag=etag)


async def read_some(session: ClientSession, url: str, count: int, **options: Any) -> ResumePoint | None:
    async with chunkwise.open_stream(session, url, **options) as stream:
        for _ in range(count):
            last = await anext(stream)
        return stream.resume_point(count, last)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("source", [keyed, lambda: resumable(few, etag="v1")])
@pytest.mark.parametrize("type_", [Any, User])
async def test_stream_continues_after_a_resume_point(scheme: str, source: Any, type_: Any) -> None:
    async with serving(streams(source)) as port, ClientSession() as session:
        url = f"{scheme}://127.0.0.1:{port}/0"
        point = await read_some(session, url, 15, type=type_)
        assert point == ResumePoint(15, '"v1"', {"n": "14"} if source is keyed else {})
        async with chunkwise.open_stream(session, url, type=type_, resume_from=point) as stream:
            items = [each async for each in stream]
        assert msgspec.to_builtins(items) == FEW_ROWS[15:]
        assert (stream.items_seen, stream.reconnects) == (FEW, 0)
        assert stream.range_info is not None
        assert (stream.range_info.first, stream.range_info.ranges) == (15, True)


@pytest.mark.parametrize("name", ["json", "ndjson", "csv", "sse", "json-seq"])
async def test_every_format_is_continued(name: str) -> None:
    async with serving(streams(keyed)) as port, ClientSession() as session:
        url = f"http://127.0.0.1:{port}/0"
        point = await read_some(session, url, 7, format=name)
        async with chunkwise.open_stream(session, url, format=name, resume_from=point) as stream:
            assert [each async for each in stream] == FEW_ROWS[7:]


async def test_resume_points_count_the_whole_stream() -> None:
    async with serving(streams(keyed)) as port, ClientSession() as session:
        url = f"http://127.0.0.1:{port}/0"
        point: ResumePoint | None = None
        for start in range(0, FEW, 10):
            async with chunkwise.open_stream(session, url, resume_from=point) as stream:
                assert [await anext(stream) for _ in range(10)] == FEW_ROWS[start : start + 10]
            point = stream.resume_point(start + 10, FEW_ROWS[start + 9])
        assert point == ResumePoint(FEW, '"v1"', {"n": str(FEW - 1)})
        async with chunkwise.open_stream(session, url, resume_from=point) as stream:
            assert [each async for each in stream] == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("max_reconnects", [None, 0])
async def test_changed_version_yields_no_items(scheme: str, max_reconnects: int | None) -> None:
    async with serving(streams(lambda: keyed("v2"))) as port, ClientSession() as session:
        url = f"{scheme}://127.0.0.1:{port}/0"
        point = ResumePoint(5, '"v1"', {"n": "4"})
        opened = chunkwise.open_stream(session, url, resume_from=point, max_reconnects=max_reconnects)
        async with opened as stream:
            with pytest.raises(TruncatedError, match='got the ETag "v2", expected "v1"') as caught:
                await anext(stream)
    assert caught.value.items_seen == 5


async def test_fewer_items_than_before_are_a_416() -> None:
    source = lambda: resumable(lambda start: FEW_ROWS[start:], total=FEW)  # noqa: E731
    async with serving(streams(source)) as port, ClientSession() as session:
        opened = chunkwise.open_stream(session, f"http://127.0.0.1:{port}/0", resume_from=ResumePoint(99, None, {}))
        with pytest.raises(chunkwise.RemoteError) as caught:
            await opened.__aenter__()
    assert caught.value.status == 416


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_server_without_ranges_cannot_resume(scheme: str) -> None:
    async with serving(streams(lambda: few(0))) as port, ClientSession() as session:
        url = f"{scheme}://127.0.0.1:{port}/0"
        async with chunkwise.open_stream(session, url, resume_from=ResumePoint(3, None, {})) as stream:
            with pytest.raises(TruncatedError, match="from item 3, but the server started at item 0"):
                await anext(stream)


@pytest.mark.parametrize("source", [keyed, lambda: resumable(few, etag="v1")])
async def test_break_before_new_items_keeps_the_point(source: Any) -> None:
    point = ResumePoint(5, '"v1"', {"n": "4"} if source is keyed else {})
    async with (
        serving(streams(source, compress=False)) as port,
        FaultProxy("127.0.0.1", port, [cut_at(1, of="body")]) as proxy,
        ClientSession() as session,
        chunkwise.open_stream(session, proxy.url("/0"), resume_from=point) as stream,
    ):
        assert [each async for each in stream] == FEW_ROWS[5:]
    assert (stream.reconnects, proxy.connections) == (1, 2)


async def test_zero_max_reconnects_sends_one_request() -> None:
    handler = streams(lambda: resumable(few), compress=False)
    async with (
        serving(handler) as port,
        FaultProxy("127.0.0.1", port, [HALF]) as proxy,
        ClientSession() as session,
        chunkwise.open_stream(
            session, proxy.url("/0"), resume_from=ResumePoint(2, None, {}), max_reconnects=0
        ) as stream,
    ):
        items = []
        with pytest.raises(TruncatedError) as caught:  # noqa: PT012 - the items before it are kept
            async for each in stream:
                items.append(each)  # noqa: PERF401 - those before a failure are wanted
    assert 0 < len(items) < FEW - 2
    assert items == FEW_ROWS[2 : 2 + len(items)]
    assert (caught.value.items_seen, proxy.connections) == (2 + len(items), 1)
    assert "gave up" not in str(caught.value)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"method": "POST"}, "needs a GET without a body"),
    ({"json": {}}, "needs a GET without a body"),
    ({"headers": {"Range": "items=5-"}}, "without your own Range"),
    ({"params": {"range": "items=5-"}}, "without your own Range"),
    ({"path": "n"}, "resume_from cannot be used with path='n'"),
    ({"restart": True}, "resume_from cannot be used with restart=True"),
]


async def test_unsuitable_options_send_no_request() -> None:
    async with ClientSession() as session:
        failed = []
        for options, message in REFUSED:
            opened = chunkwise.open_stream(
                session, "http://127.0.0.1:9/", resume_from=ResumePoint(1, None, {}), **options
            )
            with pytest.raises(ValueError) as caught:
                await opened.__aenter__()
            if message not in str(caught.value):
                failed.append((options, str(caught.value)))
    assert failed == []


async def test_resume_from_needs_a_resume_point() -> None:
    async with ClientSession() as session:
        not_a_point: Any = (5, '"v1"', {})
        with pytest.raises(TypeError, match="expected a ResumePoint"):
            async with chunkwise.open_stream(session, "http://127.0.0.1:1/", resume_from=not_a_point):
                pass
        with pytest.raises(ValueError, match="must be >= 0, got -1"):
            async with chunkwise.open_stream(session, "http://127.0.0.1:1/", resume_from=ResumePoint(-1, None, {})):
                pass


async def test_resume_point_at_0_has_a_version() -> None:
    async with serving(streams(lambda: resumable(few, etag="v1"))) as port, ClientSession() as session:
        url = f"http://127.0.0.1:{port}/0"
        async with chunkwise.open_stream(session, url, resume_from=ResumePoint(0, '"v0"', {})) as stream:
            with pytest.raises(TruncatedError, match="the items have changed"):
                await anext(stream)


async def test_resume_point_is_none_if_unsupported() -> None:
    async def plain(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, few(0))

    async with serving(plain, streams(keyed)) as port, ClientSession() as session:
        first, url = f"http://127.0.0.1:{port}/0", f"http://127.0.0.1:{port}/1"
        assert await read_some(session, first, 2) is None
        assert await read_some(session, url, 2, path="item.n") is None
        assert await read_some(session, url, 2, headers={"Range": "items=5-"}) is None
        assert await read_some(session, url, 2, method="POST") is None
        async with chunkwise.open_stream(session, url) as stream:
            await anext(stream)
            assert stream.resume_point(1, {"name": "an item without its key"}) is None
            assert stream.resume_point(1, FEW_ROWS[0]) == ResumePoint(1, '"v1"', {"n": "0"})
        assert await read_some(session, url, 2, max_reconnects=0) == ResumePoint(2, '"v1"', {"n": "1"})


async def test_websocket_position_needs_a_message() -> None:
    async with (
        serving(streams(keyed)) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, f"ws://127.0.0.1:{port}/0") as stream,
    ):
        assert (stream.range_info, stream.resume_point(0, None)) == (None, None)
        assert stream.websocket is stream.over
        with pytest.raises(TypeError, match="this stream uses a WebSocket"):
            _ = stream.response


# --- on_reconnect


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_on_reconnect_is_called_once_per_outage(scheme: str) -> None:
    outages: list[StreamError] = []
    seen: list[int] = []

    def note(error: StreamError) -> None:
        outages.append(error)
        seen.append(stream.items_seen)

    # The first outage takes three tries, the second takes one.
    faults = [cut_at(300_000), cut_at(0), cut_at(0), cut_at(300_000)]
    async with (
        serving(streams(lambda: resumable(rows, etag="v1"), compress=False)) as port,
        FaultProxy("127.0.0.1", port, faults) as proxy,
        ClientSession() as session,
        chunkwise.open_stream(session, proxy.url("/0").replace("http", scheme), on_reconnect=note) as stream,
    ):
        count = 0
        async for batch in stream.batches():
            count += len(batch)
    assert count == COUNT
    assert len(outages) == 2
    assert [type(error) for error in outages] == [TruncatedError] * 2
    assert 0 < seen[0] < seen[1] < COUNT
    assert [error.items_seen for error in outages if isinstance(error, TruncatedError)] == seen


async def test_on_reconnect_is_only_for_reconnects() -> None:
    outages: list[StreamError] = []
    cases: list[tuple[Any, dict[str, Any]]] = [(lambda: few(0), {}), (lambda: resumable(few), {"max_reconnects": 0})]
    for source, options in cases:
        async with (
            serving(streams(source, compress=False)) as port,
            FaultProxy("127.0.0.1", port, [HALF]) as proxy,
            ClientSession() as session,
            chunkwise.open_stream(session, proxy.url("/0"), on_reconnect=outages.append, **options) as stream,
        ):
            with pytest.raises(TruncatedError):
                async for _ in stream:
                    pass
    assert outages == []


# --- another process

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
import aiohttp, chunkwise

url, state, stop = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

async def main():
    stored = json.loads(state.read_text()) if state.exists() else {"point": None, "items": []}
    point = chunkwise.ResumePoint(*stored["point"]) if stored["point"] else None
    count = point.items if point else 0
    async with aiohttp.ClientSession() as session:
        async with chunkwise.open_stream(session, url, resume_from=point) as stream:
            async for item in stream:
                count += 1
                stored["items"].append(item)
                stored["point"] = stream.resume_point(count, item)
                if count == stop:
                    break
    state.write_text(json.dumps(stored))

asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_another_process_uses_a_resume_point(scheme: str, tmp_path: Path) -> None:

    state = tmp_path / "state.json"

    def run(url: str, stop: int) -> None:
        subprocess.run([sys.executable, "-c", PROGRAM, url, state, str(stop)], check=True)

    async with serving(streams(keyed)) as port:
        for stop in (13, 14, 0):
            await asyncio.to_thread(run, f"{scheme}://127.0.0.1:{port}/0", stop)
            stored = json.loads(state.read_text())
            assert stored["items"] == FEW_ROWS[: stop or FEW]
    assert stored["point"] == [FEW, '"v1"', {"n": str(FEW - 1)}]


# --- a function passed as format


async def test_function_chooses_the_response_format() -> None:
    asked: list[str] = []

    async def lines(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["Accept"])
        return web.Response(body=b"1\n2\n", content_type="application/octet-stream")

    async def empty(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    def by_url(response: Any) -> chunkwise.formats.Format:
        return chunkwise.formats.by_suffix(response.url.name + (".ndjson" if response.url.name == "0" else ".dat"))

    async with serving(lines, empty, lines) as port, ClientSession() as session:
        url = f"http://127.0.0.1:{port}"
        async with chunkwise.open_stream(session, f"{url}/0", format=by_url) as stream:
            assert [each async for each in stream] == [1, 2]
        async with chunkwise.open_stream(session, f"{url}/1", format=by_url) as stream:
            assert [each async for each in stream] == []
        with pytest.raises(chunkwise.UnknownFormat, match=r"2\.dat"):
            await chunkwise.open_stream(session, f"{url}/2", format=by_url).__aenter__()
    assert asked == ["*/*", "*/*"]


async def test_format_function_is_called_per_response() -> None:
    called: list[int] = []

    def choose(response: Any) -> chunkwise.formats.Format:
        called.append(response.status)
        return chunkwise.FORMATS["json"]

    async with (
        serving(streams(lambda: resumable(few, etag="v1"), compress=False)) as port,
        FaultProxy("127.0.0.1", port, [HALF]) as proxy,
        ClientSession() as session,
        chunkwise.open_stream(session, proxy.url("/0"), format=choose) as stream,
    ):
        assert [each async for each in stream] == FEW_ROWS
    assert called == [200, 206]
