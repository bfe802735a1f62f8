"""Every combination of format, HTTP version, coding, item count and ending: the response shows how it ended.

| column  | values                                                     |
|---------|------------------------------------------------------------|
| format  | all of `FORMATS`                                           |
| version | HTTP/1.1, HTTP/1.0                                         |
| coding  | identity, gzip, deflate, br, zstd                          |
| count   | the source ends after 0, 1, 3 or 5 rows                    |
| ending  | an exception, an HTTP exception, a cancellation, a return  |
| pace    | hot, in turns with the event loop, in a thread             |

The responses are read with the standard library and the libraries of the codings, not with our decoders. Otherwise a
mistake that our encoder and our decoder share would not be noticed.
"""

import asyncio
import csv
import io
import json
import re
import socket
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple

import brotli  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from aiohttp import web

from chunkwise import FORMATS, respond
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, NAMES, row
from tests.transports.wire import serving

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.asyncio(loop_scope="module")

CODINGS = ["identity", "gzip", "deflate", "br", "zstd"]
VERSIONS = ["1.1", "1.0"]
ROWS = [{"n": str(index), "text": f'Zoë, "{index}"\nand on'} for index in range(5)]
"""Text that every format has to quote, and must return unchanged."""

NEXT = b"GET /1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


class Ending(NamedTuple):
    """How a source ends, and the problem details that the client gets."""

    error: Callable[[], BaseException] | None
    problem: dict[str, Any]


FAILURES = {
    "exception": Ending(lambda: ValueError("secret"), {"title": "Internal Server Error", "status": 500}),
    "http exception": Ending(
        lambda: web.HTTPConflict(text="taken twice"), {"title": "Conflict", "status": 409, "detail": "taken twice"}
    ),
    "cancelled": Ending(asyncio.CancelledError, {"title": "Internal Server Error", "status": 500}),
}
ENDINGS = {**FAILURES, "returns": Ending(None, {})}

every_format = each_row("name", NAMES)
every_end_record = each_row("name", [name for name in NAMES if FORMATS[name].end_record])
every_version = each_row("version", VERSIONS)
every_coding = each_row("coding", CODINGS)
every_ending = each_row("ending", ENDINGS)
every_failure = each_row("ending", FAILURES)
every_count = each_row("count", [0, 1, 3, len(ROWS)], ids=lambda count: f"after {count}")
every_pace = each_row("kind", ["hot", "in turns"])


# ---- the server: the query says how its source ends


async def hot(count: int, ending: str) -> AsyncIterator[dict[str, str]]:
    for each in ROWS[:count]:
        yield each
    if error := ENDINGS[ending].error:
        raise error()


async def in_turns(count: int, ending: str) -> AsyncIterator[dict[str, str]]:
    """Like `hot`, but each row is sent before the source continues."""
    for each in ROWS[:count]:
        yield each
        await asyncio.sleep(0)
    if error := ENDINGS[ending].error:
        raise error()


def in_a_thread(count: int, ending: str) -> Iterator[dict[str, str]]:
    yield from ROWS[:count]
    if error := ENDINGS[ending].error:
        raise error()


async def large(count: int, ending: str) -> AsyncIterator[dict[str, str]]:
    """More bytes than fit into the buffers of a slow client."""
    for index in range(count):
        yield row(index, 10_000)
    if error := ENDINGS[ending].error:
        raise error()


KINDS: dict[str, Callable[[int, str], Any]] = {
    "hot": hot,
    "in turns": in_turns,
    "in a thread": in_a_thread,
    "large": large,
}


async def case(request: web.Request) -> web.StreamResponse:
    query = request.query
    source = KINDS[query["kind"]](int(query["count"]), query["ending"])
    # The status line waits for the first item, so that a failure is clearly before or after it.
    return await respond(request, source, query["name"], commit_after_seconds=GUARD_SECONDS)


async def next_one(request: web.Request) -> web.StreamResponse:
    return web.Response(text="next")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port() -> AsyncIterator[int]:
    async with serving(case, next_one) as port:
        yield port


# ---- the client: plain sockets


