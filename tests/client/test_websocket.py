"""`open_stream` over WebSockets: the handshake, errors, and the close that is sent when the caller leaves."""

import asyncio
import time
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession, ClientWebSocketResponse, CookieJar, web
from msgspec import Struct

import chunkwise
from chunkwise import (
    DecodeError,
    PathNotFound,
    RemoteError,
    StalledError,
    TruncatedError,
    body,
    items,
    open_stream,
)
from chunkwise.formats.messages import SUBPROTOCOL
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS, Held
from tests.transports.websocket_peer import (
    PING,
    PONG,
    Frame,
    Peer,
    complete,
    frame,
    listening,
    server,
)
from tests.transports.wire import serving, streams, url_of

in_both_framings = each_row("subprotocol", ["", SUBPROTOCOL], ids=["a message each", "batches"])


class Point(Struct):
    n: int


async def all_of(url: str, *args: Any, **options: Any) -> list[Any]:
    async with (
        asyncio.timeout(GUARD_SECONDS),
        ClientSession() as session,
        open_stream(session, url, *args, **options) as stream,
    ):
        return [item async for item in stream]


def ws(port: int, path: str = "/0") -> str:
    return f"ws://127.0.0.1:{port}{path}"


def rows() -> list[dict[str, int]]:
    return [{"n": 1}, {"n": 2}]


# ---- the request


async def test_path_and_type_apply_to_each_message() -> None:
    async with serving(streams(rows)) as port:
        assert await all_of(ws(port), "n") == [1, 2]
        assert await all_of(ws(port), type=Point) == [Point(1), Point(2)]
        assert await all_of(ws(port), "m") == []
        with pytest.raises(PathNotFound):
            await all_of(ws(port), "m", required=True)
        with pytest.raises(DecodeError) as raised:
            await all_of(ws(port), type=str)
    assert raised.value.item_index == 0


async def test_text_messages_are_strings() -> None:
    async with serving(streams(lambda: ["1", "Zoë\n2", ""], "text")) as port:
        assert await all_of(ws(port), format="text") == ["1", "Zoë\n2", ""]


async def test_handshake_sends_the_headers() -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return await chunkwise.respond(request, rows())

    async with serving(handler) as port:
        base, jar = url_of(port, "/"), CookieJar(unsafe=True)
        jar.update_cookies({"who": "Tom"})
        async with ClientSession(cookie_jar=jar, headers={"X-Session": "s"}) as session:
            url, options = ws(port), {"params": {"q": "ä"}, "headers": {"X-Mine": "m"}, "format": "ndjson"}
            async with open_stream(session, url, **options) as stream:  # type: ignore[arg-type]
                assert [item async for item in stream] == rows()
        async with ClientSession(base.replace("http", "ws")) as session, open_stream(session, "/0") as stream:
            assert [item async for item in stream] == rows()
    request = seen[0]
    assert (request.query["q"], request.cookies["who"]) == ("ä", "Tom")
    assert (request.headers["X-Session"], request.headers["X-Mine"]) == ("s", "m")
    assert request.headers["Accept"].startswith("application/x-ndjson,")
    assert request.headers["Sec-WebSocket-Protocol"] == SUBPROTOCOL


async def test_websocket_stream_has_all_attributes() -> None:
    async with serving(streams(rows)) as port, ClientSession() as session:
        async with open_stream(session, ws(port)) as stream:
            assert isinstance(stream.websocket, ClientWebSocketResponse)
            with pytest.raises(TypeError, match=r"\.websocket"):
                _ = stream.response
            assert [item async for batch in stream.batches() if (item := batch)] == [rows()]
            assert (stream.items_seen, stream.end, stream.failure) == (2, "proven", None)
        async with open_stream(session, url_of(port)) as stream:
            with pytest.raises(TypeError, match=r"\.response"):
                _ = stream.websocket


# ---- handshakes that fail


@pytest.mark.parametrize("status", [401, 404, 409, 426, 500, 503])
async def test_refused_handshake_raises_its_status(status: int) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="no")

    held = Held()
    async with serving(refuse) as port:
        with pytest.raises(RemoteError, match=str(status)) as raised:
            await all_of(ws(port), data=body(held.rows(), "ndjson"))
    assert raised.value.status == status
    assert held.ended is None, "expected that no item of the source was requested"


