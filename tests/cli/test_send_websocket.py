"""`chunkwise send` with a WebSocket URL: each item is sent as a message, and each item received is a line."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

import chunkwise
from tests.cli.running import folder_of, run
from tests.transports.wire import serving


class Server:
    """A server that sends each item back."""

    def __init__(self) -> None:
        self.url = ""
        self.heard: list[object] = []

    async def respond(self, request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, self._heard(request))

    async def _heard(self, request: web.Request) -> AsyncIterator[object]:
        async for item in chunkwise.items(request):
            self.heard.append(item)
            yield item


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    kept = Server()
    async with serving(kept.respond) as port:
        kept.url = f"ws://127.0.0.1:{port}/0"
        yield kept


async def test_items_are_sent_and_response_is_written(server: Server, tmp_path: Path) -> None:
    folder_of(tmp_path, {"rows.csv": "n,name\n1,é\n2,b\n"})
    done = await asyncio.to_thread(run, "send", tmp_path / "rows.csv", server.url)
    assert (done.code, done.lines) == (0, ['{"n":"1","name":"é"}'.encode(), b'{"n":"2","name":"b"}'])
    assert server.heard == [{"n": "1", "name": "é"}, {"n": "2", "name": "b"}]


async def test_bad_file_exits_6_after_its_good_items(server: Server, tmp_path: Path) -> None:
    folder_of(tmp_path, {"rows.ndjson": '{"n":1}\n{oops\n'})
    done = await asyncio.to_thread(run, "send", tmp_path / "rows.ndjson", server.url)
    assert (done.code, server.heard) == (6, [{"n": 1}])
    assert "(format ndjson, item 1, byte 9)" in done.message


async def test_other_method_is_rejected(server: Server, tmp_path: Path) -> None:
    folder_of(tmp_path, {"rows.ndjson": "1\n"})
    done = await asyncio.to_thread(run, "send", tmp_path / "rows.ndjson", server.url, "--method", "PUT")
    assert (done.code, server.heard) == (2, [])


async def test_early_end_of_response_exits_5(tmp_path: Path) -> None:
    async def first(request: web.Request) -> AsyncIterator[object]:
        yield await anext(chunkwise.items(request))

    async def respond(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, first(request))

    folder_of(tmp_path, {"rows.ndjson": "1\n" * 1_000_000})
    async with serving(respond) as port:
        done = await asyncio.to_thread(run, "send", tmp_path / "rows.ndjson", f"ws://127.0.0.1:{port}/0")
    assert (done.code, done.out) == (5, b"1\n")
    assert done.message.startswith("the server responded before it received all of rows.ndjson (")
