"""`chunkwise get` with a WebSocket URL works as with an HTTP URL."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

import chunkwise
from tests.cli.running import CHUNKWISE, run, started
from tests.transports.wire import serving

ROWS = [{"n": 1, "name": "é"}, {"n": 2, "name": 'a "b"'}, {"n": 3, "name": ""}]


def lines_of(rows: object) -> list[bytes]:
    assert isinstance(rows, list)
    return [json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() for row in rows]


class Server:
    """A server that sends its first row at once, and the other rows when the test sets `go`."""

    def __init__(self) -> None:
        self.url = ""
        self.go = asyncio.Event()
        self.fails = False

    async def respond(self, request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, self._rows())

    async def _rows(self) -> AsyncIterator[object]:
        yield ROWS[0]
        await self.go.wait()
        for row in ROWS[1:]:
            yield row
        if self.fails:
            raise web.HTTPConflict(text="no more")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    kept = Server()
    async with serving(kept.respond) as port:
        kept.url = f"ws://127.0.0.1:{port}/0"
        yield kept


async def test_each_item_is_written_when_received(server: Server) -> None:
    with started(*CHUNKWISE, "get", server.url) as running:
        first = await asyncio.to_thread(running.stdout.readline)
        assert first.rstrip() == lines_of(ROWS)[0]
        server.go.set()
        done = await asyncio.to_thread(running.end)
    assert (done.code, done.lines) == (0, lines_of(ROWS)[1:])


async def test_path_and_format_work_over_websocket(server: Server, tmp_path: Path) -> None:
    server.go.set()
    done = await asyncio.to_thread(run, "get", server.url, "--path", "name")
    assert (done.code, done.lines) == (0, lines_of([row["name"] for row in ROWS]))
    file = tmp_path / "rows.json"
    done = await asyncio.to_thread(run, "get", server.url, "--format", "json", "-o", file)
    assert (done.code, json.loads(file.read_bytes())) == (0, ROWS)


async def test_failed_stream_exits_4_after_its_items(server: Server, tmp_path: Path) -> None:
    server.fails = True
    server.go.set()
    done = await asyncio.to_thread(run, "get", server.url)
    assert (done.code, done.lines) == (4, lines_of(ROWS))
    assert done.message == "the other side closed the WebSocket with 1011: Conflict"
    file = tmp_path / "rows.json"
    done = await asyncio.to_thread(run, "get", server.url, "-o", file)
    assert (done.code, file.exists()) == (4, False)


async def test_rejected_handshake_exits_4(server: Server) -> None:
    done = await asyncio.to_thread(run, "get", f"{server.url}/nothing")
    assert (done.code, done.message) == (4, "the server answered the WebSocket handshake with 404 Not Found")


def test_unreachable_server_exits_3() -> None:
    done = run("get", "ws://127.0.0.1:1/rows")
    assert (done.code, done.message) == (3, "cannot connect to 127.0.0.1:1: Connection refused")
