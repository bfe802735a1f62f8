"""Any message -> its complete items, then an error if the message was cut off."""

import asyncio
import gc
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, ClientTimeout, StreamReader, WSCloseCode, web

import chunkwise
from chunkwise import (
    FORMATS,
    DecodeError,
    LimitError,
    PathNotFound,
    RemoteError,
    TruncatedError,
    UnknownFormat,
)
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, NAMES, decoded, row, until
from tests.transports.reading import CHUNKED, JSON, LAST, NDJSON, answered, read
from tests.transports.wire import answering, chunked, head, serving, streams, talking, url_of

READ_IN_PYTHON = """
import asyncio, sys
import aiohttp, chunkwise

async def main():
    async with aiohttp.ClientSession() as session, session.get(sys.argv[1]) as response:
        try:
            async for item in chunkwise.items(response):
                print(item)
        except chunkwise.StreamError as error:
            print(type(error).__name__, error.message)

asyncio.run(main())
"""


async def async_pieces(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


PIECES = [b'[{"a"', b":1}", b",{", b'"a":2}]']
MESSAGES: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"".join(PIECES),
    "bytearray": lambda: bytearray(b"".join(PIECES)),
    "list": lambda: PIECES,
    "generator": lambda: iter(PIECES),
    "async generator": lambda: async_pieces(PIECES),
}


@pytest.mark.parametrize("kind", MESSAGES)
async def test_bytes_of_any_type_are_a_message(kind: str) -> None:
    assert await read(chunkwise.items(MESSAGES[kind](), format="json")) == ([{"a": 1}, {"a": 2}], None)
    assert await read(chunkwise.items(MESSAGES[kind](), "item.a", format="json")) == ([1, 2], None)
    assert (await read(chunkwise.text(MESSAGES[kind]())))[0]
    assert (await read(chunkwise.events(MESSAGES[kind]())))[0][:3] == [
        ("", "start_array", None),
        ("item", "start_map", None),
        ("item", "map_key", "a"),
    ]


@pytest.mark.parametrize("kind", MESSAGES)
def test_bytes_need_a_format_argument(kind: str) -> None:
    with pytest.raises(UnknownFormat, match="name the format with format="):
        chunkwise.items(MESSAGES[kind]())


async def test_stream_reader_is_a_message() -> None:
    async def content(message: ClientResponse) -> StreamReader:
        return message.content

    async with answering(head(JSON, "Content-Length: 5"), b"[1,", b"2]") as port, ClientSession() as session:
        async with session.get(url_of(port)) as response:
            stream = await content(response)
            assert await read(chunkwise.items(stream, format="json")) == ([1, 2], None)
        with pytest.raises(UnknownFormat):
            chunkwise.items(stream)


@pytest.mark.parametrize("message", [7, None, "[1]"])
def test_unsupported_message_type_is_refused(message: Any) -> None:
    with pytest.raises(TypeError, match=f"message: got {type(message).__name__}, expected a response"):
        chunkwise.items(message, format="json")


@asynccontextmanager
async def going_bad(bad: bytes) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A server that sends an item and later, in a separate segment, bytes that are not a chunk."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(NDJSON, CHUNKED) + chunked(b"1\n"))
        await go.wait()
        go.clear()
        writer.write(bad)
        await reader.read()

    go = asyncio.Event()
    async with talking(talk) as port, asyncio.timeout(GUARD_SECONDS):
        yield port, go.set


@pytest.mark.parametrize("bad", [b"zz\r\n", b"0\r\nx\0:\r\n\r\n"])
async def test_malformed_chunk_ends_the_wait(bad: bytes) -> None:
    async with going_bad(bad) as (port, go), ClientSession() as session, session.get(url_of(port)) as response:
        stream = chunkwise.items(response)
        assert await anext(stream) == 1
        go()
        came, error = await read(stream)
    assert (came, type(error)) == ([], TruncatedError)
    assert "received a malformed chunk" in str(error)


