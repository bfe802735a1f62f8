"""`open_stream` over HTTP: the request that it sends, the items of the response, and the proof of the end."""

import asyncio
import gzip
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import brotli  # type: ignore[import-untyped]
import pytest
from aiohttp import ClientSession, ClientTimeout, web
from multidict import CIMultiDict

import chunkwise
from chunkwise import DecodeError, LimitError, PathNotFound, RemoteError, TruncatedError, UnknownFormat
from chunkwise.client.stream import Stream
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, NAMES, decoded, row, until
from tests.transports.reading import CHUNKED, JSON, LAST, NDJSON, read
from tests.transports.wire import answering, chunked, head, serving, streams, talking, url_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

APPLIED = "Preference-Applied: stream-end"
EMPTY = head(NDJSON, "Content-Length: 0")
PROBLEM = "Content-Type: application/problem+json"


@dataclass
class Asked:
    """A request that was received, and the number of its connection, counted from 1."""

    connection: int
    line: str
    headers: CIMultiDict[str]
    body: bytes


@asynccontextmanager
async def listening(*answers: bytes) -> AsyncIterator[tuple[str, list[Asked]]]:
    """Start a server that sends each request the next response; yield its URL and the requests."""
    came: list[Asked] = []
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        mine = connections
        while True:
            line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            headers = CIMultiDict([(name, value) for name, _, value in (told.partition(": ") for told in lines)])
            body = await reader.readexactly(int(headers.get("Content-Length", 0)))
            came.append(Asked(mine, line, headers, body))
            writer.write(answers[len(came) - 1])

    async with talking(talk) as port:
        yield url_of(port), came


async def opened(*answer: bytes, path: str = "", **options: Any) -> tuple[list[Any], BaseException | None, Stream]:
    """Read a response; return its items, the error after them, and the stream."""
    async with (
        answering(*answer) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port), path, **options) as stream,
    ):
        return *await read(stream), stream


async def asked(session: ClientSession, **options: Any) -> Asked:
    """Return the request that `open_stream` sends."""
    async with listening(EMPTY) as (url, came), session, chunkwise.open_stream(session, url, **options) as stream:
        assert await read(stream) == ([], None)
    return came[0]


async def test_request_prefers_an_end_record() -> None:
    request = await asked(ClientSession())
    assert request.line == "GET /0 HTTP/1.1"
    assert request.headers.getall("Prefer") == ["stream-end"]
    assert request.headers.getall("Accept-Encoding") == ["zstd, gzip, br, deflate"]
    assert request.headers.getall("Accept") == ["*/*"]


async def test_other_preferences_are_kept() -> None:
    request = await asked(ClientSession(headers={"Prefer": "respond-async"}))
    assert ", ".join(request.headers.getall("Prefer")) == "respond-async, stream-end"
    request = await asked(ClientSession(), headers={"Prefer": "wait=5"})
    assert ", ".join(request.headers.getall("Prefer")) == "wait=5, stream-end"


async def test_prefer_header_name_ignores_case() -> None:
    request = await asked(ClientSession(), headers={"prefer": "wait=5"})
    assert ", ".join(request.headers.getall("Prefer")) == "wait=5, stream-end"


async def test_format_sets_the_accept_header() -> None:
    request = await asked(ClientSession(headers={"Accept": "image/png"}), format="ndjson")
    assert request.headers.getall("Accept") == [", ".join(chunkwise.FORMATS["ndjson"].media_types)]
    request = await asked(ClientSession(), format=chunkwise.FORMATS["sse"])
    assert request.headers.getall("Accept") == ["text/event-stream"]


@pytest.mark.parametrize("name", ["Accept", "accept"])
async def test_caller_headers_take_precedence(name: str) -> None:
    given = {name: "application/vnd.x+json", f"{name}-encoding": "br;q=0.5", "X-Mine": "1"}
    request = await asked(ClientSession(headers={"X-Mine": "0"}), format="ndjson", headers=given)
    assert request.headers.getall("Accept") == ["application/vnd.x+json"]
    assert request.headers.getall("Accept-Encoding") == ["br;q=0.5"]
    assert request.headers.getall("X-Mine") == ["1"]


async def test_session_headers_and_cookies_are_sent() -> None:
    session = ClientSession(headers={"Accept-Encoding": "identity", "Authorization": "x"}, cookies={"a": "b"})
    request = await asked(session)
    assert request.headers.getall("Accept-Encoding") == ["identity"]
    assert request.headers.getall("Authorization") == ["x"]
    assert request.headers.getall("Cookie") == ["a=b"]


