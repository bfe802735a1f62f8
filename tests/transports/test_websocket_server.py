"""`respond` over a WebSocket, to a client that reads and sends by hand: how it opens, what it sends, how it ends."""

import asyncio
import signal
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, web

import chunkwise
from chunkwise import Outcome, StreamError, TruncatedError, respond
from tests.flow.producing import GUARD_SECONDS
from tests.transports import shutdown_server
from tests.transports.frames import BOTH_FRAMINGS, CLOSE, PING, PONG, TEXT, Framed, closing, frame, framed, opened
from tests.transports.watched import SMALL_BYTES, Watched, watched
from tests.transports.wire import Handler, streams

both_framings = pytest.mark.parametrize("subprotocol", BOTH_FRAMINGS, ids=["items", "lines"])

END = ' {"stream-end":{"status":"complete","items":%d}}'


class Waiting:
    """A source that gives its items, and then waits for ever.

    Attributes:
        saw: the class of what has ended it.
        at: when, on the loop's clock.
        closed: set then.
    """

    def __init__(self, *items: Any) -> None:
        self.saw = ""
        self.at = 0.0
        self.closed = asyncio.Event()
        self._items = items

    async def items(self) -> AsyncIterator[Any]:
        try:
            for item in self._items:
                yield item
            await asyncio.Event().wait()
        except BaseException as error:
            self.saw, self.at = type(error).__name__, asyncio.get_running_loop().time()
            raise
        finally:
            self.closed.set()


async def counting(count: int, *, error: BaseException | None = None) -> AsyncIterator[int]:
    for number in range(count):
        yield number
        await asyncio.sleep(0)
    if error is not None:
        raise error


def echoing(**options: Any) -> Handler:
    """A handler that gives back each item, as soon as it came."""

    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[Any]:
            async for item in chunkwise.items(request):
                yield item

        return await respond(request, source(), **options)

    return handler


async def only_outcome(server: Watched) -> Outcome:
    outcome = await server.outcome()
    assert not server.has_more
    return outcome


# ---- how it opens


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_an_exception_before_the_first_item_refuses_the_handshake(seconds: float) -> None:
    async def refusing() -> AsyncIterator[int]:
        await asyncio.sleep(seconds)
        raise web.HTTPForbidden(text="not you")
        yield 1

    async with watched(streams(refusing)) as server, framed(server.port) as peer:
        assert await peer.status() == 403
        assert "application/problem+json" in peer.head
        await peer.client.read_until(b'"detail":"not you"')
        outcome = await only_outcome(server)
    assert (outcome.end, outcome.status, outcome.items, type(outcome.error)) == ("failed", 403, 0, web.HTTPForbidden)


async def test_nothing_is_answered_before_the_first_item_or_the_time_for_it_is_over() -> None:
    go = asyncio.Event()

    async def late() -> AsyncIterator[int]:
        await go.wait()
        raise web.HTTPForbidden
        yield 1

    async with watched(streams(late, commit_after_seconds=0.7)) as server:
        begun = asyncio.get_running_loop().time()
        async with framed(server.port) as peer:
            assert await peer.status() == 101
            assert asyncio.get_running_loop().time() - begun >= 0.7  # and not when streams look up, after half a second
            go.set()  # too late for a status
            assert await peer.read_to_end() == (1011, "Forbidden")
        outcome = await only_outcome(server)
    assert (outcome.end, outcome.status) == ("failed", 101)


async def test_a_source_that_reads_opens_the_websocket_at_once() -> None:
    async with watched(echoing(commit_after_seconds=3600)) as server, opened(server.port) as peer:
        await peer.say("hello")
        assert (await peer.read()).item == "hello"


async def test_items_of_a_websocket_are_read_inside_its_answer_only() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response([item async for item in chunkwise.items(request)])

    async with watched(handler) as server, framed(server.port) as peer:
        assert await peer.status() == 400


# ---- the client leaves, or is silent


LEAVING: dict[str, Callable[[Framed], Any]] = {
    "close": lambda peer: peer.send(closing(1000)),
    "FIN": lambda peer: asyncio.to_thread(peer.client.half_close),
    "RST": lambda peer: asyncio.to_thread(peer.client.reset),
}


