"""Clients that violate RFC 6455 -> a close with the reason, and no effect on other streams.

In each test two other streams of the same server run. At the end no task and no file descriptor may be left.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import DecodeError, LimitError, StreamError, TruncatedError, open_stream, respond
from chunkwise.server import websocket_wire
from tests.each_row import each_row, rows_at_once
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import Watched, client_of, watched
from tests.transports.websocket_peer import BINARY, CLOSE, CONTINUATION, PING, PONG, Peer, connecting, handshake, opened
from tests.transports.websocket_peer import client_close as closing
from tests.transports.websocket_peer import client_frame as frame
from tests.transports.wire import streams

READING, IDLE, SMALL, PACED, ONE = "/0", "/1", "/2", "/3", "/4"
both_handlers = each_row("path", [READING, IDLE], ids=["reading", "not reading"])

END = ' {"stream-end":{"status":"complete","items":%d}}'
MIB = 2**20


class Sources:
    """Handlers whose sources are counted.

    Attributes:
        open: how many sources are not closed yet.
        read: the items that the last source has read.
        error: the exception that ended the last source.
    """

    def __init__(self) -> None:
        self.open = 0
        self.read: list[Any] = []
        self.error: StreamError | None = None
        self._transport: asyncio.BaseTransport | None = None

    def is_receiving(self) -> bool:
        """Whether the server still reads from the kernel what is sent to a source that does not read."""
        assert isinstance(self._transport, asyncio.Transport)
        return self._transport.is_reading()

    async def reading(self, request: web.Request) -> web.StreamResponse:
        return await respond(request, self._echo(request))

    async def idle(self, request: web.Request) -> web.StreamResponse:
        self._transport = request.transport
        # If the client sent more than the server reads, and left, the server notices it only when a write fails.
        return await respond(request, self._wait(), keepalive_seconds=1)

    async def small(self, request: web.Request) -> web.StreamResponse:
        return await respond(request, self._echo(request, max_item_bytes=1000, max_depth=20))

    async def _echo(self, request: web.Request, **limits: int) -> AsyncIterator[Any]:
        self.open += 1
        self.read, self.error = [], None
        try:
            async for item in chunkwise.items(request, **limits):  # type: ignore[arg-type]
                self.read.append(item)
                yield item
        except StreamError as error:
            self.error = error
            raise
        finally:
            self.open -= 1

    async def _wait(self) -> AsyncIterator[Any]:
        self.open += 1
        try:
            yield "begun"
            await asyncio.Event().wait()
        finally:
            self.open -= 1


def descriptors() -> int:
    return len([*Path("/dev/fd").iterdir()])


async def until(true: Any) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def among_others(sources: Sources) -> AsyncIterator[Watched]:
    """Serve handlers while two other streams run; check that these are complete, and that nothing is left."""
    stop = asyncio.Event()

    async def paced() -> AsyncIterator[int]:
        number = 0
        while not stop.is_set():
            yield number
            number += 1
            await asyncio.sleep(0.005)

    before = asyncio.all_tasks(), descriptors()
    handlers = (sources.reading, sources.idle, sources.small, streams(paced), streams(lambda: [1]))
    async with watched(*handlers) as server, ClientSession() as session:
        longest = [0.0, 0.0]
        begun = [asyncio.Event(), asyncio.Event()]

        async def read(index: int, scheme: str) -> list[int]:
            items = []
            at = asyncio.get_running_loop().time()
            async with open_stream(session, f"{scheme}://127.0.0.1:{server.port}{PACED}") as stream:
                async for item in stream:
                    now = asyncio.get_running_loop().time()
                    longest[index], at = max(longest[index], now - at), now
                    items.append(item)
                    begun[index].set()
            return items

        others = [asyncio.create_task(read(index, scheme)) for index, scheme in enumerate(("http", "ws"))]
        for event in begun:
            await asyncio.wait_for(event.wait(), GUARD_SECONDS)
        yield server
        await until(lambda: not sources.open)
        assert not server.has_more, "got an outcome, expected no more of them"
        stop.set()
        for items in await asyncio.gather(*others):
            assert items == list(range(len(items)))
        assert [(await server.outcome()).end for _ in others] == ["complete"] * 2
        assert max(longest) < GUARD_SECONDS - 10, "the other streams were delayed"  # only detects hanging
    await until(lambda: asyncio.all_tasks() == before[0])
    await until(lambda: descriptors() == before[1])


@asynccontextmanager
async def opened_at(server: Watched, path: str, **options: Any) -> AsyncIterator[Peer]:
    """Open a WebSocket, and wait until its source has begun."""
    async with opened(server.port, path, **options) as peer:
        if path == IDLE:
            assert (await peer.read()).item == "begun"
        yield peer


# ---- invalid frames


WRONG: dict[str, tuple[bytes, int]] = {
    "binary": (frame(b"1", BINARY), 1003),
    "binary in fragments": (frame(b"1", BINARY, fin=False) + frame(b"2", CONTINUATION), 1003),
    "no UTF-8": (frame(b'"\xff"'), 1007),
    "a surrogate in UTF-8": (frame(b'"\xed\xa0\x80"'), 1007),
    "UTF-8 that is cut by the end of the message": (frame(b'"\xe2\x82', fin=False) + frame(b"", CONTINUATION), 1007),
    "a length of 2**62": (frame(b"1", declares=2**62), 1009),
    "a length of 2**64 - 1": (frame(b"1", declares=2**64 - 1), 1009),
    "a fragment of 2**40": (frame(b"1", fin=False) + frame(b"1", CONTINUATION, declares=2**40), 1009),
    "the first reserved bit": (frame(b"1", reserved=4), 1002),
    "the second reserved bit": (frame(b"1", reserved=2), 1002),
    "the third reserved bit": (frame(b"1", reserved=1), 1002),
    "opcode 3": (frame(b"1", 3), 1002),
    "opcode 11": (frame(b"1", 11), 1002),
    "a continuation of nothing": (frame(b"1", CONTINUATION), 1002),
    "a message inside a message": (frame(b"1", fin=False) + frame(b"2"), 1002),
    "a beginning inside a message": (frame(b"1", fin=False) + frame(b"2", fin=False), 1002),
    "a ping of 126 bytes": (frame(b"x" * 126, PING), 1002),
    "a ping of 64 bits": (frame(b"x", PING, wide=True), 1002),
    "half a ping": (frame(b"x", PING, fin=False), 1002),
    "a close of 126 bytes": (closing(1000, "x" * 124), 1002),
    "half a close": (frame(b"\x03\xe8", CLOSE, fin=False), 1002),
    "a close of one byte": (frame(b"\x03", CLOSE), 1002),
    **{f"a close with {code}": (closing(code), 1002) for code in (0, 999, 1004, 1005, 1015, 2999)},
    "a close whose reason is no UTF-8": (closing(1000, b"\xff"), 1007),
}


@rows_at_once(1)
@both_handlers
@each_row("name", WRONG)
async def test_invalid_frame_ends_the_stream(name: str, path: str) -> None:
    sent, code = WRONG[name]
    sources = Sources()
    async with among_others(sources) as server, opened_at(server, path) as peer:
        await peer.send(sent)
        assert (await peer.read_to_close())[-1].closing[0] == code
        outcome = await server.outcome()
        await peer.client.read_to_end()
    if path == IDLE:
        assert (outcome.end, outcome.error) == ("client_gone", None)
    else:
        assert (outcome.end, outcome.error) == ("failed", sources.error)
        assert isinstance(sources.error, LimitError if code == 1009 else DecodeError)
    assert outcome.status == 101


NO_ITEMS: dict[str, tuple[str, int, str]] = {
    "no JSON": ("{nope}", 1007, "item 2"),
    "nothing but a bracket": ("[", 1007, "item 2"),
    "two texts": ("1 2", 1007, "item 2"),
    "a line end inside a string": ('"a\nb"', 1007, "item 2"),
    "too deep": ("[" * 21 + "]" * 21, 1009, "max_depth"),
    "more than the handler takes": (f'"{"x" * 999}"', 1009, "max_item_bytes"),
    "an invalid end record": (' {"stream-end":{"status":"well","items":2}}', 1007, "end record"),
    "an end record that counts wrong": (END % 3, 1008, "received 2 items, but the end record counts 3"),
}


@rows_at_once(1)
@each_row("name", NO_ITEMS)
async def test_invalid_message_is_reported_by_index(name: str) -> None:
    sent, code, what = NO_ITEMS[name]
    sources = Sources()
    async with among_others(sources) as server, opened(server.port, SMALL) as peer:
        await peer.say_items("one", "two")
        await peer.send(frame(sent))
        assert [(await peer.read()).item for _ in range(2)] == ["one", "two"]
        told, reason = await peer.read_to_end()
        outcome = await server.outcome()
    assert told == code
    assert what in reason
    place = "" if code == 1008 else "item 2: "  # an error about missing data has no item index
    assert reason == f"{place}{getattr(sources.error, 'message', None)}"[:123]
    assert sources.read == ["one", "two"]
    assert isinstance(sources.error, {1007: DecodeError, 1008: TruncatedError, 1009: LimitError}[code])
    assert (outcome.end, outcome.error, outcome.items) == ("failed", sources.error, 2)


async def test_too_large_fragments_are_refused_early() -> None:
    """A source that does not read accepts messages of up to 4 MiB."""
    sources = Sources()
    async with among_others(sources) as server, opened_at(server, IDLE) as peer:
        await peer.send(frame(b'"' + b"x" * (MIB - 1), fin=False))
        for _ in range(3):
            await peer.send(frame(b"x" * MIB, CONTINUATION, fin=False))
        await peer.send(frame(b"", CONTINUATION, declares=1))
        assert (await peer.read_to_close())[-1].closing[0] == 1009
        assert (await server.outcome()).end == "client_gone"


async def test_item_over_its_limit_closes_with_1009() -> None:
    sources = Sources()
    async with among_others(sources) as server, opened(server.port, SMALL) as peer:
        await peer.send(frame(b'"' + b"x" * 500, fin=False), frame(b"x" * 500 + b'"', CONTINUATION))
        code, reason = await peer.read_to_end()
        assert (await server.outcome()).end == "failed"
    assert (code, isinstance(sources.error, LimitError)) == (1009, True)
    assert "max_item_bytes" in reason


# ---- unusual, but allowed


ODD_ITEMS = ["é", "€", "😀", "größer als 日本語 🎉", {"a": ["\u2028", None]}, ""]


def fragments(message: bytes, *between: bytes) -> list[bytes]:
    """Return frames of one byte each, with control frames between them, and empty frames at both ends."""
    parts = [frame(b"", fin=False)]
    for index in range(len(message)):
        parts += [*between, frame(message[index : index + 1], CONTINUATION, fin=False)]
    return [*parts, *between, frame(b"", CONTINUATION)]


@pytest.mark.parametrize("between", [(), (frame(b"?", PING),), (frame(b"!", PONG),)], ids=["", "pings", "pongs"])
async def test_one_byte_fragments_form_one_item(between: tuple[bytes, ...]) -> None:
    sources = Sources()
    async with among_others(sources) as server, opened(server.port, READING) as peer:
        pongs = 0
        for item in ODD_ITEMS:
            await peer.send(*fragments(msgspec.json.encode(item), *between))
            while (answer := await peer.read()).opcode == PONG:
                assert answer.payload == b"?"
                pongs += 1
            assert answer.item == item
        await peer.send(frame(END % len(ODD_ITEMS)))
        assert await peer.read_to_end() == (1000, f"complete; items={len(ODD_ITEMS)}")
        assert (await server.outcome()).end == "complete"
    assert sources.read == ODD_ITEMS
    assert (pongs > 0) == (between == (frame(b"?", PING),))


async def test_unusual_frames_are_accepted() -> None:
    """Unmasked frames, which RFC 6455 §5.1 forbids, and lengths in more bytes than needed."""
    sources = Sources()
    async with among_others(sources) as server, opened(server.port, READING) as peer:
        await peer.send(frame("1", mask=False), frame("2", wide=True), frame(""), frame(" "), frame("3\r\n"))
        assert [(await peer.read()).item for _ in range(3)] == [1, 2, 3]
        await peer.send(frame(END % 3, mask=False))
        assert await peer.read_to_end() == (1000, "complete; items=3")
        assert (await server.outcome()).end == "complete"


async def test_close_1006_is_not_a_normal_end() -> None:
    """aiohttp accepts this code in a close frame."""
    sources = Sources()
    async with among_others(sources) as server, opened(server.port, READING) as peer:
        await peer.say_items(1)
        assert (await peer.read()).item == 1
        await peer.send(closing(1006, "complete; items=1"))
        await peer.read_to_end()
        assert (await server.outcome()).end == "failed"
    assert isinstance(sources.error, StreamError)


async def test_messages_after_the_end_are_ignored() -> None:
    sources = Sources()
    async with among_others(sources) as server, opened(server.port, READING) as peer:
        await peer.send(frame("1"), frame(END % 1), *[frame(f'"{"x" * 1000}"')] * 1000, frame("{nope}"))
        assert (await peer.read()).item == 1
        assert await peer.read_to_end() == (1000, "complete; items=1")
        assert (await server.outcome()).end == "complete"
    assert sources.read == [1]


# ---- connections that break


@pytest.mark.usefixtures("short_unread_limit")
@rows_at_once(1)
@both_handlers
@each_row("leaving", ["half_close", "reset"])
@each_row("size", [0, 1, 2, 5, 7])
async def test_truncated_frame_ends_the_stream(size: int, leaving: str, path: str) -> None:
    """The frame is cut in its header, its mask or its payload."""
    sources = Sources()
    async with among_others(sources) as server, opened_at(server, path) as peer:
        await peer.say_items(1)
        if path == READING:
            assert (await peer.read()).item == 1
        await peer.send(frame('"two"')[:size])
        await asyncio.sleep(0.01)
        getattr(peer.client, leaving)()
        outcome = await server.outcome()
    assert outcome.items == 1
    if path == READING:
        assert isinstance(sources.error, TruncatedError)
        assert (outcome.end, sources.read, sources.error.items_seen) == ("client_gone", [1], 1)
    else:
        assert (outcome.end, outcome.error) == ("client_gone", None)


async def test_incomplete_frame_delays_no_other_stream() -> None:
    sources = Sources()
    async with among_others(sources) as server:
        async with opened_at(server, IDLE) as peer, opened(server.port, READING) as other:
            await peer.send(frame('"two"')[:-1])
            await other.send(frame('"two"')[:-1])
            for _ in range(2):
                assert (await peer.read()).opcode == PING
            assert sources.open == 2
            await other.send(frame('"two"')[-1:])
            assert (await other.read()).item == "two"
        assert [(await server.outcome()).end for _ in range(2)] == ["client_gone", "client_gone"]


@rows_at_once(1)
@both_handlers
@pytest.mark.parametrize("leaving", ["close", "reset"])
async def test_disconnect_with_the_handshake_is_gone(leaving: str, path: str) -> None:
    sources = Sources()
    async with among_others(sources) as server:
        for _ in range(5):
            async with connecting(server.port, path, rest=closing(1000) * (leaving == "close")) as peer:
                if leaving == "reset":
                    peer.client.reset()
                else:
                    assert await peer.status() == 101
                    assert (await peer.read_to_close())[-1].closing[0] == 1000
                outcome = await server.outcome()
                # If the reset arrives before the response to the handshake, the source may fail first.
                assert outcome.end == "client_gone" or (leaving == "reset" and outcome.error is not None)


# ---- floods


@rows_at_once(1)
@pytest.mark.parametrize("reads", [True, False], ids=["reads the pongs", "reads nothing"])
@both_handlers
async def test_too_many_pings_close_with_1008(path: str, *, reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_wire, "_REFUSED_SECONDS", 0.5)
    sources = Sources()
    async with among_others(sources) as server, opened_at(server, path) as peer:
        pings = frame(b"x" * 125, PING) * 100
        reading = asyncio.create_task(peer.read_to_close()) if reads else None
        with suppress(ConnectionError):
            for _ in range(100):
                await peer.send(pings)
        if reading is None:
            assert (await server.outcome()).seconds >= 0.5  # the server has waited for the client's close
        frames = [each for each in await (reading or peer.read_to_close()) if each.opcode != PING]
        assert frames[-1].closing == (1008, "got more than 100 pings and pongs in one second")
        assert [each.opcode for each in frames[:-1]] == [PONG] * 100
        if reading is not None:
            await server.outcome()


async def test_hundred_pings_per_second_get_pongs() -> None:
    sources = Sources()
    async with among_others(sources) as server, opened(server.port, READING) as peer:
        await peer.send(*[frame(b"%d" % number, PING) for number in range(100)], frame(END % 0))
        frames = await peer.read_to_close()
        assert [each.payload for each in frames[:-1]] == [b"%d" % number for number in range(100)]
        assert frames[-1].closing == (1000, "complete; items=0")
        assert (await server.outcome()).end == "complete"


async def test_unread_empty_messages_are_limited() -> None:
    """The bytes in flight are limited by the kernel's buffers, which Linux lets grow to 10 MB in total."""
    sources = Sources()
    async with among_others(sources) as server:
        async with opened_at(server, IDLE) as peer:
            sent, before = 0, -1

            async def flood() -> None:
                nonlocal sent
                while sent < 24 * MIB:
                    await peer.send(frame("") * 20_000)
                    sent += 20_000 * len(frame(""))

            sending = asyncio.create_task(flood())
            while sent != before and not sending.done():
                before = sent
                await asyncio.sleep(0.5)
            assert not sending.done()
            for _ in range(50):
                assert not sources.is_receiving()
                await asyncio.sleep(0.005)
            sending.cancel()
            await asyncio.wait({sending})
            peer.client.reset()
        assert (await server.outcome()).end == "client_gone"