@pytest.mark.parametrize("status", [200, 204, 302])
async def test_response_without_upgrade_is_an_error(status: int) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with serving(answer) as port:
        with pytest.raises(RemoteError) as raised:
            await all_of(ws(port))
    assert raised.value.status == status


async def test_closed_port_is_an_error() -> None:
    async with serving() as port:
        pass
    with pytest.raises(ClientConnectionError):
        await all_of(ws(port))


async def test_unanswered_handshake_is_a_stall() -> None:
    async def silent(sock: Any) -> None:
        await asyncio.get_running_loop().sock_recv(sock, 65536)
        while await asyncio.get_running_loop().sock_recv(sock, 65536):
            pass
        sock.close()

    async with listening(silent) as port:
        with pytest.raises(StalledError):
            await all_of(ws(port), idle_seconds=0.2)


async def test_pings_count_as_received_data() -> None:
    async def talk(peer: Peer) -> None:
        for _ in range(12):
            await peer.send(frame("", PING))
            await asyncio.sleep(0.1)
        await peer.send(complete(0))
        await peer.hear_all()

    async with server(talk) as url:
        assert await all_of(url, idle_seconds=1) == []


async def test_slow_message_is_not_a_stall() -> None:
    """aiohttp's timeout for a message expires several times before the message is complete."""

    async def talk(peer: Peer) -> None:
        data = frame('"' + "x" * 100_000 + '"')
        for start in range(0, len(data), 5000):
            await peer.send(data[start : start + 5000])
            await asyncio.sleep(0.1)
        await peer.send(complete(1))
        await peer.hear_all()

    async with server(talk) as url:
        assert await all_of(url, idle_seconds=1.5) == ["x" * 100_000]


# ---- leaving


async def test_leaving_early_sends_a_close() -> None:
    held = Held()
    async with serving(streams(held.rows)) as port, ClientSession() as session:
        async with open_stream(session, ws(port)) as stream:
            assert (await anext(aiter(stream)))["n"] == "0"
        async with asyncio.timeout(GUARD_SECONDS):
            while not held.cleaned:
                await asyncio.sleep(0.001)
    assert held.ended in ("CancelledError", "GeneratorExit")


async def test_ignored_close_does_not_delay_the_client() -> None:
    heard: list[Frame | None] = []

    async def talk(peer: Peer) -> None:
        await peer.say("1")
        while heard[-1:] != [None]:
            heard.append(await peer.hear())

    async with server(talk) as url, ClientSession() as session:
        async with open_stream(session, url) as stream:
            assert await anext(aiter(stream)) == 1
            begun = time.monotonic()
        assert time.monotonic() - begun < 9  # aiohttp would wait 10 seconds for the close
    assert heard[0] is not None
    assert (heard[0].code, heard[0].reason, heard[1:]) == (1000, "", [None])


async def test_second_loop_continues_the_first() -> None:
    async with (
        serving(streams(lambda: range(5))) as port,
        ClientSession() as session,
        open_stream(session, ws(port)) as stream,
    ):
        async for item in stream:
            if item == 2:
                break
        assert [item async for item in stream] == [3, 4]
        assert stream.end == "proven"


async def test_finished_websocket_has_no_items_left() -> None:
    async with (
        serving(streams(rows)) as port,
        ClientSession() as session,
        session.ws_connect(ws(port)) as websocket,
    ):
        assert [item async for item in items(websocket)] == rows()
        with pytest.raises(TruncatedError):
            _ = [item async for item in items(websocket)]


async def test_websocket_without_autoping_is_read() -> None:
    """Our reader replies to pings, and ignores unsolicited pongs (RFC 6455 §5.5.3)."""
    heard = asyncio.Queue[Any]()

    async def talk(peer: Peer) -> None:
        await peer.send(frame("", PONG))
        await peer.send(frame("are you there", PING))
        heard.put_nowait(await peer.hear())
        await peer.say("1")
        await peer.send(complete(1))

    async with (
        server(talk) as url,
        ClientSession() as session,
        session.ws_connect(url, autoping=False) as websocket,
    ):
        assert [item async for item in chunkwise.items(websocket)] == [1]
    assert heard.get_nowait() == (PONG, b"are you there")
