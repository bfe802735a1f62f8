"""Streams through a real nginx, with HTTP/1.0 (its default) or HTTP/1.1: its clients see items and failures."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise import FORMATS, RemoteError, TruncatedError, open_stream
from chunkwise.flow.inbound import ItemStream
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, NAMES, decoded, read_so_far, row
from tests.needs import needs_curl, needs_nginx
from tests.transports.proxying import READ_SECONDS, running_nginx
from tests.transports.reading import read
from tests.transports.watched import client_of, ends_whole, watched
from tests.transports.wire import body_of, curl, streams

pytestmark = needs_nginx

CONFIG = f"""
location ~ ^/default/(?<upstream>\\d+)(?<path>/.*) {{
    proxy_pass http://127.0.0.1:$upstream$path;
}}
location ~ ^/http11/(?<upstream>\\d+)(?<path>/.*) {{
    proxy_pass http://127.0.0.1:$upstream$path;
    proxy_http_version 1.1;
}}
location ~ ^/impatient/(?<upstream>\\d+)(?<path>/.*) {{
    proxy_pass http://127.0.0.1:$upstream$path;
    proxy_read_timeout {READ_SECONDS}s;
}}
"""

LOCATIONS = ["default", "http11"]
"""The HTTP version between nginx and our server: HTTP/1.0, nginx's default, or HTTP/1.1."""