async def test_session_base_url_is_used() -> None:
    async with (
        listening(EMPTY) as (url, came),
        ClientSession(url.removesuffix("0")) as session,
        chunkwise.open_stream(session, "/users?a=1", params={"b": "ä"}) as stream,
    ):
        assert await read(stream) == ([], None)
    assert came[0].line == "GET /users?a=1&b=%C3%A4 HTTP/1.1"


async def test_request_may_have_a_method_and_body() -> None:
    request = await asked(ClientSession(), method="PUT", json={"a": [1]})
    assert (request.line, request.body) == ("PUT /0 HTTP/1.1", b'{"a": [1]}')
    assert request.headers["Content-Type"] == "application/json"
    request = await asked(ClientSession(), method="POST", data=b"abc", headers={"Content-Type": "text/plain"})
    assert (request.line, request.body) == ("POST /0 HTTP/1.1", b"abc")
    assert request.headers.getall("Content-Type") == ["text/plain"]


async def test_one_request_sends_and_receives_items() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, [item["n"] async for item in chunkwise.items(request)])

    async with serving(handler) as port, ClientSession() as session:
        data = chunkwise.body((row(index) for index in range(1000)), "ndjson")
        async with chunkwise.open_stream(session, url_of(port), method="POST", data=data) as stream:
            assert await read(stream) == ([str(index) for index in range(1000)], None)


@each_row("compress", [True, False])
@each_row("name", NAMES)
async def test_our_streams_have_a_proven_end(name: str, compress: bool) -> None:
    source = streams(lambda: (row(index) for index in range(1000)), name, compress=compress)
    async with serving(source) as port, ClientSession() as session:
        async with chunkwise.open_stream(session, url_of(port)) as stream:
            assert stream.end is None
            came, error = await read(stream)
        assert ("Content-Encoding" in stream.response.headers) == compress
    assert (decoded(name, came), error) == ([row(index) for index in range(1000)], None)
    assert stream.end == ("framed" if name in ("csv", "text") else "proven")


async def test_failure_is_raised_with_its_problem() -> None:
    async def failing() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        raise web.HTTPBadGateway(text="the database left")

    async with (
        serving(streams(failing, "ndjson")) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port)) as stream,
    ):
        came, error = await read(stream)
    assert came in ([row(0)], [])  # the source may fail before the first item is sent
    assert isinstance(error, RemoteError)
    assert error.status == 502
    assert error.problem["detail"] == "the database left"


CODED = {
    "": lambda data: data,
    "identity": lambda data: data,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
}


@each_row("coding", CODED)
async def test_error_status_raises_on_entry_with_a_problem(coding: str) -> None:
    data = CODED[coding](b'{"title":"No such table","detail":"users","status":404,"more":[1]}')
    told = [f"Content-Encoding: {coding}"] if coding else []
    answer = head(PROBLEM, *told, f"Content-Length: {len(data)}", status="404 Not Found") + data
    with pytest.raises(RemoteError, match="404 Not Found: No such table: users") as caught:
        await opened(answer)
    assert caught.value.status == 404
    assert caught.value.problem == {"title": "No such table", "detail": "users", "status": 404, "more": [1]}


@pytest.mark.parametrize(
    ("told", "data"),
    [
        (("Content-Length: 99",), b'{"title":'),
        (("Content-Length: 5", "Content-Encoding: gzip"), b"\x1f\x8bxxx"),
        (("Content-Length: 5", "Content-Encoding: compress"), b"xxxxx"),
        (("Content-Length: 5",), b"[1,2]"),
    ],
    ids=["cut", "corrupt", "unknown coding", "no object"],
)
async def test_error_status_without_a_problem_raises(told: tuple[str, ...], data: bytes) -> None:
    with pytest.raises(RemoteError, match="503 Busy") as caught:
        await opened(head(PROBLEM, *told, status="503 Busy") + data)
    assert (caught.value.status, caught.value.problem) == (503, {})


async def test_unknown_format_sends_no_request() -> None:
    async with listening(EMPTY) as (url, came), ClientSession() as session:
        with pytest.raises(UnknownFormat, match="'xml'"):
            async with chunkwise.open_stream(session, url, format="xml"):
                pass
        with pytest.raises(ValueError, match="max_depth"):
            async with chunkwise.open_stream(session, url, max_depth=0):
                pass
    assert came == []


async def test_unknown_content_type_needs_a_format() -> None:
    answer = (head("Content-Type: text/html", CHUNKED), chunked(b"[1]"), LAST)
    came, error, stream = await opened(*answer)
    assert (came, type(error), stream.end) == ([], UnknownFormat, None)
    came, error, stream = await opened(*answer, format="json")
    assert (came, error, stream.end) == ([1], None, "proven")


@dataclass
class User:
    name: str


