"""The routes below /wire: the bytes of the demo's own responses, as received from the socket."""

import json
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from aiohttp.test_utils import BaseTestServer, TestServer
from yarl import URL

import chunkwise
from chunkwise.demo.app import make_app
from chunkwise.demo.wire import _Frames
from tests.demo.tutorial import CLOSE, FRAMES, LINES, NESTED, SSE, USERS, encoded
from tests.transports.websocket_peer import frame


@pytest_asyncio.fixture
async def server() -> AsyncIterator[BaseTestServer]:
    async with TestServer(make_app()) as serving:
        yield serving


async def wire(server: BaseTestServer, path: str | URL) -> tuple[bytes, bytes, str]:
    """Return the head, the bytes after it, and how the connection ended."""
    url = server.make_url(f"/wire{path}") if isinstance(path, str) else path
    async with ClientSession() as session, chunkwise.open_stream(session, url) as stream:
        *reads, end = [item async for item in stream]
    seconds = [read["seconds"] for read in (*reads, end)]
    assert seconds == sorted(seconds)
    assert len(reads) > 1 or "non-chunked" in str(path)
    head, _, rest = "".join([read["bytes"] for read in reads]).encode("latin-1").partition(b"\r\n\r\n")
    return head, rest, end["end"]


def chunked(*chunks: str) -> bytes:
    """RFC 9112 §7.1."""
    return b"".join([b"%x\r\n%b\r\n" % (len(encoded(chunk)), encoded(chunk)) for chunk in chunks])


RESETS = struct.pack("ii", 1, 0)
LAST = b"0\r\n\r\n"


async def test_chunks_have_sizes_and_a_last_chunk(server: BaseTestServer) -> None:
    head, rest, end = await wire(server, "/chunked?interval=0.02")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert (rest, end) == (chunked(*LINES) + LAST, "closed")
    _, rest, end = await wire(server, "/json?interval=0.02")
    assert rest.endswith(LAST)
    assert rest.startswith(chunked(f"[{USERS[0]}", f",{USERS[1]}"))


async def test_failure_has_no_last_chunk(server: BaseTestServer) -> None:
    _, rest, end = await wire(server, "/chunked?interval=0.02&fail=2")
    assert (rest, end) == (chunked(*LINES[:2]), "closed")


async def test_reset_is_shown_as_the_end(server: TestServer) -> None:
    assert server.runner is not None
    async with ClientSession() as session, chunkwise.open_stream(session, server.make_url("/wire/chunked")) as stream:
        first = await anext(stream)
        assert "bytes" in first
        assert server.runner.server is not None
        asked = [connection._current_request for connection in server.runner.server.connections]
        [transport] = [request.transport for request in asked if request is not None and request.path == "/chunked"]
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        transport.abort()
        *_, last = [item async for item in stream]
    assert last["end"] == "reset"


async def test_buffered_response_has_a_length(server: BaseTestServer) -> None:
    head, rest, _ = await wire(server, "/non-chunked?interval=0")
    assert f"Content-Length: {len(rest)}".encode() in head
    assert rest == "".join(LINES).encode()


async def test_frames_are_shown_and_close_is_answered(server: BaseTestServer) -> None:
    head, rest, end = await wire(server, "/ws?interval=0.02")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert (rest, end) == (b"".join(FRAMES) + CLOSE, "closed")
    _, rest, end = await wire(server, "/ws?interval=0.02&items=3&size=70000")  # frames of all three lengths
    assert rest.count(b"x" * 70_000) == 3
    assert (rest.endswith(b"complete; items=3"), end) == (True, "closed")
    _, rest, end = await wire(server, "/ws?interval=0.02&items=3&size=300")
    assert (rest.endswith(b"complete; items=3"), end) == (True, "closed")
    _, rest, _ = await wire(server, "/ws?interval=0.02&fail=1")
    assert rest == FRAMES[0] + b"\x88\x15\x03\xf3Service Unavailable"


async def test_each_lane_has_its_own_wire(server: BaseTestServer) -> None:
    _, rest, _ = await wire(server, "/nested?interval=0.02")
    assert json.loads(NESTED)["settings"]["theme"].encode() in rest
    _, rest, _ = await wire(server, "/sse?interval=0.02")
    assert rest.startswith(chunked(*SSE[:2]))


async def test_other_routes_are_not_found(server: BaseTestServer) -> None:
    async with ClientSession() as session:
        for path in ("/wire/wire", "/wire/fail", "/wire/", "/wire/..%2fchunked", "/wire/chunked/x"):
            async with session.get(server.make_url(path)) as response:
                assert response.status == 404


async def test_query_cannot_add_headers(server: BaseTestServer) -> None:
    url = URL(f"{server.make_url('/wire/chunked')}?interval=0.02&x=%0d%0aX-A:%20%0d%0a%0d%0aGET%20/fail", encoded=True)
    _, rest, _ = await wire(server, url)
    assert rest == chunked(*LINES) + LAST


def test_close_frame_is_found_in_any_split() -> None:
    data = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    data += b"".join(frame("x" * size) for size in (0, 5, 125, 126, 65535, 65536)) + CLOSE
    for size in (1, 2, 7, 1000, len(data)):
        frames = _Frames()
        found = [frames.closed_by(data[start : start + size]) for start in range(0, len(data), size)]
        assert found.index(True) == (len(data) - len(CLOSE) + 1) // size


async def test_page_is_served_with_a_policy(server: BaseTestServer) -> None:
    async with ClientSession() as session, session.get(server.make_url("/")) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        assert "default-src" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("query", ["interval=-1", "interval=1e9", "interval=61", "interval=x", "interval="])
async def test_invalid_pace_is_a_bad_request(server: BaseTestServer, query: str) -> None:
    async with ClientSession() as session, session.get(server.make_url(f"/json?{query}")) as response:
        assert response.status == 400
        assert "interval: got" in await response.text()
