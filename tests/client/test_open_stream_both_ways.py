"""`open_stream` over WebSockets, and with uploads that fail while the response is read: items, and errors."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import DecodeError, LimitError, PathNotFound, RemoteError
from tests.client.test_upload import FailingLater, begin, read_on
from tests.flow.producing import GUARD_SECONDS, until
from tests.transports.reading import read
from tests.transports.websocket_peer import Peer, complete, server
from tests.transports.wire import answering, head, serving, streams, talking, url_of


def websocket_of(port: int) -> str:
    return url_of(port).replace("http", "ws")


def rows() -> list[dict[str, int]]:
    return [{"n": 1}, {"n": 2}]


async def test_websocket_handshake_has_the_headers() -> None:
    asked: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        return await chunkwise.respond(request, rows())

    more: Any = {"params": {"q": "ä"}, "headers": {"X-Mine": "1"}, "format": "ndjson"}
    async with (
        serving(handler) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, websocket_of(port), "n", type=int, **more) as stream,
    ):
        assert await read(stream) == ([1, 2], None)
        assert (stream.end, stream.websocket.closed) == ("proven", True)
    assert (asked[0].query["q"], asked[0].headers["X-Mine"]) == ("ä", "1")
    assert asked[0].headers["Accept"] == ", ".join(chunkwise.FORMATS["ndjson"].media_types)


@pytest.mark.parametrize(
    ("path", "options", "error"),
    [
        ("", {"type": str}, DecodeError),
        ("m", {"required": True}, PathNotFound),
        ("", {"max_depth": 1}, LimitError),
    ],
)
async def test_error_in_a_message_is_reported(path: str, options: dict[str, Any], error: type[Exception]) -> None:
    async with (
        serving(streams(lambda: [{"n": [1]}])) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, websocket_of(port), path, **options) as stream,
    ):
        came, failure = await read(stream)
    assert (came, type(failure)) == ([], error)


@pytest.mark.parametrize(("format_", "expected"), [("text", ["1", '"a"']), (None, [1, "a"])])
async def test_messages_are_json_unless_text_is_requested(format_: str | None, expected: list[Any]) -> None:
    async def talk(peer: Peer) -> None:
        await peer.say("1", '"a"')
        await peer.send(complete(2))
        await peer.hear_all()

    async with (
        server(talk) as url,
        ClientSession() as session,
        chunkwise.open_stream(session, url, format=format_) as stream,
    ):
        assert await read(stream) == (expected, None)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "POST"}, "method: got 'POST', expected 'GET' for a WebSocket"),
        ({"json": 1}, "got json=, expected items"),
        ({"data": b"1"}, "got bytes, expected items"),
        ({"data": {"a": "b"}}, "got dict, expected items"),
    ],
)
async def test_websocket_sends_only_items(options: dict[str, Any], told: str) -> None:
    async with ClientSession() as session:
        with pytest.raises(TypeError, match=told):
            async with chunkwise.open_stream(session, "ws://127.0.0.1:1/", **options):
                pass


async def test_caught_failure_is_not_raised_again() -> None:
    source = FailingLater()
    async with (
        talking(begin) as port,
        asyncio.timeout(GUARD_SECONDS),
        ClientSession() as session,
        chunkwise.open_stream(
            session, url_of(port), method="POST", data=chunkwise.body(source.rows(), "ndjson")
        ) as stream,
    ):
        with pytest.raises(LookupError):
            await read_on(stream, [], source.go.set)


async def test_unseen_failure_is_raised_on_exit() -> None:
    source = FailingLater()
    body = chunkwise.body(source.rows(), "ndjson")

    async def leave() -> None:
        async with (
            ClientSession() as session,
            chunkwise.open_stream(session, url_of(port), method="POST", data=body),
        ):
            source.go.set()
            await until(lambda: body.failure is not None)

    async with talking(begin) as port, asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(LookupError):
            await leave()


async def test_swapped_arguments_are_reported() -> None:
    swapped: Any = chunkwise.open_stream
    with pytest.raises(TypeError, match="session: got str, expected a ClientSession"):
        async with ClientSession() as session, swapped("http://localhost/", session):
            pass


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_raise_for_status_changes_nothing(scheme: str) -> None:
    answer = (
        head("Content-Type: application/problem+json", "Content-Length: 18", status="503 Busy") + b'{"title":"Closed"}'
    )
    async with answering(answer) as port, ClientSession(raise_for_status=True) as session:
        with pytest.raises(RemoteError, match="503") as caught:
            async with chunkwise.open_stream(session, url_of(port).replace("http", scheme)):
                pass
    assert caught.value.status == 503