# ---- handshakes


NO_HANDSHAKES: dict[str, dict[str, Any]] = {
    "a version of the future": {"Sec_WebSocket_Version": "14"},
    "no version": {"Sec_WebSocket_Version": None},
    "a short key": {"Sec_WebSocket_Key": "c2hvcnQ="},
    "a key that is no base64": {"Sec_WebSocket_Key": "!!!"},
    "no key": {"Sec_WebSocket_Key": None},
    "no Connection": {"Connection": None},
    "another protocol": {"Upgrade": "h2c"},
}


@rows_at_once(1)
@each_row("name", NO_HANDSHAKES)
async def test_incomplete_handshake_is_a_plain_request(name: str) -> None:
    sources = Sources()
    async with among_others(sources) as server, client_of(server.port) as client:
        peer = Peer(client)
        await peer.send(handshake(ONE, **NO_HANDSHAKES[name]))
        assert await peer.status() == 200
        assert "application/json" in peer.head
        assert (await client.read_until(b"[1]\r\n0\r\n\r\n")).endswith(b"[1]\r\n0\r\n\r\n")
        assert (await server.outcome()).end == "complete"


async def test_slow_handshake_is_answered_at_its_end() -> None:
    sources = Sources()
    async with among_others(sources) as server, client_of(server.port) as client:
        peer = Peer(client)
        asked = handshake(READING) + frame("1")
        for index in range(0, len(asked), 7):
            await peer.send(asked[index : index + 7])
            await asyncio.sleep(0.002)
        assert await peer.status() == 101
        assert (await peer.read()).item == 1
        await peer.send(frame(END % 1))
        assert await peer.read_to_end() == (1000, "complete; items=1")
        assert (await server.outcome()).end == "complete"
