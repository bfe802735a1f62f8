"""What an attack on the promises has found over WebSockets and in uploads."""

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

from chunkwise import Outcome, StreamError, body, items, open_stream, respond, setup
from chunkwise.formats.messages import SUBPROTOCOL
from tests.flow.producing import GUARD_SECONDS
from tests.server.test_attacks_on_endings import CERTIFICATE, Secure
from tests.transports.frames import PING, TEXT, closing, frame, framed, handshake, opened
from tests.transports.sockets_of_servers import Peer, server
from tests.transports.watched import watched
from tests.transports.wire import serving, streams

END = b' {"stream-end":{"status":"complete","items":%d}}'


# ---- an item that begins like the end record is taken for the proof of the end


@pytest.mark.parametrize("reader", ["open_stream", "items"])
@pytest.mark.parametrize("subprotocol", ["", SUBPROTOCOL])
async def test_an_item_is_no_proof_of_the_end(reader: str, subprotocol: str) -> None:
    async def source() -> AsyncIterator[Any]:
        yield {"n": 1}
        await asyncio.sleep(0.05)  # so that each is a message of its own
        yield msgspec.Raw(END % 1)  # a line of another NDJSON stream, passed on as it came
        await asyncio.sleep(0.05)
        yield {"n": 2}

    came: list[Any] = []

    async def read(session: ClientSession, url: str) -> None:
        if reader == "open_stream":
            async with open_stream(session, url) as stream:
                async for batch in stream.batches():
                    came.extend(batch)
        else:
            async with session.ws_connect(url, protocols=[subprotocol] * bool(subprotocol)) as websocket:
                async for batch in items(websocket).batches():
                    came.extend(batch)

    async with serving(streams(source)) as port, ClientSession() as session, asyncio.timeout(5):
        with pytest.raises(StreamError):
            await read(session, f"ws://127.0.0.1:{port}/0")
    assert came == [{"n": 1}]


# ---- over TLS, a client that leaves instead of answering our close: AttributeError


@pytest.mark.parametrize("how", ["reset", "fin", "goodbye"])
@pytest.mark.parametrize("fails", [False, True])
async def test_wss_a_client_that_leaves_instead_of_answering(
    how: str, fails: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusts = ssl.create_default_context(cadata=CERTIFICATE[CERTIFICATE.index("-----BEGIN CERT") :])

    async def source() -> AsyncIterator[Any]:
        yield 1
        if fails:
            raise ValueError("the source")

    async with Secure(streams(source), tmp_path) as it, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*it.runner.addresses[0], ssl=trusts, server_hostname="localhost")
        writer.write(handshake("/"))
        await reader.readuntil(b"Internal Server Error" if fails else b"complete; items=1")
        await asyncio.sleep(0.05)
        if how == "goodbye":
            writer.close()
        else:
            if how == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        outcome = await it.outcomes.get()
        writer.transport.abort()
        await asyncio.sleep(0.05)
    kinds = {type(entry.exc_info[1]) for entry in caplog.records if entry.exc_info}
    assert AttributeError not in kinds
    assert outcome.end == ("failed" if fails else "client_gone"), outcome


# ---- items that came before the source failed are thrown away (over HTTP they are not)


async def test_items_that_came_before_the_source_failed_are_delivered() -> None:
    failed = asyncio.Event()

    async def source() -> AsyncIterator[Any]:
        yield 0
        await asyncio.sleep(0.2)
        failed.set()
        raise ValueError("the source")

    async def talk(peer: Peer) -> None:
        await peer.say("1", "2", "3", "4", "5")
        await peer.hear_all()

    came: list[Any] = []

    async def read(session: ClientSession, url: str) -> None:
        async with open_stream(session, url, data=body(source(), "ndjson")) as stream:
            async for item in stream:
                came.append(item)
                if item == 1:  # busy with the first, while all the others have come
                    await failed.wait()
                    await asyncio.sleep(0.1)

    async with server(talk) as url, ClientSession() as session, asyncio.timeout(10):
        with pytest.raises(ValueError, match="the source"):
            await read(session, url)
    assert came == [1, 2, 3, 4, 5]


