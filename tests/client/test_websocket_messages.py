"""`open_stream` over WebSockets: unusual messages, and messages that are refused with a reason."""

from typing import Any

import pytest
from aiohttp import ClientSession

from chunkwise import DecodeError, LimitError, StreamError, open_stream
from chunkwise.formats.messages import SUBPROTOCOL
from tests.each_row import each_row
from tests.transports.failures.websocket_readers import READERS, heard_by, masks
from tests.transports.websocket_peer import BINARY, CLOSE, Frame, Peer, Talk, complete, frame, server

in_both_framings = each_row("subprotocol", ["", SUBPROTOCOL], ids=["a message each", "batches"])


class Refused:
    """A server that sends given frames, and records the frames that it receives."""

    def __init__(self, *frames: bytes) -> None:
        self.heard: list[Frame] = []
        self._frames = frames

    async def talk(self, peer: Peer) -> None:
        await peer.send(b"".join(self._frames))
        self.heard += await peer.hear_all()

    @property
    def code(self) -> int:
        assert [each.opcode for each in self.heard] == [CLOSE]
        return self.heard[0].code


async def refused(*frames: bytes, subprotocol: str = "", **options: Any) -> tuple[list[Any], StreamError | None, int]:
    it, came = Refused(*frames), []
    async with server(it.talk, subprotocol=subprotocol) as url, ClientSession() as session:
        error: StreamError | None = None
        try:
            async with open_stream(session, url, **options) as stream:
                async for item in stream:
                    came.append(item)  # noqa: PERF401 - the items before an error are kept
        except StreamError as raised:
            error = raised
    return came, error, it.code


def sized(size: int, subprotocol: str) -> bytes:
    text = '"' + "x" * (size - 2) + '"'
    return frame(f"{text}\n" if subprotocol else text)


@in_both_framings
async def test_item_may_be_as_large_as_its_limit(subprotocol: str) -> None:
    came, error, code = await refused(
        sized(1000, subprotocol), complete(1), subprotocol=subprotocol, max_item_bytes=1000
    )
    assert (len(came), error, code) == (1, None, 1000)


@in_both_framings
@pytest.mark.parametrize("size", [1001, 300_000])
async def test_item_over_its_limit_closes_with_1009(subprotocol: str, size: int) -> None:
    came, error, code = await refused(
        frame("0"), sized(size, subprotocol), complete(2), subprotocol=subprotocol, max_item_bytes=1000
    )
    assert came == [0]
    assert isinstance(error, LimitError), repr(error)
    assert code == 1009


@in_both_framings
@each_row(
    ("message", "code"),
    [
        (frame("1", BINARY), 1003),
        (frame(b'"\xff"'), 1007),
        (frame("[1,"), 1007),
        (frame("nil"), 1007),
    ],
    ids=["binary", "no UTF-8", "half JSON", "no JSON"],
)
async def test_server_gets_the_close_reason(message: bytes, code: int, subprotocol: str) -> None:
    came, error, told = await refused(frame("0"), message, complete(2), subprotocol=subprotocol)
    assert came == [0]
    assert type(error) is DecodeError, repr(error)
    assert error.item_index == 1
    assert told == code


ODD = {
    "JSON over several lines": ('{\n  "n": [\r\n1,\n2]\n}\n', {"n": [1, 2]}),
    "white space around it": (" \t1\n", 1),
}


@each_row("reader", READERS)
@each_row("name", ODD)
async def test_message_is_one_json_document(name: str, reader: str) -> None:
    text, item = ODD[name]
    came = await heard_by(reader, saying(frame(text, mask=masks(reader)), complete(1, mask=masks(reader))))
    assert came == ([item], None, "proven", 1)


@each_row("reader", READERS)
@each_row("text", ["1\n2", "1 2", "{}{}", "1\n2\n"])
async def test_several_json_texts_are_refused(text: str, reader: str) -> None:
    mask = masks(reader)
    came = await heard_by(reader, saying(frame("0", mask=mask), frame(text, mask=mask), complete(3, mask=mask)))
    assert (came.items, came.end) == ([0], None)
    assert isinstance(came.error, DecodeError), repr(came.error)
    assert came.error.item_index == 1


def saying(*frames: bytes) -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.send(b"".join(frames))
        await peer.hear_all()

    return talk