async def test_reset_after_the_end_is_not_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(1 if go.is_set() else 2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head(NDJSON, CHUNKED))
            await asyncio.sleep(0.02)  # the client begins to read in this time
            writer.write(chunked(b"1\n") + LAST)
        await go.wait()
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    gc.collect()  # remove objects of other tests
    caplog.clear()
    go = asyncio.Event()
    async with talking(talk) as port, ClientSession() as session:
        for index in range(3):
            if index == 2:  # the third request needs another connection
                go.set()
                await asyncio.sleep(0.1)  # until the first connection is reset
            async with session.get(url_of(port)) as response:
                assert await read(chunkwise.items(response)) == ([1], None)
        gc.collect()
    assert [record.getMessage() for record in caplog.records] == []


async def test_python_parser_reports_a_malformed_chunk() -> None:
    async with going_bad(b"zz\r\n") as (port, go):
        words = (sys.executable, "-u", "-c", READ_IN_PYTHON, url_of(port))
        env = {**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"}
        reading = await asyncio.create_subprocess_exec(*words, env=env, stdout=asyncio.subprocess.PIPE)
        assert reading.stdout is not None
        assert await reading.stdout.readline() == b"1\n"
        go()
        told, _ = await reading.communicate()
    assert told == b"TruncatedError the stream was cut: received a malformed chunk\n"


async def test_late_reader_sees_a_malformed_chunk() -> None:
    async with going_bad(b"zz\r\n") as (port, go), ClientSession() as session:
        async with session.get(url_of(port)) as response:
            go()
            await asyncio.sleep(0.1)  # until the connection is gone
            came, error = await read(chunkwise.items(response))
            assert (came, type(error)) == ([1], TruncatedError)
        async with chunkwise.open_stream(session, url_of(port)) as stream:
            go()
            await asyncio.sleep(0.1)
            came, error = await read(stream)
            assert (came, type(error)) == ([1], TruncatedError)


async def test_closed_or_unawaited_response_is_reported() -> None:
    async with serving(streams(lambda: iter(range(10**7)), "ndjson")) as port, ClientSession() as session:
        request: Any = session.get(url_of(port))
        with pytest.raises(TypeError, match=r"got .*RequestContextManager, .*: await it first"):
            chunkwise.items(request)
        async with request as response:
            pass
        came, error = await read(chunkwise.items(response))
    assert came == [*range(len(came))]
    assert isinstance(error, TruncatedError)
    assert "the response was closed before it was read: read it inside its `async with`" in str(error)


@each_row("prefer", ["", "stream-end"])
@each_row("name", NAMES)
async def test_response_in_any_format_is_items(name: str, prefer: str) -> None:
    source = streams(lambda: (row(index) for index in range(1000)), name)
    async with (
        serving(source) as port,
        ClientSession(headers={"Prefer": prefer}) as session,
        session.get(url_of(port)) as response,
    ):
        came, error = await read(chunkwise.items(response))
    assert decoded(name, came) == [row(index) for index in range(1000)]
    assert error is None


async def test_request_is_read_with_the_same_call() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        came, error = await read(chunkwise.items(request, "users.item", type=int))
        return web.json_response({"came": came, "error": str(error)})

    async with serving(handler) as port, ClientSession() as session:
        data = async_pieces([b'{"users":[1', b'2,3],"x', b'":0}'])
        async with session.post(url_of(port), data=data, headers={"Content-Type": "application/json"}) as response:
            assert await response.json() == {"came": [12, 3], "error": "None"}


@dataclass
class User:
    name: str
    age: int = 0


async def test_items_have_the_requested_type() -> None:
    answer = (head(JSON, CHUNKED), chunked(b'{"users":[{"name":"a","age":3},{"name":"b"}]}'), LAST)
    assert await answered(*answer, path="users.item", type=User) == ([User("a", 3), User("b")], None)


async def test_item_of_another_type_is_reported_by_index() -> None:
    answer = (head(JSON, CHUNKED), chunked(b'[{"name":"a"},{"name":5}]'), LAST)
    came, error = await answered(*answer, type=User)
    assert came == [User("a")]
    assert isinstance(error, DecodeError)
    assert (error.item_index, error.format) == (1, "json")
    assert "$.name" in str(error)


async def test_only_a_required_path_must_select_items() -> None:
    answer = (head(JSON, CHUNKED), chunked(b'{"a":1}'), LAST)
    assert await answered(*answer, path="b.item") == ([], None)
    came, error = await answered(*answer, path="b.item", required=True)
    assert (came, type(error)) == ([], PathNotFound)


async def test_malformed_path_raises_at_once() -> None:
    with pytest.raises((TypeError, ValueError)):
        chunkwise.items(b"", 5, format="json")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "limit"),
    [(b'["1234567890","x"]', {"max_item_bytes": 8}), (b"[[[[1]]]]", {"max_depth": 3})],
)
async def test_size_and_depth_limits_apply(data: bytes, limit: dict[str, int]) -> None:
    answer = (head(JSON, CHUNKED), chunked(data), LAST)
    assert (await answered(*answer))[1] is None
    assert isinstance((await answered(*answer, **limit))[1], LimitError)
    with pytest.raises(LimitError):
        async for _ in chunkwise.events(data, **limit):
            pass


