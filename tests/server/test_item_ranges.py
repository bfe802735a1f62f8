"""Range requests for the rest of a stream: by index or by key, in any format."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, WSMsgType
from multidict import CIMultiDict

import chunkwise
from chunkwise.formats.messages import SUBPROTOCOL
from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import Resumable, WrongKey, resumable
from tests.each_row import each_row
from tests.flow.producing import decoded, row
from tests.transports.reading import read
from tests.transports.wire import serving, streams, url_of

COUNT = 10
ROWS = [row(index) for index in range(COUNT)]


async def rows(start: int) -> AsyncIterator[Any]:
    for index in range(start, COUNT):
        yield row(index)


def in_a_thread(start: int) -> Iterator[Any]:
    yield from ROWS[start:]


async def lists(start: int) -> AsyncIterator[list[Any]]:
    for index in range(start, COUNT, 3):
        yield ROWS[index : index + 3]


SOURCES: dict[str, Callable[[int], Any]] = {
    "async": rows,
    "sync": in_a_thread,
    "list": lambda start: ROWS[start:],
    "batches": lambda start: Batches(lists(start)),
}


async def by_key(after: int | None) -> AsyncIterator[Any]:
    for index in range(0 if after is None else after + 1, COUNT):
        yield {"id": index, "name": f"é{index}"}


def keyed() -> Resumable:
    return resumable(lambda after: by_key(None if after is None else int(after[0])), key=["id"], etag="k")


async def ask(session: ClientSession, port: int, **headers: str) -> tuple[ClientResponse, list[Any]]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.get(url_of(port), headers=names) as response:
        if response.status in (200, 206):
            got = [item async for item in chunkwise.items(response)]
            return response, decoded("text", got) if response.content_type == "text/plain" else got
        await response.read()
        return response, []


@each_row("source", SOURCES)
@each_row("name", [name for name in chunkwise.FORMATS if name != "text"])
async def test_range_is_a_complete_stream(name: str, source: str) -> None:
    handler = streams(lambda: resumable(SOURCES[source], etag="v1"), name)
    async with serving(handler) as port, ClientSession() as session:
        response, items = await ask(session, port)
        assert (response.status, items) == (200, ROWS)
        assert response.headers["Accept-Ranges"] == "items"
        for start in (0, 1, 7, COUNT, COUNT + 5):
            response, items = await ask(session, port, Range=f"items={start}-", Prefer="stream-end")
            assert (response.status, items) == (206, ROWS[start:])
            assert response.headers["Content-Range"] == f"items {start}-*/*"
            assert response.headers["ETag"].removeprefix("W/") == '"v1"'
        for start, last in ((0, 0), (2, 4), (7, 99)):
            response, items = await ask(session, port, Range=f"items={start}-{last}")
            assert (response.status, items) == (206, ROWS[start : last + 1])
            assert response.headers["Content-Range"] == f"items {start}-{last}/*"


async def test_text_has_no_item_ranges() -> None:
    pieces = ["a", "b\nc\n", "d\n"]
    handler = streams(lambda: resumable(lambda start: pieces[start:], etag="v"), "text")
    async with serving(handler) as port, ClientSession() as session:
        async with session.get(url_of(port), headers={"Range": "items=1-"}) as response:
            assert (response.status, await response.text()) == (200, "ab\nc\nd\n")
            assert "Accept-Ranges" not in response.headers
        websocket = await session.ws_connect(url_of(port) + "?range=items=1-")
        assert [message.data async for message in websocket] == ["b\nc", "d"]


@each_row(
    "range_", ["bytes=3-", "items=3", "items=-3", "items=5-3", "items=3-,5-", "items=x-", "items=3-5-", "items=+3-", ""]
)
async def test_malformed_range_is_ignored(range_: str) -> None:
    async with serving(streams(lambda: resumable(rows), "json")) as port, ClientSession() as session:
        response, items = await ask(session, port, Range=range_)
    assert (response.status, items) == (200, ROWS)
    assert "Content-Range" not in response.headers


async def test_range_after_the_total_is_refused() -> None:
    handler = streams(lambda: resumable(rows, total=COUNT), "ndjson")
    async with serving(handler) as port, ClientSession() as session:
        told = {"3-": "3-9/10", "3-5": "3-5/10", "3-99": "3-9/10", "10-": "10-*/10", "10-40": "10-*/10"}
        for asked, answered in told.items():
            response, items = await ask(session, port, Range=f"items={asked}")
            assert response.headers["Content-Range"] == f"items {answered}"
            start, _, last = asked.partition("-")
            assert items == ROWS[int(start) : int(last or 99) + 1]
        response, _ = await ask(session, port, Range="items=11-")
        assert (response.status, response.headers["Content-Range"]) == (416, "items */10")


async def test_other_version_gets_all_items() -> None:
    handler = streams(lambda: resumable(rows, etag="v2"), "json")
    async with serving(handler) as port, ClientSession() as session:
        for condition, status in (
            ('"v2"', 206),
            ('W/"v2"', 206),
            ('"v1"', 200),
            ("v2", 200),
            ("Tue, 24 Nov 2026", 200),
        ):
            response, items = await ask(session, port, Range="items=4-", If_Range=condition)
            assert (response.status, items) == (status, ROWS[4:] if status == 206 else ROWS)
    async with serving(streams(lambda: resumable(rows), "json")) as port, ClientSession() as session:
        response, items = await ask(session, port, Range="items=4-", If_Range='"v1"')
    assert (response.status, items) == (200, ROWS)  # the source has no version


async def test_last_event_id_continues_the_stream() -> None:
    handler = streams(lambda: resumable(rows), "sse")
    async with serving(handler) as port, ClientSession() as session:
        async with session.get(url_of(port), headers={"Last-Event-ID": "6"}) as response:
            assert (response.status, "Content-Range" in response.headers) == (200, False)
            text = await response.text()
        assert [line for line in text.splitlines() if line.startswith("id:")] == ["id: 7", "id: 8", "id: 9"]
        for last in ("9", "99"):  # the browser has all events: 204 stops it (WHATWG HTML §9.2.3)
            async with session.get(url_of(port), headers={"Last-Event-ID": last}) as response:
                assert (response.status, await response.read()) == (204, b"")
        for odd in ("x", "", "-1", "1.5", "٣", "3 x"):
            response, items = await ask(session, port, Last_Event_ID=odd)
            assert (response.status, items) == (200, ROWS)
    other = streams(lambda: resumable(rows, total=COUNT), ["json", "sse"])
    async with serving(other) as port, ClientSession() as session:
        response, items = await ask(session, port, Last_Event_ID="6")
        assert items == ROWS  # JSON has no events
        response, _ = await ask(session, port, Last_Event_ID="9", Accept="text/event-stream")
        assert response.status == 204


@pytest.mark.parametrize("name", ["json", "ndjson", "json-seq", "sse"])
async def test_key_gives_the_position_of_an_item(name: str) -> None:
    everything = [{"id": index, "name": f"é{index}"} for index in range(COUNT)]
    async with serving(streams(keyed, name)) as port, ClientSession() as session:
        response, items = await ask(session, port)
        assert items == everything
        assert json.loads(response.headers["Items-Key"]) == ["id"]
        response, items = await ask(session, port, Range="items=5-", Items_After="[4]")
        assert (response.status, items) == (206, everything[5:])
        assert response.headers["Content-Range"] == "items 5-*/*"
        response, items = await ask(session, port, Range="items=5-")  # an index is not enough
        assert (response.status, items) == (200, everything)
        for bad in ("[4, 5]", "4", "[", "[[4]]", '{"id": 4}', "[" * 9000, '["x"]', "[NaN]", "[1e400]", '["\\ud800"]'):
            response, _ = await ask(session, port, Range="items=5-", Items_After=bad)
            assert response.status == 400


async def test_event_id_contains_the_key_of_its_item() -> None:
    async with serving(streams(keyed, "sse")) as port, ClientSession() as session:
        async with session.get(url_of(port)) as response:
            ids = [line for line in (await response.text()).splitlines() if line.startswith("id:")]
        assert ids[:2] == ["id: 0 [0]", "id: 1 [1]"]
        async with session.get(url_of(port), headers={"Last-Event-ID": "6 [6]"}) as response:
            text = await response.text()
        assert text.startswith("id: 7 [7]\ndata: {")
        response_, items = await ask(session, port, Last_Event_ID="6")
        assert (response_.status, len(items)) == (200, COUNT)


async def test_item_without_its_key_is_a_failure() -> None:
    async def odd(after: object) -> AsyncIterator[Any]:
        yield {"id": 1}
        yield {"name": "x"}

    handler = streams(lambda: resumable(odd, key=["id"]), "sse")
    async with serving(handler) as port, ClientSession() as session, session.get(url_of(port)) as response:
        reading = chunkwise.items(response)
        assert await anext(reading) == {"id": 1}
        with pytest.raises(chunkwise.TruncatedError):
            await anext(reading)


async def test_handler_headers_with_one_name_are_all_kept() -> None:
    own = CIMultiDict([("X-A", "1"), ("X-A", "2"), ("etag", '"mine"')])
    handler = streams(lambda: resumable(rows, etag="v1"), "json", headers=own)
    async with serving(handler) as port, ClientSession() as session:
        response, _ = await ask(session, port, Range="items=4-")
    assert response.headers.getall("X-A") == ["1", "2"]
    assert response.headers.getall("ETag") in (['"v1"'], ['W/"v1"'])


async def test_head_sends_range_headers_only() -> None:
    def never(start: int) -> Iterator[Any]:
        raise AssertionError(start)
        yield

    handler = streams(lambda: resumable(never, etag="v1", total=5), "json")
    async with serving(handler) as port, ClientSession() as session:
        async with session.head(url_of(port)) as response:
            assert (response.status, response.headers["Accept-Ranges"]) == (200, "items")
        async with session.head(url_of(port), headers={"Range": "items=2-"}) as response:
            assert (response.status, response.headers["Content-Range"]) == (206, "items 2-4/5")


@pytest.mark.parametrize("protocols", [(), (SUBPROTOCOL,)])
async def test_websocket_requests_a_range_in_its_url(protocols: tuple[str, ...]) -> None:
    async with serving(streams(lambda: resumable(rows))) as port, ClientSession() as session:
        url = url_of(port).replace("http", "ws")
        for query, expected in (("?range=items=7-", ROWS[7:]), ("?range=items=2-3", ROWS[2:4]), ("", ROWS)):
            async with session.ws_connect(url + query, protocols=protocols) as websocket:
                items = [item async for item in chunkwise.items(websocket)]
            assert items == expected
        async with session.ws_connect(url + "?range=items=8-") as websocket:
            messages = [message.data async for message in websocket if message.type is WSMsgType.TEXT]
    assert [json.loads(message) for message in messages] == ROWS[8:]


async def test_unsuitable_source_is_not_resumable() -> None:
    with pytest.raises(TypeError, match="must be a function"):
        resumable([1, 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"such as \['id'\]"):
        resumable(rows, key="id")
    for etag in ('"v"', "v 1", "é", "a\nb"):
        with pytest.raises(ValueError, match="etag must be printable ASCII"):
            resumable(rows, etag=etag)
    with pytest.raises(ValueError, match="total must be >= 0 items, got -1"):
        resumable(rows, total=-1)
    with pytest.raises(ValueError, match=r"total cannot be combined with a key, got total=5 and key=\['id'\]"):
        resumable(rows, total=5, key=["id"])


async def test_upload_of_a_resumable_sends_all_items() -> None:
    outbound = chunkwise.body(resumable(rows), "ndjson")
    got = b"".join([piece async for piece in outbound._kept if piece])
    assert [json.loads(line) for line in got.splitlines()] == ROWS


@each_row("given", [0, 7, 12])
@each_row("asked", [{}, {"Range": "items=0-"}, {"Range": "items=3-8"}, {"Prefer": "stream-end"}])
async def test_source_with_a_wrong_total_fails(given: int, asked: dict[str, str]) -> None:
    async def source(start: int) -> AsyncIterator[int]:
        for number in range(start, given):
            yield number
            await asyncio.sleep(0.001)  # so that bytes are sent before the count is known

    handler = streams(lambda: resumable(source, total=10), "ndjson", compress=False)
    async with (
        serving(handler) as port,
        ClientSession() as session,
        session.get(url_of(port), headers=asked) as response,
    ):
        items, error = await read(chunkwise.items(response))
    start, stop = (3, 9) if asked.get("Range") == "items=3-8" else (0, given)
    if stop == 9 and given == 12:  # the range ends before the source does
        assert (items, error) == ([*range(3, 9)], None)
    else:
        assert items == [*range(start, min(stop, given))]
        assert isinstance(error, chunkwise.StreamError)


def identity(source: Resumable) -> Resumable:
    return source


async def test_factory_error_is_not_shown_to_clients() -> None:
    def fail(_: Any) -> Any:
        raise ValueError("password hunter2")

    def refuse(_: Any) -> Any:
        raise WrongKey("id: got 'x', expected a number")

    async def fail_later(_: Any) -> AsyncIterator[Any]:
        fail(_)
        yield

    def refuse_later(_: Any) -> Iterator[Any]:
        refuse(_)
        yield

    async def hold_nothing(_: Any) -> AsyncIterator[Any]:
        yield {"id": object()}

    keyed = [resumable(make, key=["id"]) for make in (fail, refuse, fail_later, refuse_later, hold_nothing)]
    sources = [resumable(fail), *keyed]
    async with (
        serving(*[streams(partial(identity, source)) for source in sources]) as port,
        ClientSession() as session,
    ):
        for path, headers, status, told in (
            ("/0", {}, 500, "Server got itself"),
            ("/0", {"Range": "items=3-"}, 500, "Server got itself"),
            ("/1", {}, 500, "Server got itself"),
            ("/1", {"Range": "items=3-", "Items-After": '["x"]'}, 400, 'got ["x"], expected a key of this source'),
            ("/2", {"Range": "items=3-", "Items-After": '["x"]'}, 400, "id: got 'x', expected a number"),
            ("/3", {"Range": "items=3-", "Items-After": '["x"]'}, 400, 'got ["x"], expected a key of this source'),
            ("/4", {"Range": "items=3-", "Items-After": '["x"]'}, 400, "id: got 'x', expected a number"),
            ("/5", {"Range": "items=3-", "Items-After": '["x"]'}, 500, "Internal Server Error"),
            ("/3", {}, 500, "Internal Server Error"),
        ):
            async with session.get(url_of(port, path), headers=headers) as response:
                text = await response.text()
                assert response.status == status
                assert json.loads(text)["detail"] == f"Items-After: {told}" if status == 400 else told in text
                assert "hunter2" not in text


@pytest.mark.parametrize("key", ["[%s]", "%s"])
async def test_overlong_key_is_refused(key: str) -> None:
    handler = streams(keyed, "ndjson")
    text = key % ("1" * 8193)
    async with serving(handler, max_field_size=20_000) as port, ClientSession() as session:
        headers = {"Range": "items=1-", "Items-After": text}
        async with session.get(url_of(port), headers=headers) as response:
            assert response.status == 400
            assert "Items-After: got a key of 819" in await response.text()
