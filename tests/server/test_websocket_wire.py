"""`respond` over a WebSocket: how the WebSocket opens, and how it ends."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from aiohttp import web

import chunkwise
from chunkwise import Outcome, setup
from chunkwise.server import delivery
from chunkwise.transports import periodic_checks, tcp
from tests.flow.producing import GUARD_SECONDS, until
from tests.server import shutdown_server
from tests.server.websocket_sources import Waiting, both_framings, counting, echoing, only_outcome
from tests.transports.watched import SMALL_BYTES, client_of, watched
from tests.transports.websocket_peer import CLOSE, PING, PONG, TEXT, Peer, connecting, handshake, opened
from tests.transports.websocket_peer import client_close as closing
from tests.transports.websocket_peer import client_frame as frame
from tests.transports.wire import streams

# ---- how it opens


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_early_exception_refuses_the_handshake(seconds: float) -> None:
    async def refusing() -> AsyncIterator[int]:
        await asyncio.sleep(seconds)
        raise web.HTTPForbidden(text="not you")
        yield 1

    async with watched(streams(refusing)) as server, connecting(server.port) as peer:
        assert await peer.status() == 403
        assert "application/problem+json" in peer.head
        await peer.client.read_until(b'"detail":"not you"')
        outcome = await only_outcome(server)
    assert (outcome.end, outcome.status, outcome.items, type(outcome.error)) == ("failed", 403, 0, web.HTTPForbidden)


async def test_handshake_waits_for_the_first_item() -> None:
    go = asyncio.Event()

    async def late() -> AsyncIterator[int]:
        await go.wait()
        raise web.HTTPForbidden
        yield 1

    async with watched(streams(late, commit_after_seconds=0.7)) as server:
        begun = asyncio.get_running_loop().time()
        async with connecting(server.port) as peer:
            assert await peer.status() == 101
            assert asyncio.get_running_loop().time() - begun >= 0.7  # not at a check after half a second
            go.set()  # now it is too late for an error status
            assert await peer.read_to_end() == (1011, "Forbidden")
        outcome = await only_outcome(server)
    assert (outcome.end, outcome.status) == ("failed", 101)


async def test_reading_source_opens_the_websocket_at_once() -> None:
    async with watched(echoing(commit_after_seconds=3600)) as server, opened(server.port) as peer:
        await peer.say_items("hello")
        assert (await peer.read()).item == "hello"


@both_framings
async def test_requested_range_begins_with_a_record(subprotocol: str) -> None:
    handler = streams(lambda: chunkwise.resumable(lambda first: range(first, 3), etag="v1"))
    async with watched(handler) as server, opened(server.port, subprotocol=subprotocol, Range="items=1-") as peer:
        *messages, end = await peer.read_to_close()
    start = b' {"stream-start":{"first":1,"etag":"v1","key":[]}}\n'
    lines = b"".join(message.payload + b"\n" * (not subprotocol) for message in messages)
    assert lines == (start if subprotocol else b"") + b"1\n2\n"
    assert end.closing == (1000, "complete; items=2")


async def test_messages_are_read_only_inside_respond() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response([item async for item in chunkwise.items(request)])

    async with watched(handler) as server, connecting(server.port) as peer:
        assert await peer.status() == 400


# ---- the client leaves, or is silent


LEAVING: dict[str, Callable[[Peer], Any]] = {
    "close": lambda peer: peer.send(closing(1000)),
    "FIN": lambda peer: asyncio.to_thread(peer.client.half_close),
    "RST": lambda peer: asyncio.to_thread(peer.client.reset),
}


@both_framings
@pytest.mark.parametrize("leaving", LEAVING)
async def test_disconnect_closes_a_waiting_source(
    leaving: str, subprotocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has no periodic checks and sends no pings here, so the source is closed at once."""
    for module in (delivery, periodic_checks, tcp):
        monkeypatch.setattr(module, "CHECK_SECONDS", 3600)
    source = Waiting(1)
    handler = streams(source.items, keepalive_seconds=0)
    async with watched(handler) as server, opened(server.port, subprotocol=subprotocol) as peer:
        assert (await peer.read()).item == 1
        await LEAVING[leaving](peer)
        await asyncio.wait_for(source.closed.wait(), GUARD_SECONDS)
        outcome = await only_outcome(server)
        if leaving == "close":
            assert (await peer.read()).closing[0] == 1000
    assert source.saw == "CancelledError"
    assert (outcome.end, outcome.error, outcome.items) == ("client_gone", None, 1)