async def test_line_limit_applies() -> None:
    came, error = await answered(head(NDJSON, CHUNKED), chunked(b"1\n", b"2" * 100), LAST, max_line_bytes=50)
    assert (came, type(error)) == ([1], LimitError)


async def test_invalid_limit_raises_at_once() -> None:
    with pytest.raises(ValueError, match="max_depth"):
        chunkwise.items(b"", format="json", max_depth=0)
    told = "unexpected keyword argument 'max_width', expected one of max_item_bytes, max_depth,"
    with pytest.raises(TypeError, match=told):
        chunkwise.items(b"", format="json", max_width=0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("content_type", "told"),
    [
        ("Content-Type: image/png", "image/png"),
        ("Content-Type: text/html; charset=utf-8", "text/html"),
        ("Content-Type: application/json; charset=latin-1", "charset 'latin-1'"),
        ("X-None: 1", "no content type"),
    ],
)
async def test_format_overrides_the_content_type(content_type: str, told: str) -> None:
    answer = (head(content_type, CHUNKED), chunked(b"[1]"), LAST)
    came, error = await answered(*answer)
    assert (came, type(error)) == ([], UnknownFormat)
    assert told in str(error)
    assert await answered(*answer, format="json") == ([1], None)
    assert await answered(*answer, format=FORMATS["json"]) == ([1], None)


@pytest.mark.parametrize("content_type", ["application/problem+json", "application/geo+json", "text/json;charset=utf8"])
async def test_content_type_suffix_json_is_known(content_type: str) -> None:
    assert await answered(head(f"Content-Type: {content_type}", CHUNKED), chunked(b"[1]"), LAST) == ([1], None)


async def test_unknown_format_raises_at_once() -> None:
    with pytest.raises(UnknownFormat, match="unknown format 'xml', expected one of json, ndjson"):
        chunkwise.items(b"", format="xml")
    with pytest.raises(UnknownFormat, match="'xml'"):
        chunkwise.body([], "xml")


async def test_response_without_content_has_no_items() -> None:
    assert await answered(head(status="204 No Content")) == ([], None)
    assert await answered(head(JSON, status="204 No Content"), required=True, path="a") == ([], None)


async def test_error_status_is_a_remote_error() -> None:
    answer = head("Content-Length: 0", status="404 Not Found")
    async with answering(answer) as port, ClientSession() as session, session.get(url_of(port)) as response:
        for stream in (chunkwise.items(response), chunkwise.text(response), chunkwise.events(response)):
            came, error = await read(stream)
            assert came == []
            assert isinstance(error, RemoteError)
            assert error.status == 404


async def test_promised_end_record_is_required() -> None:
    answer = (head(NDJSON, CHUNKED, "Preference-Applied: stream-end"), chunked(b"1\n"))
    record = chunked(b' {"stream-end":{"status":"complete","items":1}}\n')
    assert await answered(*answer, record, LAST) == ([1], None)
    came, error = await answered(*answer, LAST)
    assert (came, type(error)) == ([1], TruncatedError)


async def test_batches_and_counters_work_over_http() -> None:
    async with (
        answering(head(NDJSON, CHUNKED), chunked(b"1\n2\n"), chunked(b"3\n"), LAST) as port,
        ClientSession() as session,
        session.get(url_of(port)) as response,
    ):
        stream = chunkwise.items(response)
        seen = [(len(batch), stream.items_seen) async for batch in stream.batches()]
    assert sum(size for size, _ in seen) == 3
    assert seen[-1][1] == stream.items_seen == 3
    assert stream.bytes_seen == 6