# ---- a client that leaves does not end the source within a second, if that has ever read


async def ends_soon(handler: Any, *sent: bytes, leaving: str) -> None:
    async with watched(handler) as it, opened(it.port) as peer:
        await peer.send(*sent)
        assert (await peer.read()).opcode == TEXT
        if leaving == "close":
            await peer.send(closing(1001))
        else:
            peer.client.reset()
        async with asyncio.timeout(GUARD_SECONDS):
            assert (await it.outcome()).end == "client_gone"


@pytest.mark.parametrize("leaving", ["close", "reset"])
@pytest.mark.parametrize("reads", ["all", "one"])
async def test_a_client_that_leaves_a_handler_which_has_read_what_it_wanted(reads: str, leaving: str) -> None:
    async def source(request: web.Request) -> AsyncIterator[Any]:
        if reads == "all":
            assert [item async for item in items(request)] == [1]
        else:
            async for item in items(request):
                assert item == 1
                break
        yield "subscribed"
        await asyncio.Event().wait()

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, source(request))

    await ends_soon(handler, frame("1"), *[frame(END % 1)] * (reads == "all"), leaving=leaving)


async def test_a_client_that_closes_behind_a_message_that_nobody_reads() -> None:
    async def source() -> AsyncIterator[Any]:
        yield "begun"
        await asyncio.Event().wait()

    message = frame('"' + "x" * 70_000 + '"')
    await ends_soon(streams(source, keepalive_seconds=0), message, leaving="close")


# ---- what a client has sent whole, with its proof, is not worked on to the end


async def test_an_upload_that_is_proven_by_its_close_is_worked_on() -> None:
    saved: list[Any] = []
    over = asyncio.Event()

    async def source(request: web.Request) -> AsyncIterator[Any]:
        try:
            rows = [item async for item in items(request)]
            await asyncio.sleep(0.1)  # to a database
            saved.extend(rows)
            yield len(rows)
        finally:
            over.set()

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, source(request))

    async with serving(handler) as port, opened(port) as peer, asyncio.timeout(5):
        await peer.send(frame("1"), frame("2"), closing(1000, "complete; items=2"))
        await over.wait()
    assert saved == [1, 2]


# ---- the handshake hangs for ever


async def test_a_signal_that_takes_its_time_while_a_source_reads() -> None:
    async def slow(_request: web.BaseRequest, _response: web.StreamResponse) -> None:
        await asyncio.sleep(0.5)

    async def echo(request: web.Request) -> web.StreamResponse:
        return await respond(request, (item async for item in items(request)))

    app = web.Application()
    app.on_response_prepare.append(slow)
    async with watched(echo, app=app) as it, framed(it.port) as peer, asyncio.timeout(5):
        assert await peer.status() == 101
        await peer.send(frame("1"))
        assert (await peer.read()).item == 1


# ---- items before an error in the packing are lost


async def test_items_before_a_string_that_is_none_are_sent() -> None:
    async def source() -> AsyncIterator[Any]:
        for item in ("a", "b", msgspec.Raw(b'"\\ud800"')):
            yield item

    async with serving(streams(source, "text")) as port, opened(port) as peer, asyncio.timeout(5):
        frames = await peer.read_to_close()
    assert [each.payload for each in frames[:-1]] == [b"a", b"b"]
    assert frames[-1].closing[0] == 1011


async def test_items_before_one_that_is_too_large_are_sent() -> None:
    async def live() -> AsyncIterator[Any]:
        yield 1

    async def source() -> AsyncIterator[Any]:
        yield "before"
        yield {"blob": "x" * (65 * 2**20), "live": live()}

    async with serving(streams(source)) as port, framed(port) as peer, asyncio.timeout(20):
        assert await peer.status() == 101
        frames = await peer.read_to_close()
    assert [each.item for each in frames[:-1]] == ["before"]
    assert frames[-1].closing[0] == 1011


# ---- log injection