async def test_path_type_and_required_apply() -> None:
    answer = (head(JSON, CHUNKED), chunked(b'{"users":[{"name":"a"},{"name":"b"}]}'), LAST)
    came, error, _ = await opened(*answer, path="users.item", type=User)
    assert (came, error) == ([User("a"), User("b")], None)
    assert (await opened(*answer, path="x"))[:2] == ([], None)
    came, error, stream = await opened(*answer, path="x", required=True)
    assert (came, type(error), stream.end) == ([], PathNotFound, None)
    came, error, _ = await opened(*answer, path="users.item", type=int)
    assert (came, type(error)) == ([], DecodeError)


@pytest.mark.parametrize("limit", [{"max_item_bytes": 8}, {"max_line_bytes": 8}, {"max_depth": 3}])
async def test_size_and_depth_limits_apply(limit: dict[str, Any]) -> None:
    answer = (head(NDJSON, CHUNKED), chunked(b"[1]\n", b"[[[[123456]]]]\n"), LAST)
    assert (await opened(*answer))[:2] == ([[1], [[[[123456]]]]], None)
    came, error, _ = await opened(*answer, **limit)
    assert (came, type(error)) == ([[1]], LimitError)


@pytest.mark.parametrize("name", ["json", "ndjson"])
async def test_response_without_content_has_no_items(name: str) -> None:
    content_type = f"Content-Type: {chunkwise.FORMATS[name].content_type}"
    came, error, stream = await opened(head(content_type, APPLIED, status="204 No Content"))
    assert (came, error, stream.end) == ([], None, "framed")


async def test_redirects_are_followed_with_the_headers() -> None:
    moved = head("Location: /1", "Content-Length: 0", status="307 Temporary Redirect")
    async with (
        listening(moved, head(JSON, "Content-Length: 3") + b"[1]") as (url, came),
        ClientSession() as session,
        chunkwise.open_stream(session, url, headers={"Prefer": "wait=5"}) as stream,
    ):
        assert await read(stream) == ([1], None)
        assert stream.response.url.path == "/1"
    assert [request.line for request in came] == ["GET /0 HTTP/1.1", "GET /1 HTTP/1.1"]
    assert ", ".join(came[1].headers.getall("Prefer")) == "wait=5, stream-end"


async def test_counters_grow_while_the_stream_is_read() -> None:
    rest = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(NDJSON, CHUNKED, "X-Mine: 1") + chunked(b"1\n2\n3"))
        await rest.wait()
        writer.write(chunked(b"\n") + LAST)

    async with (
        talking(talk) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port)) as stream,
    ):
        assert (stream.response.status, stream.response.headers["X-Mine"]) == (200, "1")
        assert (stream.items_seen, stream.bytes_seen, stream.end) == (0, 0, None)
        assert [await anext(aiter(stream)), await anext(aiter(stream))] == [1, 2]
        assert (stream.items_seen, stream.bytes_seen, stream.end) == (2, 5, None)
        rest.set()
        assert await read(stream) == ([3], None)
        assert (stream.items_seen, stream.bytes_seen, stream.end) == (3, 6, "framed")


async def test_bytes_seen_counts_decompressed_bytes() -> None:
    data = gzip.compress(b"1\n" * 5000)
    _, error, stream = await opened(head(NDJSON, "Content-Encoding: gzip", f"Content-Length: {len(data)}") + data)
    assert (error, stream.items_seen, stream.bytes_seen) == (None, 5000, 10_000)


@pytest.mark.parametrize("leave", ["break", "raise"])
async def test_leaving_early_closes_the_connection(leave: str) -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(NDJSON, CHUNKED) + chunked(b"1\n2\n"))
        assert await reader.read() == b""
        closed.set()

    async def take_one(session: ClientSession, port: int) -> None:
        async with chunkwise.open_stream(session, url_of(port)) as stream:
            async for item in stream:
                assert item == 1
                if leave == "raise":
                    raise LookupError("mine")
                break

    async with talking(talk) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        if leave == "raise":
            with pytest.raises(LookupError, match="mine"):
                await take_one(session, port)
        else:
            await take_one(session, port)
        await closed.wait()  # while the session is still open


