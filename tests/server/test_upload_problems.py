"""A bad upload whose error the handler does not catch -> a response with problem details, without secrets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

import chunkwise
from chunkwise import DecodeError, RemoteError, StreamError
from chunkwise.flow.inbound import Inbound
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS
from tests.transports.reading import NDJSON
from tests.transports.watched import watched
from tests.transports.wire import Handler, answering, head, serving, talking, url_of

PROBLEM_TYPE = "application/problem+json"


class User(msgspec.Struct):
    name: str


async def count(request: web.Request) -> web.StreamResponse:
    """Read users without catching errors."""
    options: dict[str, Any] = {"type": User} if request.query.get("typed") else {}
    options |= {"max_item_bytes": int(request.query.get("limit", 1000)), "path": request.query.get("path", "")}
    found = chunkwise.items(request, required=bool(options["path"]), **options)
    return web.json_response(len([item async for item in found]))


async def transformed(request: web.Request) -> web.StreamResponse:
    """Respond with a stream that is made from an upload."""

    async def sizes() -> AsyncIterator[int]:
        async for item in chunkwise.items(request):
            yield len(item)

    return await chunkwise.respond(request, sizes(), "ndjson", compress=False)


@chunkwise.streaming(format="ndjson", compress=False)
async def streamed(request: web.Request) -> AsyncIterator[int]:
    async for item in chunkwise.items(request):
        yield len(item)


async def post(
    port: int, body: bytes, content_type: str = "application/x-ndjson", path: str = "/0"
) -> tuple[int, str, Any]:
    async with (
        asyncio.timeout(GUARD_SECONDS),
        ClientSession() as session,
        session.post(url_of(port, path), data=body, headers={"Content-Type": content_type}) as response,
    ):
        return response.status, response.content_type, msgspec.json.decode(await response.read())


@each_row(
    ("body", "content_type", "query", "status", "members"),
    [
        (b'["a"]\n{"name"\n', "application/x-ndjson", "", 422, {"format": "ndjson", "item": 1}),
        (b'{"name":"a"}\n{"name":1}\n', "application/x-ndjson", "typed=1", 422, {"format": "ndjson", "item": 1}),
        (b'[{"name":"a"},{}]', "application/json", "typed=1", 422, {"format": "json", "item": 1}),
        (b'[1,"' + b"2" * 2000 + b'"]', "application/json", "", 413, {"format": "json", "item": 1}),
        (b"[1, 2, ", "application/json", "", 400, {"format": "json", "item": 2, "byte": 7}),
        (b"<a/>", "application/xml", "", 415, {}),
        (b"[1]", "application/json", "path=a.b", 422, {}),
    ],
)
async def test_bad_upload_gets_problem_details(
    body: bytes, content_type: str, query: str, status: int, members: dict[str, Any]
) -> None:
    async with watched(count) as server:
        came, answer_type, problem = await post(server.port, body, content_type, f"/0?{query}")
    assert (came, answer_type, problem["status"]) == (status, PROBLEM_TYPE, status)
    assert problem["detail"]
    assert {name: problem.get(name) for name in members} == members
    assert problem.keys() <= {"title", "status", "detail", "format", "item", "byte"}


async def test_detail_names_the_item() -> None:
    async with watched(count) as server:
        _, _, problem = await post(server.port, b"1\n2\noops\n")
    assert "item 2" in problem["detail"]


@pytest.mark.parametrize("content_type", ["", "image/png", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("handler", [count, streamed])
async def test_detail_names_the_accepted_types(handler: Handler, content_type: str) -> None:
    async with watched(handler) as server:
        status, _, problem = await post(server.port, b"1\n", content_type)
    assert status == 415
    shown = f"content type '{content_type}'" if content_type else "no content type"
    assert problem["detail"].startswith(f"got {shown}, ")
    assert "expected one of application/json, " in problem["detail"]
    assert problem["detail"].endswith("; name it in the Content-Type header")


async def test_good_upload_gets_the_handler_response() -> None:
    async with watched(count) as server:
        assert await post(server.port, b"1\n2\n") == (200, "application/json", 2)


async def test_sub_application_sends_the_problem() -> None:
    app, sub = web.Application(), web.Application()
    sub.router.add_post("/count", count)
    app.add_subapp("/sub", sub)
    async with watched(app=app) as server:
        status, _, problem = await post(server.port, b"1\noops\n", path="/sub/count")
    assert (status, problem["item"]) == (422, 1)


async def test_handler_may_catch_the_error() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            return await count(request)
        except StreamError as error:
            return web.json_response(str(error), status=409)

    async with watched(handler) as server:
        status, _, told = await post(server.port, b"1\noops\n")
    assert status == 409
    assert "item 1" in told


def copying(url: str) -> Handler:
    """Return a handler that reads its upload, then a malformed response of another server."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert [item async for item in chunkwise.items(request)] == [1]
        async with ClientSession() as session, session.get(url) as response:
            return web.json_response([item async for item in chunkwise.items(response)])

    return handler


def streaming_copy(url: str) -> Handler:
    """Do the same inside a streamed response."""

    # The status line waits for the failure, even on a busy machine.
    @chunkwise.streaming(format="ndjson", compress=False, commit_after_seconds=30)
    async def handler(request: web.Request) -> AsyncIterator[Any]:
        assert [item async for item in chunkwise.items(request)] == [1]
        async with ClientSession() as session, session.get(url) as response:
            async for item in chunkwise.items(response):
                yield item

    return handler