@pytest.mark.parametrize("wire", ["websocket", "http"])
async def test_a_client_cannot_forge_a_line_of_the_log(wire: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    problem = {"title": "x\nCRITICAL:root:the admin has logged in", "status": 500}
    record = b' {"stream-end":{"status":"failed","items":0,"problem":%b}}\n' % msgspec.json.encode(problem)

    async def echo(request: web.Request) -> web.StreamResponse:
        return await respond(request, (item async for item in items(request)))

    async with watched(echo) as it, asyncio.timeout(5):
        if wire == "websocket":
            async with opened(it.port) as peer:
                await peer.send(frame(record.rstrip()))
                await peer.read_to_close()
        else:
            headers = {"Content-Type": "application/x-ndjson", "Preference-Applied": "stream-end"}
            url = f"http://127.0.0.1:{it.port}/0"
            async with ClientSession() as session, session.post(url, data=record, headers=headers) as response:
                assert response.status == 400
        await it.outcome()
    lines = [line for entry in caplog.records for line in entry.getMessage().splitlines()]
    assert not [line for line in lines if line.startswith("CRITICAL")]


# ---- outcomes


async def test_a_client_that_leaves_is_gone_under_handler_cancellation_too() -> None:
    outcomes: asyncio.Queue[Outcome] = asyncio.Queue()

    async def source() -> AsyncIterator[Any]:
        yield "begun"
        await asyncio.Event().wait()

    app = web.Application()
    app.router.add_get("/0", streams(source))
    setup(app, on_outcome=lambda _, outcome: outcomes.put_nowait(outcome))
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with opened(runner.addresses[0][1]) as peer, asyncio.timeout(5):
            await peer.read()
            peer.client.reset()
            assert (await outcomes.get()).end == "client_gone"
    finally:
        await runner.cleanup()


async def test_a_client_that_goes_away_while_we_close_has_not_answered() -> None:
    async with watched(streams(lambda: [1, 2, 3])) as it, opened(it.port) as peer:
        await asyncio.sleep(0.2)  # the items and our close are on their way, and nothing of them was read
        await peer.send(closing(1001))  # a page that is left, not an answer: that would be 1000
        assert (await it.outcome()).end == "client_gone"


async def test_a_client_that_has_not_got_all_when_the_server_stops() -> None:
    async with watched(streams(lambda: ["x" * 200_000])) as it, framed(it.port, receive_bytes=4096) as peer:
        await asyncio.sleep(0.3)  # our kernel has all, and our close is waited for
        await it.runner.cleanup()
        outcome = await it.outcome()
        frames = []
        with suppress(EOFError, ConnectionError):
            assert await peer.status() == 101
            frames = await peer.read_to_close()
    assert (outcome.end, len(frames)) in [("complete", 2), ("shut_down", 0), ("client_gone", 0)]


# ---- a source that raises what is no Exception


class Stop(BaseException):
    """As pytest's own, or an ExceptionGroup's of such."""


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_source_that_raises_what_is_no_exception(scheme: str) -> None:
    async def source() -> AsyncIterator[Any]:
        yield 1
        await asyncio.sleep(0.05)
        raise Stop

    async def echo(request: web.Request) -> web.StreamResponse:
        return await respond(request, (item async for item in items(request)))

    async def upload(session: ClientSession, port: int) -> None:
        how: Any = {"method": "POST"} if scheme == "http" else {}
        url = f"{scheme}://127.0.0.1:{port}/0"
        async with open_stream(session, url, data=body(source(), "ndjson"), **how) as stream:
            async for _ in stream:
                pass

    async with serving(echo) as port, ClientSession() as session:
        task = asyncio.create_task(upload(session, port))
        done, _ = await asyncio.wait({task}, timeout=4)
        task.cancel()
        with suppress(BaseException):
            await task
    assert done


# ---- items() of a WebSocket that does not answer pings by itself


async def test_a_ping_is_no_end() -> None:
    came: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(autoping=False, timeout=0.1)
        await websocket.prepare(request)
        try:
            came.set_result([item async for item in items(websocket)])
        except StreamError as error:
            came.set_exception(error)
        return websocket

    async with serving(handler) as port, opened(port) as peer, asyncio.timeout(5):
        await peer.send(frame("1"), frame("", PING), frame("2"), closing(1000, "complete; items=2"))
        assert await came == [1, 2]