@asynccontextmanager
async def dripping(drop: bytes, *, every_seconds: float, times: int) -> AsyncIterator[int]:
    """Start a server of `[1, 2]` that sends some bytes now and then before the last item."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(JSON, CHUNKED) + chunked(b"[1"))
        for _ in range(times):
            await asyncio.sleep(every_seconds)
            writer.write(chunked(drop) if drop else b"")
        writer.write(chunked(b",2]") + LAST)

    async with talking(talk) as port:
        yield port


async def test_stream_may_outlast_the_total_timeout() -> None:
    timeout = ClientTimeout(total=0.3, sock_read=0.3)
    async with (
        dripping(b"", every_seconds=0.6, times=1) as port,
        ClientSession(timeout=timeout) as session,
        chunkwise.open_stream(session, url_of(port)) as stream,
    ):
        assert await read(stream) == ([1, 2], None)


async def test_keepalive_bytes_end_a_silence() -> None:
    async with (
        dripping(b" ", every_seconds=0.1, times=12) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port), idle_seconds=1) as stream,
    ):
        assert await read(stream) == ([1, 2], None)


async def test_cut_in_the_head_is_an_aiohttp_error() -> None:
    whole = head(JSON, "Content-Length: 2")
    for size in range(len(whole)):
        with pytest.raises(aiohttp.ClientError):
            await opened(whole[:size])
    assert (await opened(whole + b"[]"))[:2] == ([], None)


async def test_slow_reader_is_not_a_stall() -> None:
    lines = b"".join(b'{"n":%d}\n' % n for n in range(300_000))
    came: list[int] = []
    async with (
        answering(head(NDJSON, CHUNKED) + chunked(lines) + LAST) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port), idle_seconds=0.3) as stream,
    ):
        async for item in stream:
            came.append(item["n"])
            if len(came) == 1:
                await until(lambda: stream.response.content._protocol._reading_paused)
                await asyncio.sleep(0.8)
    assert came == list(range(300_000))
    assert stream.end == "framed"


async def test_unknown_content_coding_is_reported() -> None:
    came, error, _ = await opened(head(NDJSON, "Content-Encoding: compress", "Content-Length: 2") + b"1\n")
    assert (came, type(error)) == ([], DecodeError)
    assert "'compress'" in str(error)


async def test_corrupt_gzip_is_reported_after_its_items() -> None:
    engine = zlib.compressobj(wbits=31)
    good = engine.compress(b"1\n2\n3") + engine.flush(zlib.Z_SYNC_FLUSH)
    came, error, stream = await opened(
        head(NDJSON, "Content-Encoding: gzip", CHUNKED), chunked(good + b"\xff" * 9), LAST
    )
    assert (came, type(error)) == ([1, 2], DecodeError)
    assert isinstance(error, DecodeError)
    assert (error.item_index, error.byte_offset, stream.end) == (2, 5, None)
    assert "gzip" in str(error)


@pytest.mark.parametrize("coding", ["gzip, gzip", "br", "zstd"])
async def test_bomb_is_reported_after_received_items(coding: str) -> None:
    coded = {**CODED, "gzip, gzip": lambda data: gzip.compress(gzip.compress(data))}[coding]
    data = coded(b"[1,2," + b" " * 64 * 2**20)
    assert len(data) < 2**16
    came, error, _ = await opened(head(JSON, f"Content-Encoding: {coding}", CHUNKED), chunked(data), LAST)
    assert (came, type(error)) == ([1, 2], LimitError)
    assert "ratio" in str(error)


async def test_max_ratio_limits_the_decompressed_size() -> None:
    data = zstd.compress(b"[1,2," + b" " * 4 * 2**20 + b"3]")
    answer = (head(JSON, "Content-Encoding: zstd", CHUNKED), chunked(data), LAST)
    assert (await opened(*answer, max_ratio=100_000))[:2] == ([1, 2, 3], None)
    came, error, _ = await opened(*answer, max_ratio=100)
    assert (came, type(error)) == ([1, 2], LimitError)


async def test_connection_is_reused_after_a_stream() -> None:
    data = gzip.compress(b"1\n2\n")
    record = b'1\n {"stream-end":{"status":"complete","items":1}}\n'
    answers = (
        head(NDJSON, "Content-Encoding: gzip", CHUNKED) + chunked(data) + LAST,
        head(NDJSON, APPLIED, CHUNKED) + chunked(record) + LAST,
        head(PROBLEM, "Content-Length: 2", status="404 Not Found") + b"{}",
        head(status="204 No Content"),
        head(JSON, "Content-Length: 3") + b"[1]",
    )
    async with listening(*answers) as (url, came), ClientSession() as session:
        for index in range(len(answers)):
            if index == 2:
                with pytest.raises(RemoteError):
                    async with chunkwise.open_stream(session, url):
                        pass
                continue
            async with chunkwise.open_stream(session, url) as stream:
                assert (await read(stream))[1] is None
    assert [request.connection for request in came] == [1, 1, 1, 1, 1]


async def test_missing_end_record_is_truncation() -> None:
    came, error, stream = await opened(head(NDJSON, APPLIED, CHUNKED), chunked(b"1\n2\n"), LAST)
    assert (came, type(error), stream.end) == ([1, 2], TruncatedError, None)