async def test_keepalive_pings_need_no_pong() -> None:
    source = Waiting(1)
    async with (
        watched(streams(source.items, keepalive_seconds=0.02)) as server,
        opened(server.port) as peer,
    ):
        frames = [await peer.read() for _ in range(6)]
        await peer.send(frame(b"", PONG))
        frames += [await peer.read() for _ in range(2)]
        assert not source.closed.is_set()
        assert not server.has_more
    assert [each.opcode for each in frames] == [TEXT] + [PING] * 7


async def test_pings_are_sent_only_in_a_silence() -> None:
    async def busy() -> AsyncIterator[int]:
        for number in range(100):
            yield number
            await asyncio.sleep(0.012)

    handlers = (streams(busy, keepalive_seconds=1), streams(Waiting(1).items, keepalive_seconds=0))
    async with watched(*handlers) as server, opened(server.port) as peer, opened(server.port, "/1") as other:
        frames = await peer.read_to_close()
        assert {each.opcode for each in frames[:-1]} == {TEXT}
        assert frames[-1].closing == (1000, "complete; items=100")
        assert (await other.read()).item == 1
        other.client.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.client.sock.recv(1)


@both_framings
async def test_stalled_client_is_disconnected(subprotocol: str) -> None:
    closed = asyncio.Event()

    async def hot() -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 1000
        finally:
            closed.set()

    async with (
        watched(streams(hot, stall_seconds=0.4), send_bytes=SMALL_BYTES) as server,
        opened(server.port, subprotocol=subprotocol, receive_bytes=SMALL_BYTES) as peer,
    ):
        outcome = await only_outcome(server)
        assert closed.is_set()
        with pytest.raises((EOFError, ConnectionError)):
            await peer.read_to_close()
    assert (outcome.end, outcome.status, outcome.error) == ("stalled", 101, None)
    assert outcome.seconds >= 0.4


# ---- how it ends


ENDS: dict[str, tuple[Callable[[], Any], tuple[int, str]]] = {
    "complete": (lambda: counting(3), (1000, "complete; items=3")),
    "failed": (lambda: counting(3, error=ValueError("a secret")), (1011, "Internal Server Error")),
    "shut_down": (lambda: Waiting(0, 1, 2).items(), (1012, "Going Away")),
}


@both_framings
@pytest.mark.parametrize("end", ENDS)
async def test_close_code_shows_how_the_stream_ended(end: str, subprotocol: str) -> None:
    make, told = ENDS[end]
    async with watched(streams(make, ["csv", "json"])) as server, opened(server.port, subprotocol=subprotocol) as peer:
        payloads = b""
        while len(payloads.split()) < 3:
            payloads += (await peer.read()).payload + b"\n" * (not subprotocol)
        stopping = asyncio.create_task(server.runner.cleanup()) if end == "shut_down" else None
        assert await peer.read_to_end() == told
        outcome = await only_outcome(server)
        await asyncio.wait_for(stopping or asyncio.sleep(0), GUARD_SECONDS)
    assert payloads == b"0\n1\n2\n"
    assert (outcome.end, outcome.status, outcome.items) == (end, 101, 3)
    assert (outcome.format, outcome.bytes, outcome.coding) == (
        ("ndjson", 6, None) if subprotocol else ("json", 3, None)
    )
    assert type(outcome.error) is (ValueError if end == "failed" else type(None))


async def test_shutdown_closes_every_websocket() -> None:
    async with watched(streams(lambda: Waiting(1).items(), commit_after_seconds=3600)) as server:
        async with AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(opened(server.port)) for _ in range(20)]
            mute = peers.pop()  # this client never replies to the close
            stopping = asyncio.create_task(server.runner.cleanup())
            assert [await peer.read_to_end() for peer in peers] == [(1012, "Going Away")] * 19
            async with asyncio.timeout(GUARD_SECONDS):  # two seconds to end, one after the drop
                await stopping
            await mute.client.read_to_end()
        assert [(await server.outcome()).end for _ in range(20)] == ["shut_down"] * 20
        assert not server.has_more