@both_framings
@pytest.mark.parametrize("leaving", LEAVING)
async def test_a_client_that_leaves_ends_at_once_a_source_that_waits(leaving: str, subprotocol: str) -> None:
    """At once: streams look up only every half second, and this one has just done so."""
    source = Waiting(1)
    async with watched(streams(source.items)) as server, opened(server.port, subprotocol=subprotocol) as peer:
        assert (await peer.read()).item == 1
        begun = asyncio.get_running_loop().time()
        await LEAVING[leaving](peer)
        await asyncio.wait_for(source.closed.wait(), GUARD_SECONDS)
        outcome = await only_outcome(server)
        if leaving == "close":
            assert (await peer.read()).closing[0] == 1000
    assert source.saw == "CancelledError"
    assert source.at - begun < 0.3
    assert (outcome.end, outcome.error, outcome.items) == ("client_gone", None, 1)


async def test_silence_is_filled_with_pings_whose_pongs_nobody_needs() -> None:
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


async def test_no_ping_is_sent_where_nobody_wants_one_or_there_is_no_silence() -> None:
    async def busy() -> AsyncIterator[int]:
        for number in range(100):
            yield number
            await asyncio.sleep(0.005)

    handlers = (streams(busy, keepalive_seconds=0.4), streams(Waiting(1).items, keepalive_seconds=0))
    async with watched(*handlers) as server, opened(server.port) as peer, opened(server.port, "/1") as other:
        frames = await peer.read_to_close()
        assert {each.opcode for each in frames[:-1]} == {TEXT}
        assert frames[-1].closing == (1000, "complete; items=100")
        assert (await other.read()).item == 1
        other.client.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.client.sock.recv(1)


@both_framings
async def test_a_client_that_takes_nothing_is_cut_off(subprotocol: str) -> None:
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
async def test_how_it_has_ended_is_told(end: str, subprotocol: str) -> None:
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


async def test_each_websocket_is_told_that_the_server_stops() -> None:
    async with watched(streams(lambda: Waiting(1).items(), commit_after_seconds=3600)) as server:
        async with AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(opened(server.port)) for _ in range(20)]
            mute = peers.pop()  # never answers our close
            stopping = asyncio.create_task(server.runner.cleanup())
            assert [await peer.read_to_end() for peer in peers] == [(1012, "Going Away")] * 19
            async with asyncio.timeout(3 + 1):  # two seconds to end by itself, one for what is dropped then
                await stopping
            await mute.client.read_to_end()
        assert [(await server.outcome()).end for _ in range(20)] == ["shut_down"] * 20
        assert not server.has_more


async def test_a_process_that_is_terminated_tells_its_websockets_and_ends_in_time() -> None:
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
            async with asyncio.timeout(0.2 + 3 + 1.5):  # the other has not answered; an interpreter takes time to end
                assert await process.wait() == 0
            assert (await mute.read_to_close())[-1].closing == (1012, "Going Away")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@both_framings
@pytest.mark.parametrize("end", ["complete", "failed"])
async def test_a_client_that_never_answers_our_close_is_waited_for_no_longer(end: str, subprotocol: str) -> None:
    """It has taken all, and may still be busy with it; but nobody knows."""
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


async def test_a_client_that_leaves_instead_of_answering_our_close_is_gone() -> None:
    async with watched(streams(lambda: [1])) as server, opened(server.port) as peer:
        assert [(await peer.read()).opcode for _ in range(2)] == [TEXT, CLOSE]
        peer.client.reset()
        assert (await only_outcome(server)).end == "client_gone"


# ---- sources of all kinds


def in_a_thread() -> Iterator[int]:
    yield from range(3)


def report() -> dict[str, Any]:
    return {"users": counting(3), "total": asyncio.sleep(0, 3), "nested": [{"more": in_a_thread()}]}


async def reports() -> AsyncIterator[dict[str, Any]]:
    yield report()
    yield report()


