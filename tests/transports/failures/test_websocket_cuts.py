"""WebSockets cut after each byte, read by the client or the server at any pace -> their items, then an error.

The expected items follow from the frames written here, and do not depend on our decoders.
"""

import asyncio
from typing import Any, Literal

import pytest

from chunkwise import StalledError, TruncatedError
from chunkwise.formats.messages import SUBPROTOCOL
from tests.each_row import each_row
from tests.needs import needs_linux
from tests.transports.failures.websocket_readers import READERS, SERVERS, Came, hearing, masks, messages
from tests.transports.websocket_peer import PING, Peer, Talk, complete, frame

LONG = "ä😀" * 25  # its frame has a length of 16 bits

End = Literal["FIN", "RST", "stall"]
Proof = Literal["close", "record"]

every_reader = each_row("reader", READERS)
in_both_framings = each_row("subprotocol", ["", SUBPROTOCOL], ids=["a message each", "batches"])
by_both_proofs = each_row("proof", ["close", "record"])


class Recording:
    """The frames of a complete stream, and its items after each byte.

    Attributes:
        data: the frames.
        whole: the number of bytes after which the end is proven.
    """

    def __init__(self, subprotocol: str, proof: Proof, *, mask: bool, pings: bool = True) -> None:
        self.data = b""
        self._ends: list[tuple[int, list[Any]]] = []
        self._add(frame('"ä"', mask=mask), "ä")
        ping = frame("?", PING, mask=mask) if pings else b""
        self._add(ping)
        if subprotocol:
            self._add(frame(f'1\n"{LONG}"\n[{{}}]\n', mask=mask), 1, LONG, [{}])
        else:
            self._add(frame(f'"{LONG}"', mask=mask), LONG)
        text = '{"😀":[2]}'.encode()
        self._add(frame(text[:5], mask=mask, fin=False))  # inside a character
        self._add(ping)  # between the parts of a message
        self._add(frame(text[5:], 0, mask=mask), {"😀": [2]})
        count = len(self.items_behind(len(self.data)))
        record = f' {{"stream-end":{{"status":"complete","items":{count}}}}}'
        self._add(complete(count, mask=mask) if proof == "close" else frame(record, mask=mask))
        self.whole = len(self.data)

    def _add(self, data: bytes, *items: Any) -> None:
        self.data += data
        self._ends.append((len(self.data), [*items]))

    def items_behind(self, size: int) -> list[Any]:
        return [item for end, items in self._ends if end <= size for item in items]

    def check(self, came: Came, size: int, error: type[Exception] = TruncatedError) -> None:
        where = f"byte {size} of {self.whole}, after {self.data[:size][-20:]!r}: {came}"
        assert came.items == self.items_behind(size), where
        assert came.items_seen == len(came.items), where
        if size == self.whole:
            assert (came.error, came.end) == (None, "proven"), where
        else:
            assert type(came.error) is error, where
            assert came.end is None, where


def cut_at(data: bytes, end: End) -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.send(data)
        if end == "RST":
            await peer.reset()
            return
        if end == "FIN":
            peer.fin()
        await peer.hear_all()

    return talk


@by_both_proofs
@in_both_framings
@pytest.mark.parametrize("reader", READERS)  # one test for all readers would take too long
async def test_every_cut_is_reported_after_its_items(reader: str, subprotocol: str, proof: Proof) -> None:
    recording = Recording(subprotocol, proof, mask=masks(reader))
    async with hearing(reader, subprotocol=subprotocol) as hear:
        for size in range(recording.whole + 1):
            recording.check(await hear(cut_at(recording.data[:size], "FIN")), size)


@needs_linux
@in_both_framings
@pytest.mark.parametrize("reader", READERS)
async def test_reset_loses_no_received_items(reader: str, subprotocol: str) -> None:
    recording = Recording(subprotocol, "record", mask=masks(reader), pings=False)
    async with hearing(reader, subprotocol=subprotocol) as hear:

        async def reset_at(size: int) -> None:
            recording.check(await hear(cut_at(recording.data[:size], "RST")), size)

        at_once = 20 if reader in SERVERS else 1  # a kernel that has nothing to send acknowledges late
        for size in range(0, recording.whole + 1, at_once):
            await asyncio.gather(*map(reset_at, range(size, min(size + at_once, recording.whole + 1))))


@in_both_framings
@pytest.mark.parametrize("reader", [name for name in READERS if name != "items of a request"])
async def test_stall_is_reported_after_received_items(reader: str, subprotocol: str) -> None:
    recording = Recording(subprotocol, "record", mask=masks(reader))

    async def stall_at(size: int) -> None:
        async with hearing(reader, subprotocol=subprotocol, idle_seconds=2) as hear:
            recording.check(await hear(cut_at(recording.data[:size], "stall")), size, StalledError)

    await asyncio.gather(*map(stall_at, range(0, recording.whole, 40)))


# ---- more bytes than the buffers hold

MANY = [f"{index:06}" + "x" * 16_000 for index in range(100)]


def many(reader: str, subprotocol: str) -> bytes:
    """More than aiohttp buffers before the test reads."""
    return messages([f'"{text}"' for text in MANY], subprotocol, mask=masks(reader))


@in_both_framings
@every_reader
async def test_slow_reader_gets_everything_before_a_cut(reader: str, subprotocol: str) -> None:
    data = many(reader, subprotocol) + frame('"half', mask=masks(reader))[:-1]
    async with hearing(reader, subprotocol=subprotocol, pause=0.001) as hear:
        came = await hear(cut_at(data, "FIN"))
    assert (came.items == MANY, len(came.items), came.end) == (True, len(MANY), None)
    assert type(came.error) is TruncatedError


@by_both_proofs
@in_both_framings
@every_reader
async def test_slow_reader_finishes_after_the_sender_left(reader: str, subprotocol: str, proof: Proof) -> None:
    record = f' {{"stream-end":{{"status":"complete","items":{len(MANY)}}}}}'
    mask = masks(reader)
    data = many(reader, subprotocol) + (
        complete(len(MANY), mask=mask) if proof == "close" else frame(record, mask=mask)
    )
    async with hearing(reader, subprotocol=subprotocol, pause=0.001) as hear:
        came = await hear(cut_at(data, "FIN"))
    assert (came.items == MANY, came.error, came.end) == (True, None, "proven")


@needs_linux
@in_both_framings
@every_reader
async def test_slow_reader_gets_kernel_bytes_after_reset(reader: str, subprotocol: str) -> None:
    async with hearing(reader, subprotocol=subprotocol, pause=0.001) as hear:
        came = await hear(cut_at(many(reader, subprotocol), "RST"))
    assert came.items == MANY, len(came.items)
    assert type(came.error) is TruncatedError
