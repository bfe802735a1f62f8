"""Servers that send less than the rest, or other items: each item once, or an error that says what is wrong."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise.client import reconnecting
from chunkwise.errors import StreamError
from chunkwise.transports.range_headers import RangeInfo
from tests.flow.producing import GUARD_SECONDS
from tests.transports.reading import read

RANGES = {"Accept-Ranges": "items", "ETag": '"v1"'}
EVENTS = "text/event-stream"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "_FIRST_PAUSE_SECONDS", 0.001)


def lines(start: int, stop: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(start, stop))


def answer(
    body: bytes,
    headers: dict[str, str] = RANGES,
    *,
    whole: bool = True,
    part: str = "",
    media_type: str = "application/x-ndjson",
) -> bytes:
    told = {"Content-Type": media_type, "Transfer-Encoding": "chunked", "Connection": "close", **headers}
    if part:
        told["Content-Range"] = f"items {part}"
    head = f"HTTP/1.1 {'206 Partial Content' if part else '200 OK'}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return head.encode() + b"\r\n%x\r\n%b\r\n" % (len(body), body) + (b"0\r\n\r\n" if whole else b"")


CUT = answer(lines(0, 5), whole=False)


class Server:
    """Sends one response after the other, then repeats the last; keeps the heads of the requests."""

    def __init__(self, answers: tuple[bytes | Callable[[str], bytes], ...]) -> None:
        self.heads: list[str] = []
        self._answers = answers

    @property
    def ranges(self) -> list[str]:
        return re.findall(r"(?im)^range: (.*?)\r", "".join(self.heads))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        chosen = self._answers[min(len(self.heads), len(self._answers)) - 1]
        writer.write(chosen(self.heads[-1]) if callable(chosen) else chosen)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving(*answers: bytes | Callable[[str], bytes]) -> AsyncIterator[tuple[Server, str]]:
    server = Server(answers)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"


async def ask(
    *answers: bytes | Callable[[str], bytes], path: str = "", **options: Any
) -> tuple[list[Any], StreamError | None, Server]:
    async with (
        asyncio.timeout(GUARD_SECONDS),
        serving(*answers) as (server, url),
        ClientSession() as session,
        chunkwise.open_stream(session, url, path, **options) as stream,
    ):
        return *await read(stream), server


def parts(most: int, total: int, told: str = "") -> Callable[[str], bytes]:
    """Return a function that responds with ranges of no more than ``most`` items."""

    def give(head: str) -> bytes:
        found = re.search(r"(?im)^range: items=(\d+)-", head)
        start = int(found[1]) if found else 0
        stop = min(start + most, total)
        return answer(lines(start, stop), part=f"{start}-{stop - 1}/{told or total}")

    return give


def events(*pairs: tuple[int | None, int], whole: bool) -> bytes:
    body = b"".join((b"" if name is None else b"id: %d\n" % name) + b"data: %d\n\n" % data for name, data in pairs)
    return answer(body, {}, whole=whole, media_type=EVENTS)


async def test_partial_ranges_are_followed_by_more() -> None:
    items, error, server = await ask(CUT, parts(10, 42))
    assert (items, error) == ([*range(42)], None)
    assert server.ranges == ["items=5-", "items=15-", "items=25-", "items=35-"]


async def test_short_range_is_followed_by_the_rest() -> None:
    items, error, server = await ask(CUT, answer(lines(5, 8), part="5-9/10"), parts(9, 10))
    assert (items, error, server.ranges) == ([*range(10)], None, ["items=5-", "items=8-"])


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (answer(lines(5, 9), part="5-6/10"), "got items 5 to 8, expected items up to 6 (Content-Range)"),
        (answer(lines(5, 7), part="5-6/3"), "the server started at item 0"),
        (answer(lines(5, 7), part="5-4/30"), "the server started at item 0"),
        (answer(lines(5, 7), part="5-6/7", headers={"Accept-Ranges": "items"}), 'got the ETag None, expected "v1"'),
        (answer(b"a\r\n5\r\n", part="5-5/6", media_type="text/csv"), "in format csv, expected ndjson"),
    ],
)
async def test_unsuitable_response_is_reported(second: bytes, told: str) -> None:
    items, error, _ = await ask(CUT, second)
    assert items[:5] == [*range(5)]
    assert isinstance(error, chunkwise.TruncatedError)
    assert told in str(error)


@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content", "304 Not Modified"])
async def test_response_without_content_cannot_resume(status: str) -> None:
    empty = f'HTTP/1.1 {status}\r\nETag: "v1"\r\nContent-Range: items 5-5/6\r\nContent-Length: 0\r\n\r\n'.encode()
    items, error, _ = await ask(CUT, empty)
    assert items == [*range(5)]
    assert isinstance(error, chunkwise.TruncatedError)
    assert f"requested the rest from item 5, got status {status[:3]}, which has no content" in str(error)
    items, error, _ = await ask(answer(b"\n", whole=False), empty)
    assert (items, error) == ([], None)  # without items before it, there is nothing to continue


async def test_error_index_counts_the_whole_stream() -> None:
    items, error, _ = await ask(CUT, answer(b"5\noops\n", part="5-9/10"))
    assert items == [*range(6)]
    assert isinstance(error, chunkwise.DecodeError)
    assert error.item_index == 6


@pytest.mark.parametrize("first", [answer(lines(5, 7), part="5-6/7"), answer(b"", part="5-*/*", whole=False)])
async def test_unrequested_range_is_not_complete(first: bytes) -> None:
    items, error, _ = await ask(first)
    assert items == []
    assert isinstance(error, chunkwise.TruncatedError)
    assert "requested the rest from item 0, but the server started at item 5" in str(error)


@pytest.mark.parametrize("own", [{"Range": "items=5-9"}, {"range": "items=5-"}, {"Last-Event-ID": "4"}])
async def test_caller_range_is_not_resumed(own: dict[str, str]) -> None:
    first = answer(lines(5, 8), whole=False, part="5-9/20")
    items, error, server = await ask(first, parts(10, 20), headers=own)
    assert items == [5, 6, 7]
    assert isinstance(error, chunkwise.TruncatedError)
    assert len(server.heads) == 1


async def test_events_after_the_last_id_arrive_once() -> None:
    rest = events((None, 2), (3, 3), whole=True)
    items, error, server = await ask(events((1, 1), (None, 2), whole=False), rest, max_reconnects=3)
    assert (items, len(server.heads)) == ([1, 2], 1)
    assert isinstance(error, chunkwise.TruncatedError)
    items, error, _ = await ask(events((0, 0), (1, 1), whole=False), rest, max_reconnects=3)
    assert (items, error) == ([0, 1, 2, 3], None)


@pytest.mark.parametrize("second", [b":", b": hi\n\n", b"id: 9\nda"])
async def test_empty_response_keeps_the_last_id(second: bytes) -> None:
    cut, rest = events((1, 1), (2, 2), whole=False), events((3, 3), whole=True)
    items, error, server = await ask(cut, answer(second, {}, whole=False, media_type=EVENTS), rest, max_reconnects=3)
    assert (items, error) == ([1, 2, 3], None)
    assert re.findall(r"(?i)last-event-id: (.*?)\r", "".join(server.heads)) == ["2", "2"]
    items, error, _ = await ask(cut, events((None, 3), whole=False), rest, max_reconnects=3)
    assert (items, type(error)) == ([1, 2, 3], chunkwise.TruncatedError)


async def test_id_unfit_for_a_header_is_not_used() -> None:
    cut = answer(b"id: a\x01b\ndata: 1\n\n", {}, whole=False, media_type=EVENTS)
    items, error, _ = await ask(cut, max_reconnects=3)
    assert (items, type(error)) == ([1], chunkwise.TruncatedError)


@pytest.mark.parametrize("key", ["[" * 7000, '{"id":2}', "[1]", "null", '"id"', '[["id"]]'])
async def test_malformed_items_key_header_is_ignored(key: str) -> None:
    items, error, _ = await ask(answer(b'{"id":1}\n', headers={**RANGES, "Items-Key": key}))
    assert (items, error) == ([{"id": 1}], None)


async def test_thousands_of_tries_raise_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, most: min(most, 0))
    later = b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    items, error, server = await ask(CUT, later, max_reconnects=1100, max_reconnect_seconds=10**9)
    assert (items, len(server.heads)) == ([*range(5)], 1101)
    assert isinstance(error, chunkwise.TruncatedError)


async def test_server_with_fewer_items_is_reported() -> None:
    refused = b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    items, error, server = await ask(CUT, refused)
    assert (items, server.ranges) == ([*range(5)], ["items=5-"])
    assert isinstance(error, chunkwise.TruncatedError)
    assert "the source now has fewer than 5 items" in str(error)


async def test_required_path_may_be_missing_in_the_rest() -> None:
    first = answer(b'{"a":1}\n{"a":2}\n', whole=False)
    rest = answer(b'{"b":3}\n', part="2-2/3")
    items, error, _ = await ask(first, rest, path="a", required=True)
    assert (items, error) == ([1, 2], None)
    items, error, _ = await ask(answer(b'{"b":3}\n'), path="a", required=True)
    assert items == []
    assert isinstance(error, chunkwise.PathNotFound)


@pytest.mark.parametrize("cut", [False, True])
async def test_resume_from_continues_another_download(cut: bool) -> None:
    rest = [answer(lines(5, 7), part="5-9/10", whole=False)] * cut + [parts(9, 10)]
    async with (
        asyncio.timeout(GUARD_SECONDS),
        serving(*rest) as (server, url),
        ClientSession() as session,
        chunkwise.open_stream(session, url, resume_from=chunkwise.ResumePoint(5, '"v1"', {})) as stream,
    ):
        assert stream.range_info == RangeInfo(5, True, '"v1"', (), total=10, last=9)
        assert await read(stream) == ([*range(5, 10)], None)
        assert stream.response.headers["Content-Range"] == f"items {7 if cut else 5}-9/10"
        assert stream.items_seen == 10
    assert server.ranges == ["items=5-", "items=7-"][: 1 + cut]


async def test_key_with_other_names_is_refused() -> None:
    by_id = {**RANGES, "Items-Key": '["id"]'}
    by_rank = {**RANGES, "Items-Key": '["rank"]'}
    rows = b"".join(b'{"id":%d,"rank":%d}\n' % (number, 9 - number) for number in range(5))
    cut = answer(rows, by_id, whole=False)
    items, error, server = await ask(cut, answer(rows, by_rank, part="5-9/10"))
    assert len(items) == 5
    assert isinstance(error, chunkwise.TruncatedError)
    assert "the server now identifies an item by rank, not by id as before" in str(error)
    assert server.ranges == ["items=5-"]


async def test_rest_below_its_total_is_incomplete() -> None:
    items, error, _ = await ask(CUT, answer(lines(5, 8), part="5-*/10"), answer(lines(8, 10), part="8-*/10"))
    assert (items, error) == ([*range(10)], None)
    items, error, _ = await ask(CUT, answer(lines(5, 8), part="5-*/10"), max_reconnects=2)
    assert items == [*range(8)]
    assert isinstance(error, chunkwise.TruncatedError)
