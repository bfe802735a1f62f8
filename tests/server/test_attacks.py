"""What attacks on chunked HTTP found, once: the wire is read raw."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer

import chunkwise

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, *signals: Any) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_get("/", handler)
    app.on_response_prepare.extend(signals)
    server = TestServer(app)
    async with server:
        yield server


async def raw(server: TestServer, request: bytes) -> bytes:
    """Send a request, and read until the server closes."""
    assert server.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return answer


async def take(response: ClientResponse, seen: list[str]) -> None:
    async for row in chunkwise.items(response):
        seen.append(row["a"])  # noqa: PERF401 - what came before the error is wanted


async def two() -> AsyncIterator[int]:
    yield 1
    yield 2


async def test_http_1_0_with_keep_alive_ends_when_the_stream_does() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, two(), "ndjson")

    async with serving(handler) as server:
        answer = await raw(server, b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n1\n2\n")


async def test_a_signal_that_sets_a_length_breaks_the_stream() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, two(), "ndjson")

    async def signal(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Content-Length"] = "2"

    async with serving(handler, signal) as server:
        answer = await raw(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")  # the head promises two bytes, none come


async def test_a_signal_that_fails_breaks_the_connection_off(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, two(), "ndjson")

    async def signal(request: web.Request, response: web.StreamResponse) -> None:
        raise ConnectionResetError  # of a cache, say: it is no client that has left

    async with serving(handler, signal) as server:
        assert await raw(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert "failed" in caplog.text


async def test_a_gzip_stream_cut_inside_intact_framing_is_not_taken_for_whole() -> None:
    rows = b"a\r\n" + b"".join(b"%d\r\n" % number for number in range(100_000, 101_000))
    engine = zlib.compressobj(wbits=31)
    cut = engine.compress(rows[:-4]) + engine.flush(zlib.Z_SYNC_FLUSH)

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=cut, headers={"Content-Encoding": "gzip", "Content-Type": "text/csv"})

    seen: list[str] = []
    async with serving(handler) as server, ClientSession() as session, session.get(server.make_url("/")) as response:
        with pytest.raises(chunkwise.TruncatedError):
            await take(response, seen)
    assert seen == [str(number) for number in range(100_000, 100_999)]


async def test_a_future_is_one_value() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        future = asyncio.get_running_loop().create_future()
        future.set_result({"n": 1})
        return await chunkwise.respond(request, future, "json")

    async with serving(handler) as server, ClientSession() as session, session.get(server.make_url("/")) as response:
        assert await response.json() == {"n": 1}


async def test_a_document_is_uploaded_as_one() -> None:
    app = web.Application()

    async def upload(request: web.Request) -> web.StreamResponse:
        return web.json_response([item async for item in chunkwise.items(request, "users.item")])

    app.router.add_post("/", upload)
    async with TestServer(app) as server, ClientSession() as session:
        body = chunkwise.body({"users": two()}, "json")
        async with session.post(server.make_url("/"), data=body) as response:
            assert await response.json() == [1, 2]


async def test_a_function_is_no_source() -> None:
    with pytest.raises(TypeError, match="call it"):
        chunkwise.body(two, "json")


async def test_a_document_is_not_offered_as_csv() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, {"users": two()})

    async with (
        serving(handler) as server,
        ClientSession() as session,
        session.get(server.make_url("/"), headers={"Accept": "text/csv"}) as response,
    ):
        assert response.status == 406
        assert "text/csv" not in (await response.json(content_type=None))["available"]


@pytest.mark.parametrize(("accept", "status"), [("text/csv", 200), ("image/png", 406)])
async def test_a_list_of_one_format_is_a_negotiation_and_says_so(accept: str, status: int) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, iter([{"n": 1}]), ["csv"])

    async with (
        serving(handler) as server,
        ClientSession() as session,
        session.get(server.make_url("/"), headers={"Accept": accept}) as response,
    ):
        assert (response.status, response.headers["Vary"].split(", ")[0]) == (status, "Accept")


async def test_what_was_read_before_is_given_or_its_lack_is_told() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, two(), "ndjson")

    async with serving(handler) as server, ClientSession() as session:
        url = server.make_url("/")
        async with session.get(url) as response:
            await response.read()
            assert [item async for item in chunkwise.items(response)] == [1, 2]
        async with session.get(url) as response:
            assert [item async for item in chunkwise.items(response)] == [1, 2]
            with pytest.raises(chunkwise.StreamError, match="4 of 4 bytes of the message were read by others"):
                [item async for item in chunkwise.items(response)]
        async with session.get(url) as response:
            await response.content.readline()
            stream = chunkwise.items(response)
            assert await anext(aiter(stream)) == 2
            with pytest.raises(chunkwise.StreamError, match="2 of 4 bytes of the message were read by others"):
                [item async for item in stream]


async def test_an_upload_that_a_middleware_has_read_is_read_again() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response([item async for item in chunkwise.items(request)])

    async with serving(handler) as server, ClientSession() as session:
        data = chunkwise.body([1, 2], "ndjson")
        async with session.get(server.make_url("/"), data=data) as response:
            assert await response.json() == [1, 2]


async def test_nothing_proves_the_end_of_a_compressed_upload() -> None:
    ends: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        stream = chunkwise.items(request)
        came = [item async for item in stream]
        ends.append(stream.end)
        return web.json_response(came)

    compressing = zlib.compressobj(wbits=31)
    cut = compressing.compress(b"1\n") + compressing.flush(zlib.Z_SYNC_FLUSH)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
    async with (
        serving(handler) as server,
        ClientSession() as session,
        session.get(server.make_url("/"), data=cut, headers=headers) as response,
    ):
        assert await response.json() == [1]
    assert ends == ["unknown"]


async def test_a_timeout_of_the_whole_session_says_that_it_is_one() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(5)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, source(), "ndjson")

    async with (
        serving(handler) as server,
        ClientSession(timeout=ClientTimeout(total=0.3)) as session,
        session.get(server.make_url("/")) as response,
    ):
        with pytest.raises(chunkwise.TruncatedError, match="the session's total timeout is over"):
            [item async for item in chunkwise.items(response)]


@pytest.mark.parametrize(
    ("options", "error"), [({"formt": "json"}, TypeError), ({"format": "xml"}, chunkwise.UnknownFormat)]
)
def test_a_wrong_option_is_told_where_it_stands(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        chunkwise.streaming(**options)


async def test_a_handler_that_is_cancelled_because_its_client_left_has_no_error() -> None:
    outcomes: list[chunkwise.Outcome] = []
    begun = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        begun.set()
        await asyncio.sleep(60)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, source(), "ndjson")

    app = web.Application()
    app.router.add_get("/", handler)
    chunkwise.setup(app, on_outcome=lambda _, outcome: outcomes.append(outcome))
    async with TestServer(app) as server, ClientSession() as session:  # it has handler_cancellation
        async with session.get(server.make_url("/")):
            await begun.wait()
        async with asyncio.timeout(20):
            while not outcomes:
                await asyncio.sleep(0.01)
    assert [(outcome.end, outcome.error) for outcome in outcomes] == [("client_gone", None)]