class Answer(NamedTuple):
    """One response, and the bytes after it.

    Attributes:
        body: the content, in chunks or in one part.
        whole: whether the framing proves the end; False under HTTP/1.0, where only the end of the connection does.
        rest: the bytes after the response.
    """

    status: int
    headers: dict[str, str]
    body: list[bytes]
    whole: bool
    rest: bytes


async def talk(port: int, request: bytes, *, slowly: bool = False) -> tuple[bytes, bool]:
    """Send bytes; return all bytes received until the connection ends, and whether it ended with a reset.

    It uses a plain socket, because asyncio's streams lose the bytes in their buffer after a reset.
    """
    loop = asyncio.get_running_loop()
    came = b""
    with socket.socket() as sock:
        sock.setblocking(False)
        if slowly:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        async with asyncio.timeout(GUARD_SECONDS):
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, request)
            try:
                while data := await loop.sock_recv(sock, 65536):
                    came += data
                    if slowly:
                        await asyncio.sleep(0)  # let the server run while bytes are available
            except ConnectionResetError:
                return came, True
    return came, False


def request_of(
    name: str, version: str, coding: str, count: int, ending: str, *, kind: str = "in turns", prefer: str = ""
) -> bytes:
    target = f"/0?name={name}&count={count}&ending={ending}&kind={kind}".replace(" ", "%20")
    lines = [f"GET {target} HTTP/{version}", "Host: test", f"Accept-Encoding: {coding}"]
    if prefer:
        lines.append(f"Prefer: {prefer}")
    return "\r\n".join([*lines, "", ""]).encode()


def parsed(came: bytes) -> Answer:
    """Read a response, strictly (RFC 9112)."""
    head, _, rest = came.partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.[01] (\d{3}) [^\r\n]+", line)
    assert match, line
    pairs = [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in fields)]
    headers = dict(pairs)
    assert len(headers) == len(pairs), "got the same header twice"
    status = int(match[1])
    if "transfer-encoding" in headers:
        assert headers["transfer-encoding"] == "chunked"
        assert "content-length" not in headers
        return Answer(status, headers, *chunks_of(rest))
    if "content-length" in headers:
        length = int(headers["content-length"])
        assert len(rest) >= length
        return Answer(status, headers, [rest[:length]], True, rest[length:])
    return Answer(status, headers, [rest], False, b"")


def chunks_of(data: bytes) -> tuple[list[bytes], bool, bytes]:
    """Return the whole chunks, whether the last one is there, and the bytes after it."""
    chunks: list[bytes] = []
    while data:
        match = re.match(rb"([0-9a-f]+)\r\n", data, re.IGNORECASE)
        assert match, f"expected the size of a chunk, got {data!r}"
        size, start = int(match[1], 16), match.end()
        assert data[start + size : start + size + 2] == b"\r\n", f"expected a whole chunk, got {data!r}"
        chunk, data = data[start : start + size], data[start + size + 2 :]
        if not size:
            return chunks, True, data
        chunks.append(chunk)
    return chunks, False, b""


