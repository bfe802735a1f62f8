"""Every way in which the other side of a WebSocket can stop -> a proven end, a failure, or a truncated stream."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from chunkwise import DecodeError, RemoteError, TruncatedError
from chunkwise.formats.messages import SUBPROTOCOL
from tests.each_row import each_row
from tests.transports.failures.websocket_readers import READERS, heard_by, masks, messages
from tests.transports.websocket_peer import BINARY, CLOSE, PING, Peer, Talk, close, complete, frame

TEXTS = ['{"n":0}', '"Zoë"', "[2]", "3", "null"]
ITEMS = [{"n": 0}, "Zoë", [2], 3, None]

every_reader = each_row("reader", READERS)
in_both_framings = each_row("subprotocol", ["", SUBPROTOCOL], ids=["a message each", "batches"])


def end_record(items: int | str, status: str = "complete", more: str = "") -> str:
    return f' {{"stream-end":{{"status":"{status}","items":{items}{more}}}}}'


class Stop(NamedTuple):
    """How one side stops after five items: its last bytes, masked or not, and the end of its connection."""

    tail: Callable[[bool], bytes]
    end: str = "close"


def closes(code: int | None, reason: str = "") -> Stop:
    return Stop(lambda mask: close(code, reason, mask=mask))


def says(*texts: str, end: str = "FIN") -> Stop:
    return Stop(lambda mask: b"".join(frame(text, mask=mask) for text in texts), end)


WHOLE = {
    "the count": Stop(lambda mask: complete(5, mask=mask)),
    "the count, then text": Stop(lambda mask: complete(5, mask=mask) + frame("5", mask=mask)),
    "the count, then another close": Stop(lambda mask: complete(5, mask=mask) + close(1011, "x", mask=mask)),
    "the count, in a message with another begun": Stop(
        lambda mask: frame("[1", mask=mask, fin=False) + complete(5, mask=mask)
    ),
    "an end record": says(end_record(5)),
    "an end record, then a message": says(end_record(5), "5"),
    "an end record, then a reset": says(end_record(5), end="RST"),
    "an end record after a ping": Stop(lambda mask: frame("?", PING, mask=mask) + frame(end_record(5), mask=mask)),
}

CUT = {
    "1000": closes(1000),
    "1000 and other text": closes(1000, "bye"),
    "1000 and complete": closes(1000, "complete"),
    "1000 and half a count": closes(1000, "complete; items="),
    "1000 and more than a count": closes(1000, "complete; items=5."),
    "1000 and a line after the count": closes(1000, "complete; items=5\n"),
    "1000 and a signed count": closes(1000, "complete; items=+5"),
    "1000 and failed": closes(1000, "failed; items=5"),
    "a count of too few": closes(1000, "complete; items=4"),
    "a count of too many": closes(1000, "complete; items=6"),
    "a count of none": closes(1000, "complete; items=0"),
    "a count of 20 digits": closes(1000, "complete; items=99999999999999999999"),
    "a count of many digits": closes(1000, f"complete; items={'9' * 100}"),
    "no code": closes(None),
    "FIN": Stop(lambda _: b"", "FIN"),
    "RST": Stop(lambda _: b"", "RST"),
    "a ping and FIN": Stop(lambda mask: frame("", PING, mask=mask), "FIN"),
    "half a frame and FIN": Stop(lambda mask: frame("55555", mask=mask)[:-1], "FIN"),
    "half a frame and RST": Stop(lambda mask: frame("55555", mask=mask)[:-1], "RST"),
    "half a frame and a close": Stop(lambda mask: frame("5" * 99, mask=mask)[:-60] + complete(5, mask=mask), "FIN"),
    "half a close and FIN": Stop(lambda mask: complete(5, mask=mask)[:-1], "FIN"),
    "half a message and FIN": Stop(lambda mask: frame("5", mask=mask, fin=False), "FIN"),
    "half a message and a close that counts it": Stop(
        lambda mask: frame("5", mask=mask, fin=False) + complete(6, mask=mask)
    ),
    "an end record of too few": says(end_record(4)),
    "an end record of too many": says(end_record(6)),
    "an end record of none": says(end_record(0)),
    "an end record of 20 digits": says(end_record("99999999999999999999")),
    "half an end record": Stop(lambda mask: frame(end_record(5), mask=mask)[:-1], "FIN"),
}

FAILED = {  # and the status of each
    "1001": (closes(1001), 503),
    "1001 and the count": (closes(1001, "complete; items=5"), 503),
    "1002": (closes(1002), 400),
    "1003": (closes(1003), 415),
    "1007": (closes(1007), 422),
    "1008": (closes(1008), 400),
    "1009": (closes(1009), 413),
    "1010": (closes(1010), 500),
    "1011": (closes(1011, "Zoë's shop is shut"), 500),
    "1011 and the count": (closes(1011, "complete; items=5"), 500),
    "1011, then the count": (Stop(lambda mask: close(1011, mask=mask) + complete(5, mask=mask)), 500),
    "1011, then text": (Stop(lambda mask: close(1011, mask=mask) + frame(end_record(5), mask=mask)), 500),
    "1012": (closes(1012), 503),
    "1013": (closes(1013), 503),
    "3000": (closes(3000, "complete; items=5"), 500),
    "4000": (closes(4000, "closed for lunch"), 500),
    "4999": (closes(4999), 500),
    "a failed end record": (says(end_record(5, "failed")), 500),
    "a failed end record of a wrong count": (says(end_record(4, "failed", ',"problem":{"status":409}')), 409),
    "a failed end record, then the count": (
        Stop(lambda mask: frame(end_record(5, "failed"), mask=mask) + complete(5, mask=mask)),
        500,
    ),
}

BAD = {
    "1004": closes(1004),
    "999": closes(999, "complete; items=5"),
    "half a code": Stop(lambda mask: frame(b"\x03", CLOSE, mask=mask)),
    "a reason that is no UTF-8": Stop(lambda mask: frame(b"\x03\xe8complete; items=5\xff", CLOSE, mask=mask)),
    "a binary message": Stop(lambda mask: frame("5", BINARY, mask=mask) + complete(6, mask=mask)),
    "a binary message that looks like an end": Stop(lambda mask: frame(end_record(5), BINARY, mask=mask)),
    "a reserved bit": Stop(lambda mask: b"\xc1" + frame("5", mask=mask)[1:] + complete(6, mask=mask)),
    "an unknown opcode": Stop(lambda mask: frame("5", 3, mask=mask) + complete(6, mask=mask)),
    "a message inside a message": Stop(lambda mask: frame("5", mask=mask, fin=False) + frame("6", mask=mask)),
    "the rest of no message": Stop(lambda mask: frame("5", 0, mask=mask) + complete(6, mask=mask)),
    "an end record of a negative count": says(end_record(-5)),
    "an end record without a count": says(' {"stream-end":{"status":"complete"}}'),
    "an end record of an unknown status": says(end_record(5, "fine")),
    "an end record that is no JSON": says(' {"stream-end":{"status":"complete","items":5}'),
    "an end record of no members": says(' {"stream-end":'),
}


def stopping(stop: Stop, reader: str, subprotocol: str) -> Talk:
    mask = masks(reader)

    async def talk(peer: Peer) -> None:
        await peer.send(messages(TEXTS, subprotocol, mask=mask) + stop.tail(mask))
        if stop.end == "RST":
            await peer.reset()
        else:
            if stop.end == "FIN":
                peer.fin()
            await peer.hear_all()

    return talk


@in_both_framings
@every_reader
@each_row("name", WHOLE)
async def test_proven_end_makes_a_stream_complete(name: str, reader: str, subprotocol: str) -> None:
    came = await heard_by(reader, stopping(WHOLE[name], reader, subprotocol), subprotocol=subprotocol)
    assert came == (ITEMS, None, "proven", 5)


@in_both_framings
@every_reader
@each_row("name", CUT)
async def test_every_other_end_is_truncated(name: str, reader: str, subprotocol: str) -> None:
    came = await heard_by(reader, stopping(CUT[name], reader, subprotocol), subprotocol=subprotocol)
    assert (came.items, came.end, came.items_seen) == (ITEMS, None, 5)
    assert type(came.error) is TruncatedError, repr(came.error)
    assert came.error.items_seen == 5


@in_both_framings
@every_reader
@each_row("name", FAILED)
async def test_close_code_becomes_a_remote_error(name: str, reader: str, subprotocol: str) -> None:
    stop, status = FAILED[name]
    came = await heard_by(reader, stopping(stop, reader, subprotocol), subprotocol=subprotocol)
    assert (came.items, came.end) == (ITEMS, None)
    assert isinstance(came.error, RemoteError), repr(came.error)
    assert came.error.status == status


@every_reader
async def test_close_reason_is_the_problem_title(reader: str) -> None:
    came = await heard_by(reader, stopping(closes(4000, "Zoë has shut"), reader, ""))
    assert isinstance(came.error, RemoteError)
    assert came.error.problem == {"title": "Zoë has shut", "status": 500}
    assert "4000" in str(came.error)
    assert "Zoë has shut" in str(came.error)


@in_both_framings
@every_reader
@each_row("name", BAD)
async def test_invalid_frame_is_reported_after_items(name: str, reader: str, subprotocol: str) -> None:
    came = await heard_by(reader, stopping(BAD[name], reader, subprotocol), subprotocol=subprotocol)
    assert (came.items, came.end) == (ITEMS, None)
    assert type(came.error) is DecodeError, repr(came.error)


@pytest.mark.parametrize("reader", READERS)
async def test_items_after_an_end_record_are_an_error(reader: str) -> None:
    stop = says(f"5\n{end_record(6)}\n7\n")
    came = await heard_by(reader, stopping(stop, reader, SUBPROTOCOL), subprotocol=SUBPROTOCOL)
    assert (came.items, came.end) == ([*ITEMS, 5], None)
    assert type(came.error) is DecodeError, repr(came.error)


@pytest.mark.parametrize("reader", READERS)
async def test_empty_stream_needs_a_proven_end(reader: str) -> None:
    async def empty(peer: Peer) -> None:
        await peer.send(complete(0, mask=masks(reader)))
        await peer.hear_all()

    async def cut(peer: Peer) -> None:
        peer.fin()
        await peer.hear_all()

    assert await heard_by(reader, empty) == ([], None, "proven", 0)
    came = await heard_by(reader, cut)
    assert (came.items, type(came.error), came.end) == ([], TruncatedError, None)