@pytest.mark.parametrize("make", [copying, streaming_copy])
@pytest.mark.parametrize("bad", [b"oops\n", b"1" * 3])
async def test_error_in_another_response_is_a_500(make: Any, bad: bytes) -> None:
    length = len(bad) + (bad == b"111") * 5  # a length over the data makes the response truncated
    async with (
        answering(head(NDJSON, f"Content-Length: {length}"), bad) as other,
        watched(make(url_of(other))) as server,
        ClientSession() as session,
        session.post(url_of(server.port), data=b"1\n", headers={"Content-Type": "application/x-ndjson"}) as response,
    ):
        assert response.status == 500
        assert b"item" not in await response.read()


@pytest.mark.parametrize("handler", [transformed, streamed])
async def test_bad_upload_before_the_stream_is_a_4xx(handler: Handler) -> None:
    async with watched(handler) as server:
        status, answer_type, problem = await post(server.port, b"oops\n")
        outcome = await server.outcome()
    assert (status, answer_type, problem["item"]) == (422, PROBLEM_TYPE, 0)
    assert (outcome.end, outcome.status) == ("failed", 422)
    assert isinstance(outcome.error, DecodeError)


@pytest.mark.parametrize("handler", [transformed, streamed])
async def test_bad_upload_during_the_stream_ends_it(handler: Handler) -> None:
    answered = asyncio.Event()

    async def upload() -> AsyncIterator[bytes]:
        yield b'"a"\n'
        await answered.wait()
        yield b"oops\n"
        await asyncio.Event().wait()

    came: list[Any] = []
    headers = {"Content-Type": "application/x-ndjson", "Prefer": "stream-end"}

    async def read_on(stream: Inbound) -> None:
        async for item in stream:
            came.append(item)
            answered.set()

    async with (
        watched(handler) as server,
        asyncio.timeout(GUARD_SECONDS),
        ClientSession() as session,
        session.post(url_of(server.port), data=upload(), headers=headers) as response,
    ):
        assert response.status == 200
        with pytest.raises(RemoteError) as raised:
            await read_on(chunkwise.items(response))
    assert came == [1]
    assert (raised.value.status, raised.value.problem["item"], raised.value.problem["format"]) == (422, 1, "ndjson")


async def test_endless_upload_gets_the_problem() -> None:
    made = 0
    closed = asyncio.Event()

    async def rows() -> AsyncIterator[Any]:
        nonlocal made
        try:
            while True:
                made += 1
                yield {"name": "x" if made != 1001 else 0}
        finally:
            closed.set()

    async with watched(count) as server, asyncio.timeout(GUARD_SECONDS), ClientSession() as session:
        opened = chunkwise.open_stream(
            session, url_of(server.port, "/0?typed=1"), method="POST", data=chunkwise.body(rows(), "ndjson")
        )
        with pytest.raises(RemoteError, match="item 1000") as raised:
            await opened.__aenter__()
        assert closed.is_set()
    assert raised.value.status == 422
    assert raised.value.problem["item"] == 1000


async def test_bad_upload_without_setup_is_a_500() -> None:
    async with (
        serving(count) as port,
        ClientSession() as session,
        session.post(url_of(port), data=b"x\n", headers={"Content-Type": "application/x-ndjson"}) as response,
    ):
        assert response.status == 500


@pytest.mark.parametrize("read", [chunkwise.text, chunkwise.events], ids=lambda read: str(read.__name__))
async def test_every_reader_reports_a_bad_upload(read: Any) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response([piece async for piece in read(request)])

    app = web.Application()
    app.router.add_post("/", handler)
    chunkwise.setup(app)
    async with (
        TestServer(app) as server,
        ClientSession() as session,
        session.post(server.make_url("/"), data=b"\xff") as got,
    ):
        assert (got.status, got.content_type) == (422, "application/problem+json")


async def given_up_twice(clean_up: Callable[[], Awaitable[object]]) -> list[str]:
    """Let aiohttp cancel an upload, and again while its source cleans up; return how the cleanup ended."""
    cleaning = asyncio.Event()
    ended = []

    async def rows() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            cleaning.set()
            try:
                await clean_up()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            ended.append("whole")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"1\n")
        writer.write(head("Content-Length: 1"))
        await reader.read()

    body = chunkwise.body(rows(), "ndjson")
    async with talking(talk) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        response = await session.post(url_of(port), data=body)
        response.close()
        await cleaning.wait()
        for _ in range(2):  # the first of these starts the time limit, and the second does not extend it
            response.close()
        await body.wait_closed()
    return ended


async def test_cleanup_survives_two_cancellations() -> None:
    assert await given_up_twice(lambda: asyncio.sleep(0.02)) == ["whole"]


async def test_endless_cleanup_is_cancelled() -> None:
    assert await given_up_twice(asyncio.Event().wait) == ["cancelled"]


async def test_cancellation_at_any_turn_closes_the_source() -> None:
    async def rows() -> AsyncIterator[int]:
        while True:
            yield 1
            await asyncio.sleep(0)

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(talk) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        for turns in range(60):
            source: Any = rows()
            body = chunkwise.body(source, "ndjson")
            posting = asyncio.create_task(session.post(url_of(port), data=body))
            for _ in range(turns):
                await asyncio.sleep(0)
            posting.cancel()
            await asyncio.wait({posting})
            await body.wait_closed()
            assert source.ag_frame is None, turns


async def test_error_of_the_handler_is_a_500() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.content.read(1)
        return await count(request)

    headers = {"Content-Type": "application/x-ndjson"}
    async with (
        watched(handler) as server,
        ClientSession() as session,
        session.post(url_of(server.port), data=b"11\n2\n", headers=headers) as answer,
    ):
        assert answer.status == 500
        assert "read by others" not in await answer.text()