REPORT = {"users": [0, 1, 2], "total": 3, "nested": [{"more": [0, 1, 2]}]}
SOURCES: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "a generator": (in_a_thread, [0, 1, 2]),
    "a list": (lambda: [0, "one", None], [0, "one", None]),
    "nothing": (list, []),
    "a document with live parts": (report, [REPORT]),
    "items with live parts": (reports, [REPORT, REPORT]),
}


@both_framings
@pytest.mark.parametrize("name", SOURCES)
async def test_a_source_of_any_kind(name: str, subprotocol: str) -> None:
    make, items = SOURCES[name]
    async with watched(streams(make)) as server, opened(server.port, subprotocol=subprotocol) as peer:
        *messages, close = await peer.read_to_close()
    assert close.closing == (1000, f"complete; items={len(items)}")
    lines = b"\n".join(message.payload.removesuffix(b"\n") for message in messages).split(b"\n")
    assert [msgspec.json.decode(line) for line in lines if line] == items
    assert subprotocol or len(messages) == len(items)


# ---- both directions at once


@both_framings
async def test_an_answer_comes_before_the_next_question_and_more_after_the_last(subprotocol: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[Any]:
            stream = chunkwise.items(request)
            async for item in stream:
                yield item
            yield [stream.items_seen, stream.end]
            await asyncio.sleep(0)
            yield "the rest"

        return await respond(request, source())

    async with watched(handler) as server, opened(server.port, subprotocol=subprotocol) as peer:
        for number in range(5):
            await peer.say(number)
            assert (await peer.read()).item == number
        await peer.send(frame(END % 5))
        assert (await peer.read()).item == [5, "proven"]
        assert (await peer.read()).item == "the rest"
        assert await peer.read_to_end() == (1000, "complete; items=7")
        assert (await only_outcome(server)).end == "complete"


async def test_a_close_with_its_count_proves_the_clients_half_as_well() -> None:
    ends: list[Any] = []
    read = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[Any]:
            stream = chunkwise.items(request)
            try:
                ends.append([item async for item in stream] + [stream.end])
            except TruncatedError as error:
                ends.append([stream.items_seen, type(error)])
            with pytest.raises(StreamError, match="another items"):
                await anext(chunkwise.items(request))
            read.set()
            yield 1

        return await respond(request, source())

    for end in (closing(1000, "complete; items=2"), closing(1000), closing(1000, "complete; items=3")):
        read.clear()
        async with watched(handler) as server, opened(server.port) as peer:
            await peer.say(1, 2)
            await peer.send(end)
            await asyncio.wait_for(read.wait(), GUARD_SECONDS)
            with suppress(EOFError, ConnectionError):
                await peer.read_to_close()
    assert ends[0] == [1, 2, "proven"]
    assert ends[-2:] == [[2, TruncatedError]] * 2


ITEM = "x" * 10_000
AHEAD = 5 + 2 + 1
"""Items of 10 KB that may be made and not yet read: those of the one write that waits, which has less than 48 KiB; what
two buffers of the kernel hold, 8 KiB each (it doubles what is asked for); and one that the source holds in its hand."""


@both_framings
async def test_a_slow_reader_slows_the_producer(subprotocol: str) -> None:
    made = 0

    async def hot() -> AsyncIterator[str]:
        nonlocal made
        while True:
            made += 1
            yield ITEM

    async def stands_still() -> None:
        before, quiet = -1, 0
        while quiet < 20:
            await asyncio.sleep(0.005)
            quiet = quiet + 1 if made == before else 0
            before = made

    async with (
        watched(streams(hot, stall_seconds=0), send_bytes=SMALL_BYTES) as server,
        opened(server.port, subprotocol=subprotocol, receive_bytes=SMALL_BYTES) as peer,
        asyncio.timeout(GUARD_SECONDS),
    ):
        read = 0
        while read < 20:
            await stands_still()
            assert read < made <= read + AHEAD
            read += (await peer.read()).payload.count(ITEM.encode())
        assert not server.has_more


async def send_until_it_waits(peer: Framed, items: list[str]) -> tuple[asyncio.Task[None], list[str]]:
    """Send items, each in a message, in a task; give it and what was sent, once the server takes no more."""
    sent: list[str] = []

    async def send() -> None:
        for item in items:
            await peer.say(item)
            sent.append(item)
        await peer.send(frame(END % len(items)))

    sending = asyncio.create_task(send())
    before = -1
    while len(sent) != before and not sending.done():
        before = len(sent)
        await asyncio.sleep(0.2)
    return sending, sent


async def test_who_sends_what_nobody_reads_has_to_wait_and_loses_nothing() -> None:
    """What waits is the kernels', and 64 KiB each of ours and of aiohttp's; Linux lets its buffers grow to 10 MB."""
    go = asyncio.Event()
    taken: list[str] = []
    transports: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[Any]:
            transports.append(request.transport)
            yield "begun"
            await go.wait()
            taken.extend([item async for item in chunkwise.items(request)])
            yield len(taken)

        return await respond(request, source())

    items = [f"{number:020000}" for number in range(1500)]
    async with watched(handler) as server, opened(server.port) as peer:
        assert (await peer.read()).item == "begun"
        sending, sent = await send_until_it_waits(peer, items)
        assert not sending.done()
        assert len(sent) < 1000
        assert not transports[0].is_reading()
        go.set()
        async with asyncio.timeout(GUARD_SECONDS):
            await sending
        assert (await peer.read()).item == 1500
        assert await peer.read_to_end() == (1000, "complete; items=2")
    assert taken == items


async def test_who_sends_and_reads_no_answers_has_to_wait_and_loses_nothing() -> None:
    items = [f"{number:020000}" for number in range(1500)]
    async with (
        watched(echoing(stall_seconds=0), send_bytes=SMALL_BYTES) as server,
        opened(server.port, receive_bytes=SMALL_BYTES) as peer,
    ):
        sending, sent = await send_until_it_waits(peer, items)
        assert not sending.done()
        assert len(sent) < 1000
        assert [(await peer.read()).item for _ in items] == items
        await sending
        assert await peer.read_to_end() == (1000, "complete; items=1500")


@both_framings
async def test_64_mb_in_either_direction_take_little_memory(subprotocol: str) -> None:
    """On both sides together; benchmarks/memory.py shows it with 1 GB, each side in a process of its own."""

    async def many() -> AsyncIterator[str]:
        for number in range(6400):
            yield f"{number:010000}"

    protocols = [subprotocol] * bool(subprotocol)
    async with watched(echoing()) as server, ClientSession() as session:
        url = f"ws://127.0.0.1:{server.port}/0"
        async with session.ws_connect(url, protocols=protocols) as websocket:
            tracemalloc.start()
            try:
                sending = asyncio.create_task(send_all(websocket, many()))
                came = 0
                async for item in chunkwise.items(websocket):
                    assert int(item[-8:]) == came
                    came += 1
                await sending
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert (await only_outcome(server)).end == "complete"
    assert came == 6400
    assert peak < 4 * 2**20


async def send_all(websocket: ClientWebSocketResponse, items: AsyncIterator[str]) -> None:
    count = 0
    async for item in items:
        await websocket.send_json(item)
        count += 1
    await websocket.send_str(END % count)


async def test_a_hundred_at_once_do_not_hold_each_other_up() -> None:
    async with watched(echoing(), streams(lambda: Waiting(1).items())) as server, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(opened(server.port)) for _ in range(100)]
        idle = [await stack.enter_async_context(opened(server.port, "/1")) for _ in range(5)]
        for count in range(3):
            for index, peer in enumerate(peers):
                await peer.say([index, count])
            for index, peer in enumerate(peers):
                assert (await peer.read()).item == [index, count]
        for peer in peers:
            await peer.send(frame(END % 3))
        assert [await peer.read_to_end() for peer in peers] == [(1000, "complete; items=3")] * 100
        assert [(await server.outcome()).end for _ in peers] == ["complete"] * 100
        assert [(await peer.read()).item for peer in idle] == [1] * 5
        assert not server.has_more