async def test_terminated_process_closes_and_exits() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, shutdown_server.__file__, "0.2", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), GUARD_SECONDS))
        async with opened(port, "/") as peer, opened(port, "/") as mute:
            assert [(await each.read()).item for each in (peer, mute)] == [1, 1]
            process.send_signal(signal.SIGTERM)
            assert await peer.read_to_end() == (1012, "Going Away")
            async with asyncio.timeout(GUARD_SECONDS):  # one client does not reply; the exit takes time
                assert await process.wait() == 0
            assert (await mute.read_to_close())[-1].closing == (1012, "Going Away")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@both_framings
@pytest.mark.parametrize("end", ["complete", "failed"])
async def test_client_without_a_close_is_disconnected(end: str, subprotocol: str) -> None:
    """The client has received everything, and may still be processing it."""
    make, told = ENDS[end]
    async with (
        watched(streams(make, stall_seconds=0.3)) as server,
        opened(server.port, subprotocol=subprotocol) as peer,
    ):
        frames = [await peer.read()]
        while frames[-1].opcode != CLOSE:
            frames.append(await peer.read())
        outcome = await only_outcome(server)
        assert await peer.client.read_to_end() in ("closed", "reset")
    assert frames[-1].closing == told
    assert (outcome.end, outcome.items) == ("stalled" if end == "complete" else "failed", 3)
    assert outcome.seconds >= 0.3


async def test_disconnect_without_a_close_is_gone() -> None:
    async with watched(streams(lambda: [1])) as server, opened(server.port) as peer:
        assert [(await peer.read()).opcode for _ in range(2)] == [TEXT, CLOSE]
        peer.client.reset()
        assert (await only_outcome(server)).end == "client_gone"


async def test_disconnect_before_the_handshake_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    begun, failures = asyncio.Event(), []

    async def source(request: web.Request) -> AsyncIterator[Any]:
        try:
            async for item in chunkwise.items(request):
                yield item
        except chunkwise.TruncatedError as error:
            failures.append(str(error))
            raise

    async def handler(request: web.Request) -> web.StreamResponse:
        begun.set()
        await until(lambda: request.transport is None)
        return await chunkwise.respond(request, source(request))

    async with watched(handler) as server, connecting(server.port) as peer:
        await begun.wait()
        peer.client.reset()
        outcome = await only_outcome(server)
    assert (outcome.end, outcome.error) == ("client_gone", None)
    assert len(failures) == 1
    assert "the client disconnected before the handshake was complete" in failures[0]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("fails", [False, True])
async def test_disconnect_in_prepare_signal_is_gone(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    begun, app = asyncio.Event(), web.Application()

    async def prepares(request: web.Request, _response: web.StreamResponse) -> None:
        begun.set()
        async with asyncio.timeout(GUARD_SECONDS):
            while request.transport is not None:
                await asyncio.sleep(0.001)
        if fails:
            raise ConnectionResetError

    app.on_response_prepare.append(prepares)
    async with watched(streams(lambda: [1]), app=app) as server, client_of(server.port) as client:
        await asyncio.get_running_loop().sock_sendall(client.sock, handshake())
        await begun.wait()
        client.reset()
        outcome = await server.outcome()
    assert (outcome.end, outcome.error) == ("client_gone", None)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_cancelled_handler_outcome_is_client_gone() -> None:
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
        async with opened(runner.addresses[0][1]) as peer, asyncio.timeout(GUARD_SECONDS):
            await peer.read()
            peer.client.reset()
            assert (await outcomes.get()).end == "client_gone"
    finally:
        await runner.cleanup()


async def test_going_away_close_is_not_a_reply() -> None:
    async with watched(streams(lambda: [1, 2, 3])) as it, opened(it.port) as peer:
        await asyncio.sleep(0.2)  # the items and the server's close were sent, and the client has read none of them
        await peer.send(closing(1001))  # a page that was closed; a reply to the server's close would be 1000
        assert (await it.outcome()).end == "client_gone"


async def test_shutdown_before_the_clients_close() -> None:
    async with watched(streams(lambda: ["x" * 200_000])) as it, connecting(it.port, receive_bytes=4096) as peer:
        await asyncio.sleep(0.3)  # the server's kernel has all bytes, and the server waits for the client's close
        await it.runner.cleanup()
        outcome = await it.outcome()
        frames = []
        with suppress(EOFError, ConnectionError):
            assert await peer.status() == 101
            frames = await peer.read_to_close()
    assert (outcome.end, len(frames)) in [("complete", 2), ("shut_down", 0), ("client_gone", 0)]
