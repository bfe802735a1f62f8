"""A program of a user for the type checkers. It is checked, but never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, assert_type

from aiohttp import ClientResponse, ClientSession, web

import chunkwise
from chunkwise.formats import Decoder, Format, by_suffix
from chunkwise.formats.contract import Limits
from chunkwise.formats.sse import ServerSentEvent
from chunkwise.testing import FaultProxy, cut_at, format_cases


@dataclass
class User:
    name: str


routes = web.RouteTableDef()


@routes.get("/users")
@chunkwise.streaming
async def users(request: web.Request) -> AsyncIterator[User]:
    yield User("Tom")


@routes.get("/table")
@chunkwise.streaming(format=["csv", "json"], stall_seconds=5.0, headers={"X-Table": "1"})
def table(request: web.Request) -> Iterator[dict[str, str]]:
    yield {"name": "Tom"}


@routes.get("/report")
async def report(request: web.Request) -> web.StreamResponse:
    document = {"users": [User("Tom")], "total": 1}
    return await chunkwise.respond(request, document, "json", compress=False)


@routes.get("/numbers")
async def numbers(request: web.Request) -> web.StreamResponse:
    return await chunkwise.respond(request, chunkwise.resumable(lambda start: range(start, 9), etag="v1", total=9))


@routes.post("/users")
async def add(request: web.Request) -> web.Response:
    stream = chunkwise.items(request, "item", type=User, required=True, max_depth=9, max_item_bytes=1024)
    try:
        names: list[str] = [user.name async for user in stream]
    except chunkwise.LimitError as error:
        assert_type(error.item_index, int | None)
        raise web.HTTPRequestEntityTooLarge(max_size=1024, actual_size=0) from error
    except chunkwise.StreamError as error:
        return web.Response(status=400, text=str(error))
    assert_type(stream.items_seen, int)
    return web.json_response(names)


def ended(request: web.BaseRequest, outcome: chunkwise.Outcome) -> None:
    assert_type(outcome.items, int)
    assert_type(outcome.seconds, float)


def by_url(response: ClientResponse) -> Format:
    return by_suffix(response.url.name)


def report_break(error: chunkwise.StreamError) -> None:
    assert_type(error.message, str)


async def read(url: str) -> list[Any]:
    got: list[Any] = []
    async with ClientSession() as session:
        async with chunkwise.open_stream(session, url, type=User, idle_seconds=5.0, max_reconnects=3) as stream:
            got += [user async for user in stream]
            async for batch in stream.batches():
                assert_type(batch, list[Any])
            assert_type(stream.bytes_seen, int)
            assert_type(stream, chunkwise.Stream)
            point = stream.resume_point(len(got), got[-1])
            assert_type(point, chunkwise.ResumePoint | None)
        async with chunkwise.open_stream(
            session, url, format=by_url, resume_from=point, on_reconnect=report_break
        ) as stream:
            got += [user async for user in stream]
        async with session.get(url) as response:
            async for prefix, event, value in chunkwise.events(response):
                got.append((prefix, event, value))
            got += ["".join([text async for text in chunkwise.text(response)])]
        await session.post(url, data=chunkwise.body([User("Tom")], "ndjson"))
    return got


def without_network(data: bytes) -> list[Any]:
    sse: Format = chunkwise.FORMATS["sse"]
    decoder: Decoder = sse.decoder(type=ServerSentEvent, limits=Limits(max_depth=3))
    return decoder.feed(data) + decoder.finish(framed=True)


async def tests(port: int) -> None:
    async with FaultProxy("127.0.0.1", port, cut_at(100)) as proxy:
        assert_type(proxy.port, int)
    for case in format_cases(chunkwise.FORMATS["ndjson"], [1, 2, 3]):
        await case.run()


def main() -> None:
    app = web.Application()
    app.add_routes(routes)
    chunkwise.setup(app, grace_seconds=5.0, on_outcome=ended)
    web.run_app(app, port=8081)