async def test_text_arrives_in_whole_characters() -> None:
    data = "äöü€😀".encode()
    pieces = [data[index : index + 1] for index in range(len(data))]
    came, error = await read(chunkwise.text(pieces))
    assert (came, error) == (list("äöü€😀"), None)
    came, error = await read(chunkwise.text(pieces[:-1]))
    assert (came, type(error)) == (list("äöü€"), TruncatedError)


async def test_events_equal_those_of_ijson() -> None:
    answer = (head(CHUNKED), chunked(b'{"a":[1,2.5,', b'"x",null,true]}'), LAST)
    async with answering(*answer) as port, ClientSession() as session, session.get(url_of(port)) as response:
        came, error = await read(chunkwise.events(response))
    assert error is None
    assert came == [
        ("", "start_map", None),
        ("", "map_key", "a"),
        ("a", "start_array", None),
        ("a.item", "number", 1),
        ("a.item", "number", 2.5),
        ("a.item", "string", "x"),
        ("a.item", "null", None),
        ("a.item", "boolean", True),
        ("a", "end_array", None),
        ("", "end_map", None),
    ]


async def test_exception_of_the_iterable_is_unchanged() -> None:
    def failing() -> Iterator[bytes]:
        yield b"[1,"
        raise LookupError("mine")

    came: list[Any] = []

    async def take() -> None:
        async for item in chunkwise.items(failing(), format="json"):
            came.append(item)  # noqa: PERF401

    with pytest.raises(LookupError, match="mine"):
        await take()
    assert came == [1]


async def test_socket_reads_are_120_kib_at_most() -> None:
    sizes: list[int] = []
    looked = asyncio.Event()

    async def take(request: web.Request) -> web.StreamResponse:
        await read(chunkwise.items(request, format="text"))
        sizes.append(request.transport.max_size)  # type: ignore[union-attr]
        response = web.StreamResponse()
        await response.prepare(request)
        await looked.wait()
        return response

    async with serving(take) as port, ClientSession() as session, session.post(url_of(port), data=b"abc") as response:
        transport: Any = response.connection and response.connection.transport
        stream = chunkwise.items(response, format="text")
        sizes.append(transport.max_size)
        looked.set()
        await read(stream)
    assert sizes == [120 * 1024] * 2


async def test_handshake_request_gives_the_messages() -> None:
    """The source reads the messages with items(request); events(request) is refused."""

    async def doubled(request: web.Request) -> AsyncIterator[int]:
        with pytest.raises(TypeError, match=r"use items\(\)"):
            chunkwise.events(request)
        async for number in chunkwise.items(request, "n", type=int):
            yield 2 * number

    async with (
        serving(chunkwise.streaming(doubled)) as port,
        ClientSession() as session,
        session.ws_connect(url_of(port)) as websocket,
    ):
        for number in (1, 2):
            await websocket.send_json({"n": number})
            assert await websocket.receive_json() == 2 * number
        await websocket.send_json({"n": "no number"})
        assert (await websocket.receive()).data == WSCloseCode.INVALID_TEXT


async def test_websocket_text_is_one_string_per_message() -> None:
    async with (
        serving(streams(lambda: ["ä", "", "b\r\nc"], "text")) as port,
        ClientSession() as session,
        session.ws_connect(url_of(port)) as websocket,
    ):
        with pytest.raises(TypeError, match=r"use items\(\)"):
            chunkwise.events(websocket)  # type: ignore[arg-type]
        came, error = await read(chunkwise.text(websocket))
    assert (came, error) == (["ä", "", "b\r\nc"], None)


async def test_bytes_after_the_total_timeout_are_lost() -> None:
    """After this timeout aiohttp does not deliver bytes, and the connection breaks."""
    more = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(NDJSON, CHUNKED) + chunked(b"1\n"))
        await more.wait()
        writer.write(chunked(b"2\n"))

    async with (
        talking(talk) as port,
        ClientSession(timeout=ClientTimeout(total=0.3)) as session,
        session.get(url_of(port)) as response,
    ):
        stream = chunkwise.items(response)
        assert await anext(aiter(stream)) == 1
        await asyncio.sleep(0.35)
        more.set()
        await until(lambda: response.content.exception() is not None)
        came, error = await read(stream)
    assert came == []
    assert isinstance(error, TruncatedError)
