"""Failures over real sockets: a failed stream never looks complete, in any format, to any client."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, web

import chunkwise
from chunkwise import EncodeError, TruncatedError
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, LIVE_NAMES, NAMES, Held, decoded, read_all, read_so_far, row, until
from tests.needs import needs_curl
from tests.transports.reading import read
from tests.transports.wire import body_of, connected, curl, serving, streams, talking, url_of

every_format = each_row("name", NAMES)
LAST = b"0\r\n\r\n"


ERRORS: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: ValueError("secret"),
    "http exception": web.HTTPNotFound,
    "redirect": lambda: web.HTTPFound("/elsewhere"),
    "cancelled": asyncio.CancelledError,
    "connection": lambda: ConnectionResetError("the database's"),
    "timeout": TimeoutError,
    "end of file": EOFError,
}
every_error = each_row("error", ERRORS)


async def failing(error: str, count: int = 3, *, waits: bool = False) -> AsyncIterator[dict[str, str]]:
    for index in range(count):
        yield row(index)
    if waits:
        await asyncio.sleep(0)
    cause = ERRORS[error]()
    raise cause


def failing_in_a_thread(error: str, count: int = 3) -> Iterator[dict[str, str]]:
    for index in range(count):
        yield row(index)
    cause = ERRORS[error]()
    raise cause


async def answer_to(source: Callable[[], Any], name: str, *, version: str = "1.1", requests: int = 1) -> bytes:
    async with serving(streams(source, name)) as port, connected(port) as wire:
        for _ in range(requests):
            wire.ask(version=version)
        return await wire.read_to_end()


@every_format
@every_error
@each_row("waits", [False, True], ids=["at once", "later"])
async def test_failed_stream_has_no_last_chunk(name: str, error: str, waits: bool) -> None:
    answer = await answer_to(lambda: failing(error, waits=waits), name, requests=2)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1, "expected no response to the pipelined request"
    assert read_so_far(name, body_of(answer)) == [row(0), row(1), row(2)]
    assert not answer.endswith(LAST)
    assert b"secret" not in answer


@every_format
async def test_failed_sync_source_closes_the_connection(name: str) -> None:
    answer = await answer_to(lambda: failing_in_a_thread("exception", 1000), name, requests=2)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert read_so_far(name, body_of(answer)) == [row(index) for index in range(1000)]
    assert not answer.endswith(LAST)


@every_format
async def test_unencodable_item_closes_the_connection(name: str) -> None:
    items = [row(index) for index in range(1000)]
    items[700] = {"n": object()}  # type: ignore[dict-item]
    answer = await answer_to(lambda: items, name, requests=2)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert read_so_far(name, body_of(answer)) == [row(index) for index in range(700)]
    assert not answer.endswith(LAST)


@every_format
@every_error
async def test_early_failure_is_an_error_response(name: str, error: str) -> None:
    answer = await answer_to(lambda: failing(error, 0), name, version="1.0")
    status = {"http exception": b"404", "redirect": b"302"}.get(error, b"500")
    assert answer[9:12] == status
    assert b"secret" not in answer


@pytest.mark.parametrize("name", LIVE_NAMES)
async def test_failed_part_of_a_document_closes_too(name: str) -> None:
    answer = await answer_to(lambda: {"users": failing("exception", waits=True), "total": asyncio.sleep(0)}, name)
    assert b'[{"n":"0","pad":""},{"n":"1","pad":""},{"n":"2","pad":""}' in answer
    assert not answer.endswith(LAST)


@every_format
async def test_empty_source_is_a_complete_stream(name: str) -> None:
    answer = await answer_to(lambda: iter(()), name, version="1.0")
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert read_all(name, answer.partition(b"\r\n\r\n")[2]) == []
    async with serving(streams(lambda: iter(()), name)) as port, connected(port) as wire:
        wire.ask()
        assert read_all(name, body_of(await wire.read_until(b"\r\n" + LAST))) == []


@every_format
async def test_failure_is_a_reset_under_http_1_0(name: str) -> None:
    answer = await answer_to(lambda: failing("exception", waits=True), name, version="1.0")
    assert answer.endswith(b" reset")


@every_format
async def test_our_client_raises_the_failure_after_items(name: str) -> None:
    async with (
        serving(streams(lambda: failing("exception", 1000), name)) as port,
        ClientSession() as session,
        session.get(url_of(port)) as response,
    ):
        stream = chunkwise.items(response)
        came, error = await read(stream)
    assert decoded(name, came) == [row(index) for index in range(1000)]
    assert isinstance(error, TruncatedError)
    assert error.items_seen == 1000


async def test_aiohttp_client_sees_the_failure() -> None:
    async with (
        serving(streams(lambda: failing("exception"), "ndjson")) as port,
        ClientSession() as session,
        session.get(url_of(port)) as response,
    ):
        with pytest.raises(ClientPayloadError):
            await response.read()


@needs_curl
@every_format
async def test_curl_sees_a_complete_stream(name: str) -> None:
    async with serving(streams(lambda: (row(index) for index in range(100)), name)) as port:
        for version in ("--http1.1", "--http1.0"):
            status, printed = await curl(version, url_of(port))
            assert status == 0
            assert read_all(name, printed) == [row(index) for index in range(100)]


@needs_curl
@every_format
@each_row(("version", "expected"), [("--http1.1", 18), ("--http1.0", 56)])
async def test_curl_sees_a_failed_stream(name: str, version: str, expected: int) -> None:
    go = asyncio.Event()

    async def source() -> AsyncIterator[dict[str, str]]:
        yield row(0)
        await go.wait()
        raise ValueError

    async with serving(streams(source, name)) as port:
        running = asyncio.create_task(curl(version, url_of(port)))
        await asyncio.sleep(0)
        go.set()
        status, printed = await running
    assert status == expected
    if version == "--http1.1":
        assert read_so_far(name, printed) == [row(0)]


async def test_failure_is_logged_once_with_its_position(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await answer_to(lambda: failing("exception"), "json")
    (record,) = caplog.records
    assert record.name == "chunkwise"
    assert record.getMessage() == "the source of GET /0 after 3 items failed: the response is incomplete"


async def test_slow_client_gets_items_before_a_failure() -> None:
    async def large() -> AsyncIterator[dict[str, str]]:
        for index in range(500):
            yield row(index, 10_000)
        raise ValueError

    async with serving(streams(large, "ndjson")) as port, connected(port) as wire:
        wire.ask()
        await wire.reader.readexactly(10)
        for _ in range(200):
            await asyncio.sleep(0)
        wire.came += b"HTTP/1.1 2"
        answer = await wire.read_to_end()
    assert len(read_so_far("ndjson", body_of(answer))) == 500
    assert not answer.endswith(LAST)


@pytest.mark.parametrize("error", ["exception", "connection", "cancelled"])
async def test_failed_upload_has_no_last_chunk(error: str) -> None:
    received = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            received.extend(data)

    async with talking(talk) as port, ClientSession() as session:
        with pytest.raises((ClientConnectionError, asyncio.CancelledError)):
            await session.post(url_of(port), data=chunkwise.body(failing(error, waits=True), "ndjson"))
    assert read_so_far("ndjson", body_of(received)) == [row(0), row(1), row(2)]
    assert not received.endswith(LAST)


async def test_upload_of_no_items_is_complete() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response([item async for item in chunkwise.items(request)])

    async with serving(handler) as port, ClientSession() as session:
        for name in NAMES:
            async with session.post(url_of(port), data=chunkwise.body(iter(()), name)) as response:
                assert await response.json() == []


async def test_upload_sends_its_content_type() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(text=request.headers["Content-Type"])

    data = chunkwise.body([row(0)], "csv")
    async with serving(handler) as port, ClientSession() as session, session.post(url_of(port), data=data) as response:
        assert await response.text() == "text/csv; charset=utf-8; header=present"


async def test_upload_of_an_unencodable_item_fails() -> None:
    async with serving(streams(list)) as port, ClientSession() as session:
        with pytest.raises(ClientConnectionError) as caught:
            await session.post(url_of(port), data=chunkwise.body([row(0), object()], "ndjson"))
    assert isinstance(caught.value.__cause__, EncodeError)


async def test_early_response_closes_a_waiting_source() -> None:
    held = Held()

    async def handler(request: web.Request) -> web.StreamResponse:
        async for _ in chunkwise.items(request):
            break
        return web.Response(status=202)

    async with serving(handler) as port, ClientSession() as session:
        async with session.post(url_of(port), data=chunkwise.body(held.rows(), "ndjson")) as response:
            assert response.status == 202
        await until(lambda: held.cleaned)
    assert held.ended == "CancelledError"


async def test_server_disconnect_closes_a_busy_source() -> None:
    ended = asyncio.Event()

    async def hot() -> AsyncIterator[dict[str, str]]:
        try:
            while True:
                yield row(0, 1000)
        finally:
            ended.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100_000)

    payload = chunkwise.body(hot(), "ndjson")  # kept in a variable, so that garbage collection does not close it
    async with talking(talk) as port, ClientSession() as session:
        with pytest.raises(ClientConnectionError):
            await session.post(url_of(port), data=payload)
        async with asyncio.timeout(GUARD_SECONDS):
            await ended.wait()