class Decoding:
    """Decompresses with the library of a content coding."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._engine: Any = {
            "identity": lambda: None,
            "gzip": lambda: zlib.decompressobj(31),
            "deflate": zlib.decompressobj,
            "br": brotli.Decompressor,
            "zstd": zstd.ZstdDecompressor,
        }[coding]()

    def feed(self, data: bytes) -> bytes:
        if self._coding == "identity":
            return data
        return bytes(self._engine.process(data) if self._coding == "br" else self._engine.decompress(data))

    @property
    def finished(self) -> bool | None:
        """Whether the compressed data has ended without more bytes after it; None if there is no coding."""
        if self._coding == "identity":
            return None
        if self._coding == "br":
            return bool(self._engine.is_finished())
        return bool(self._engine.eof) and not self._engine.unused_data


def items_in(name: str, data: bytes, *, whole: bool) -> list[Any]:
    """Return the items of a stream by the rules of its format; check that it holds nothing else."""
    text = data.decode()
    if name == "json":
        if not whole:
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)
            text += "]"
        items = json.loads(text)
        assert isinstance(items, list)
        return items
    if name == "csv":
        assert not text or text.endswith("\r\n")
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    if name == "json-seq":
        nothing, *texts = text.split("\x1e")
        assert nothing == ""
        assert all(text.endswith("\n") for text in texts)
        return [json.loads(text) for text in texts]
    if name == "sse":
        *blocks, nothing = text.split("\n\n")
        assert nothing == ""
        events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
        assert [event["id"] for event in events] == [str(index) for index in range(len(events))]
        return [json.loads(event["data"]) for event in events]
    *lines, nothing = text.split("\n")
    assert nothing == ""
    return [json.loads(line) for line in lines]


# ---- checks


def check_problem(came: bytes, reset: bool, version: str, ending: str) -> None:
    """Check an ordinary response with problem details; the connection stays open after it."""
    problem = ENDINGS[ending].problem
    answer = parsed(came)
    assert answer.status == problem["status"]
    assert came.startswith(f"HTTP/{version} {answer.status} {HTTPStatus(answer.status).phrase}\r\n".encode())
    assert answer.whole, "expected a Content-Length"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "content-encoding" not in answer.headers
    assert "preference-applied" not in answer.headers
    assert json.loads(b"".join(answer.body)) == problem
    check_rest(came, answer, reset, version)


def check_rest(came: bytes, answer: Answer, reset: bool, version: str) -> None:
    """Check that the next request gets a response after a complete one; HTTP/1.0 has no next request."""
    assert not reset
    if version == "1.0":
        assert came.count(b"HTTP/1.") == 1
        assert answer.rest == b""
    else:
        assert came.count(b"HTTP/1.") == 2
        following = parsed(answer.rest)
        assert following == (200, following.headers, [b"next"], True, b"")


def check_stream(came: bytes, reset: bool, name: str, version: str, coding: str, *, whole: bool) -> list[bytes]:
    """Check that connection, framing and coding show the same end; return the decompressed pieces."""
    answer = parsed(came)
    assert came.startswith(f"HTTP/{version} 200 OK\r\n".encode())
    assert answer.headers["content-type"] == FORMATS[name].content_type
    assert answer.headers.get("content-encoding", "identity") == coding
    if version == "1.1":
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.whole is whole, "the last chunk must show how the stream ended"
    else:
        assert "content-length" not in answer.headers
        assert reset is not whole, "the end of the connection must show how the stream ended"
    if whole:
        check_rest(came, answer, reset, version)
    else:
        assert came.count(b"HTTP/1.") == 1, "expected no response to the next request"
        assert answer.rest == b""
    decoding = Decoding(coding)
    pieces = [decoding.feed(piece) for piece in answer.body]
    assert decoding.finished in (None, whole), "the end of the compressed data must show how the stream ended"
    return pieces


async def check_case(port: int, name: str, version: str, coding: str, count: int, ending: str, kind: str) -> None:
    """Check one row of the table."""
    request = request_of(name, version, coding, count, ending, kind=kind)
    came, reset = await talk(port, request + NEXT if version == "1.1" else request)
    assert b"secret" not in came
    whole = ending == "returns"
    if count == 0 and not whole:
        check_problem(came, reset, version, ending)
        return
    pieces = check_stream(came, reset, name, version, coding, whole=whole)
    assert items_in(name, b"".join(pieces), whole=whole) == ROWS[:count]
    if kind == "in turns" and version == "1.1":
        assert len(pieces) >= count, "each row must be sent before the source continues"


@every_format
@every_version
@every_coding
@every_count
@every_failure
@every_pace
async def test_failed_source_never_looks_complete(
    port: int, name: str, version: str, coding: str, count: int, ending: str, kind: str
) -> None:
    await check_case(port, name, version, coding, count, ending, kind)


@every_format
@every_version
@every_coding
@every_count
@every_pace
async def test_source_that_returns_is_complete(
    port: int, name: str, version: str, coding: str, count: int, kind: str
) -> None:
    await check_case(port, name, version, coding, count, "returns", kind)


@every_format
@every_ending
async def test_http_1_0_keep_alive_ends_with_a_close(port: int, name: str, ending: str) -> None:
    request = request_of(name, "1.0", "identity", 3, ending).replace(b"Host: test", b"Connection: keep-alive")
    came, reset = await talk(port, request)
    pieces = check_stream(came, reset, name, "1.0", "identity", whole=ending == "returns")
    assert items_in(name, b"".join(pieces), whole=ending == "returns") == ROWS[:3]


@every_format
@every_ending
async def test_connection_close_shows_the_same_end(port: int, name: str, ending: str) -> None:
    request = request_of(name, "1.1", "identity", 3, ending).replace(b"Host: test", b"Host: test\r\nConnection: close")
    came, reset = await talk(port, request)
    answer = parsed(came)
    assert (reset, answer.whole, answer.rest) == (False, ending == "returns", b"")
    assert items_in(name, b"".join(answer.body), whole=ending == "returns") == ROWS[:3]


@every_format
@every_version
@every_ending
async def test_slow_client_gets_everything_before_the_end(port: int, name: str, version: str, ending: str) -> None:
    request = request_of(name, version, "identity", 50, ending, kind="large")
    came, reset = await talk(port, request + NEXT if version == "1.1" else request, slowly=True)
    pieces = check_stream(came, reset, name, version, "identity", whole=ending == "returns")
    assert items_in(name, b"".join(pieces), whole=ending == "returns") == [row(index, 10_000) for index in range(50)]


# ---- sync sources run in a thread


@every_format
@every_version
@each_row("coding", ["identity", "gzip"])
@every_count
@every_ending
async def test_sync_source_shows_the_same_end(
    port: int, name: str, version: str, coding: str, count: int, ending: str
) -> None:
    await check_case(port, name, version, coding, count, ending, "in a thread")


# ---- end records


def record_in(name: str, piece: bytes) -> Any:
    """Parse a chunk that is an end record."""
    told = {
        "ndjson": r' \{"stream-end":(.+)\}\n',
        "json-seq": r'\x1e \{"stream-end":(.+)\}\n',
        "sse": r"event: stream-end\ndata: (.+)\n\n",
    }
    match = re.fullmatch(told[name], piece.decode())
    assert match, piece
    return json.loads(match[1])


@every_end_record
@every_version
@every_coding
@every_count
@every_ending
async def test_end_record_is_a_separate_last_chunk(
    port: int, name: str, version: str, coding: str, count: int, ending: str
) -> None:
    request = request_of(name, version, coding, count, ending, prefer="stream-end")
    came, reset = await talk(port, request + NEXT if version == "1.1" else request)
    whole = ending == "returns"
    if count == 0 and not whole:
        check_problem(came, reset, version, ending)
        return
    pieces = check_stream(came, reset, name, version, coding, whole=whole)
    assert parsed(came).headers["preference-applied"] == "stream-end"
    if version == "1.0":
        pieces = pieces_of_records(name, b"".join(pieces))
    record = record_in(name, pieces.pop())
    if whole:
        assert record == {"status": "complete", "items": count}
    else:
        assert record == {"status": "failed", "items": count, "problem": ENDINGS[ending].problem}
    assert items_in(name, b"".join(pieces), whole=whole) == ROWS[:count]


def pieces_of_records(name: str, data: bytes) -> list[bytes]:
    """Split off the last record of a response under HTTP/1.0, which has no chunks."""
    start = {"ndjson": b"\n ", "json-seq": b"\n\x1e ", "sse": b"\nevent"}[name]
    place = data.rfind(start) + 1
    return [data[:place], data[place:]]


@every_format
@every_ending
async def test_end_record_is_sent_only_on_request(port: int, name: str, ending: str) -> None:
    came, _ = await talk(port, request_of(name, "1.0", "identity", 3, ending))
    assert b"stream-end" not in came
    assert "preference-applied" not in parsed(came).headers


@each_row("name", [name for name in NAMES if not FORMATS[name].end_record])
@every_ending
async def test_formats_without_end_record_send_none(port: int, name: str, ending: str) -> None:
    plain, _ = await talk(port, request_of(name, "1.0", "identity", 3, ending))
    asked, _ = await talk(port, request_of(name, "1.0", "identity", 3, ending, prefer="stream-end"))
    assert asked.partition(b"\r\n\r\n")[2] == plain.partition(b"\r\n\r\n")[2]
    assert "preference-applied" not in parsed(asked).headers