every_way = each_row("location", LOCATIONS)
every_format = each_row("name", NAMES)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run nginx; yield its base URL."""
    with running_nginx(tmp_path_factory.mktemp("nginx"), CONFIG) as port:
        yield f"http://127.0.0.1:{port}"


def port_of(nginx: str) -> int:
    return int(nginx.rpartition(":")[2])


def path_to(location: str, port: int) -> str:
    return f"/{location}/{port}/0"


class Stepping:
    """A source that yields an item each time it is released, then ends or fails.

    Attributes:
        go: releases the next item.
        closed: set when the source has ended.
    """

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.go = asyncio.Semaphore(0)
        self.closed = asyncio.Event()
        self._count = count
        self._error = error

    async def rows(self) -> AsyncIterator[dict[str, str]]:
        try:
            for index in range(self._count):
                await self.go.acquire()
                yield row(index)
            await self.go.acquire()
            if self._error is not None:
                raise self._error
        finally:
            self.closed.set()


async def step_through(name: str, source: Stepping, stream: ItemStream, count: int = 3) -> None:
    """Release each item after the previous one was received, and read it; then release the end."""
    items = aiter(stream)
    for index in range(count):
        source.go.release()
        async with asyncio.timeout(GUARD_SECONDS):
            assert decoded(name, [await anext(items)]) == [row(index)]
    source.go.release()


@every_way
@every_format
@each_row("coding", ["identity", "gzip"])
async def test_our_client_gets_items_one_by_one(nginx: str, location: str, name: str, coding: str) -> None:
    source = Stepping(3)
    headers = {"Accept-Encoding": coding}
    async with (
        watched(streams(source.rows, name, commit_after_seconds=0)) as server,
        ClientSession(nginx, headers=headers) as session,
    ):
        async with open_stream(session, path_to(location, server.port)) as stream:
            assert stream.response.headers.get("Content-Encoding", "identity") == coding
            await step_through(name, source, stream)
            assert await read(stream) == ([], None)
            proven = name == "json" or FORMATS[name].end_record
            assert stream.end == ("proven" if proven else "framed")
        assert (await server.outcome()).end == "complete"


@every_way
@every_format
async def test_another_client_gets_items_one_by_one(nginx: str, location: str, name: str) -> None:
    source = Stepping(3)
    async with (
        watched(streams(source.rows, name, commit_after_seconds=0)) as server,
        client_of(port_of(nginx)) as client,
    ):
        await client.ask(path_to(location, server.port), Connection="close")
        for index in range(3):
            source.go.release()
            while read_so_far(name, body_of(client.came)) != [row(at) for at in range(index + 1)]:
                assert await client.read()
        source.go.release()
        assert await client.read_to_end() == "closed"
    assert ends_whole(client)


@every_way
@every_format
@each_row("coding", ["identity", "gzip"])
async def test_failure_is_raised_after_its_items(nginx: str, location: str, name: str, coding: str) -> None:
    sources = [Stepping(3, ValueError()), Stepping(3, ValueError())]
    rest = iter(sources)
    headers = {"Accept-Encoding": coding}
    async with (
        watched(streams(lambda: next(rest).rows(), name, commit_after_seconds=0)) as server,
        ClientSession(nginx, headers=headers) as session,
    ):
        path = path_to(location, server.port)
        async with session.get(path) as response:
            plain = chunkwise.items(response)
            await step_through(name, sources[0], plain)
            came, error = await read(plain)
            assert came == []
            assert isinstance(error, TruncatedError)
        async with open_stream(session, path) as stream:
            await step_through(name, sources[1], stream)
            came, error = await read(stream)
            assert came == []
            assert isinstance(error, RemoteError if FORMATS[name].end_record else TruncatedError)
        assert [(await server.outcome()).end for _ in sources] == ["failed", "failed"]


@every_way
@every_format
async def test_failed_stream_sends_no_last_chunk(nginx: str, location: str, name: str) -> None:
    source = Stepping(3, ValueError())
    async with (
        watched(streams(source.rows, name, commit_after_seconds=0)) as server,
        client_of(port_of(nginx)) as client,
    ):
        await client.ask(path_to(location, server.port))
        for _ in range(4):
            source.go.release()
        await client.read_to_end()
    assert client.came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert read_so_far(name, body_of(client.came)) == [row(index) for index in range(3)]
    assert not ends_whole(client)


@needs_curl
@every_way
async def test_curl_sees_failed_and_complete_streams(nginx: str, location: str) -> None:
    for error in (None, ValueError()):
        source = Stepping(3, error)
        for _ in range(4):
            source.go.release()
        async with watched(streams(source.rows, "ndjson")) as server:
            status, printed = await curl(nginx + path_to(location, server.port))
        assert status in ((18, 56) if error else (0,))
        assert read_so_far("ndjson", printed) == [row(index) for index in range(3)]


@every_way
@pytest.mark.parametrize("error", [None, ValueError()], ids=["whole", "failing"])
async def test_large_stream_arrives_up_to_its_last_item(nginx: str, location: str, error: Exception | None) -> None:
    async def rows() -> AsyncIterator[dict[str, str]]:
        for index in range(5000):
            yield row(index, 1000)
        if error is not None:
            raise error

    async with (
        watched(streams(rows, "ndjson")) as server,
        ClientSession(nginx) as session,
        session.get(path_to(location, server.port)) as response,
    ):
        came, failure = await read(chunkwise.items(response))
    assert [item["n"] for item in came] == [str(index) for index in range(5000)]
    assert isinstance(failure, TruncatedError) if error else failure is None


async def late(seconds: float) -> AsyncIterator[dict[str, str]]:
    yield row(0)
    await asyncio.sleep(seconds)
    yield row(1)


@pytest.mark.parametrize("name", ["json", "sse"])
async def test_keepalives_prevent_the_proxy_timeout(nginx: str, name: str) -> None:
    async def got(port: int) -> tuple[list[Any], Any]:
        async with ClientSession(nginx) as session, session.get(path_to("impatient", port)) as response:
            came, error = await read(chunkwise.items(response))
            return decoded(name, came), error

    kept = streams(lambda: late(2 * READ_SECONDS), name, keepalive_seconds=0.3)
    silent = streams(lambda: late(2 * READ_SECONDS), name, keepalive_seconds=0)
    async with watched(kept) as keeping, watched(silent) as other:
        (came, error), (cut, failure) = await asyncio.gather(got(keeping.port), got(other.port))
        assert (await keeping.outcome()).end == "complete"
        assert (await other.outcome()).end == "client_gone"
    assert (came, error) == ([row(0), row(1)], None)
    assert cut == [row(0)]
    assert isinstance(failure, TruncatedError)


@every_way
async def test_disconnect_from_nginx_closes_the_source(nginx: str, location: str) -> None:
    source = Stepping(2)
    async with watched(streams(source.rows, "ndjson", keepalive_seconds=0)) as server:
        async with client_of(port_of(nginx)) as client:
            await client.ask(path_to(location, server.port))
            source.go.release()
            await client.read_until(b"pad")
        async with asyncio.timeout(GUARD_SECONDS):
            await source.closed.wait()
        assert (await server.outcome()).end == "client_gone"


@every_way
async def test_early_failure_is_an_error_response(nginx: str, location: str) -> None:
    source = Stepping(0, ValueError())
    source.go.release()
    async with (
        watched(streams(source.rows)) as server,
        ClientSession(nginx) as session,
        session.get(path_to(location, server.port)) as response,
    ):
        assert response.status == 500
        assert response.content_type == "application/problem+json"
