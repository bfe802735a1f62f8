"""What can be done to an answer on its way: faults as data, and where in the answer they strike.

Must not know sockets: `proxy` does what is said here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

End = Literal["cut", "reset", "stall"]
Part = Literal["answer", "body"]

MAX_HEAD_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to a connection; ``Fault()`` passes everything on as it is.

    Two faults that say different things are joined by ``|``: ``http10() | cut_at(100)``.

    Attributes:
        end: how the answer ends too early, or None.
        at: after how many bytes it does.
        of: where these are counted from: the first byte of the status line, or of the body.
        piece_bytes: how many bytes are passed on at once, or None for all that came.
        every_seconds: the pause between such pieces.
        as_http10: whether the request is sent on as HTTP/1.0.

    Raises:
        ValueError: a number is negative, or a piece has no bytes; or two faults of one kind are joined.
    """

    end: End | None = None
    at: int = 0
    of: Part = "answer"
    piece_bytes: int | None = None
    every_seconds: float = 0.0
    as_http10: bool = False

    def __post_init__(self) -> None:
        if self.at < 0 or self.every_seconds < 0:
            raise ValueError(f"bytes and seconds are at least 0, got {self}")
        if self.piece_bytes is not None and self.piece_bytes < 1:
            raise ValueError(f"piece_bytes must be at least 1, got {self.piece_bytes}")

    def __or__(self, other: Fault) -> Fault:
        twice = (self.end and other.end) or (self.piece_bytes and other.piece_bytes)
        if twice:
            raise ValueError(f"two faults of one kind cannot be joined: {self} and {other}")
        told = {
            field.name: getattr(fault, field.name)
            for fault in (self, other)
            for field in fields(fault)
            if getattr(fault, field.name) != field.default
        }
        return Fault(**told)


def none() -> Fault:
    """Pass everything on."""
    return Fault()


def cut_at(count: int, *, of: Part = "answer") -> Fault:
    """Close the connection cleanly (FIN) behind that many bytes of the answer.

    All `at` faults count bytes on the wire, so that sizes of chunks count, too; 0 is before the first byte, once the
    server has begun to answer. On a connection that is used again the count goes on: it is one for the connection, and
    ``of="body"`` counts from the body of its first answer.

    Args:
        count: after how many bytes.
        of: where these are counted from: the first byte of the status line, or of the body.
    """
    return Fault(end="cut", at=count, of=of)


def reset_at(count: int, *, of: Part = "answer") -> Fault:
    """Reset the connection (RST) behind that many bytes of the answer, once the client's kernel has those before.

    Under Linux that is known; elsewhere the reset waits a tenth of a second. What the client's kernel has is not yet
    read: Linux gives it before the reset, other systems may forget it, and so do asyncio's own streams.

    Args:
        count: after how many bytes; see `cut_at`.
        of: see `cut_at`.
    """
    return Fault(end="reset", at=count, of=of)


def stall_at(count: int, *, of: Part = "answer") -> Fault:
    """Pass on that many bytes of the answer and then no more; the connection stays open until the client leaves.

    Args:
        count: how many bytes; see `cut_at`.
        of: see `cut_at`.
    """
    return Fault(end="stall", at=count, of=of)


def dribble(piece_bytes: int, every_seconds: float) -> Fault:
    """Pass the answer on in pieces of a few bytes, with a pause behind each.

    Args:
        piece_bytes: how many bytes a piece has.
        every_seconds: how long the pauses are.
    """
    return Fault(piece_bytes=piece_bytes, every_seconds=every_seconds)


def http10() -> Fault:
    """Send the request on as HTTP/1.0, without ``Connection`` and ``TE``: one request a connection.

    A request with a chunked body, which HTTP/1.0 has not, is answered with 411.
    """
    return Fault(as_http10=True)


class Countdown:
    """How many bytes of an answer may pass before its fault strikes."""

    def __init__(self, fault: Fault) -> None:
        self._at = fault.at if fault.end is not None and fault.of == "answer" else None
        self._at_of_body = fault.at if fault.end is not None and fault.of == "body" else None
        self._head = b""
        self._passed = 0

    def allow(self, data: bytes) -> tuple[bytes, bool]:
        """Return the bytes that may pass, and whether the fault strikes behind them.

        Raises:
            ConnectionError: the answer's head is too long to find its body.
        """
        if self._at_of_body is not None:
            self._head += data
            if (start := body_start(self._head)) >= 0:
                self._at, self._at_of_body, self._head = start + self._at_of_body, None, b""
            elif len(self._head) > MAX_HEAD_BYTES:
                raise ConnectionError(f"no body within {MAX_HEAD_BYTES} bytes of the answer")
        allowed = data if self._at is None else data[: self._at - self._passed]
        self._passed += len(allowed)
        return allowed, self._passed == self._at


def body_start(answer: bytes) -> int:
    """Return where the body of an answer starts, behind all interim answers (1xx), or -1 if it has not come yet."""
    start = 0
    while (end := answer.find(b"\r\n\r\n", start)) >= 0:
        interim = answer[start:end].split(b" ", 2)[1:2]
        start = end + 4
        if not interim or not interim[0].startswith(b"1") or interim[0] == b"101":
            return start
    return -1


_DROPPED = {"connection", "keep-alive", "proxy-connection", "te"}


def as_http10(head: bytes) -> tuple[bytes, int] | None:
    """Return the head of a request as HTTP/1.0 and the length of its body; None if that has no length."""
    line, *told = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = line.rpartition(" ")[0] + " HTTP/1.0"
    length = 0
    kept = []
    for header in told:
        name, _, value = header.partition(":")
        if name.lower() == "transfer-encoding":
            return None
        if name.lower() == "content-length" and value.strip().isdecimal():
            length = int(value)
        if name.lower() not in _DROPPED:
            kept.append(header)
    return "\r\n".join([line, *kept, "", ""]).encode("latin-1"), length
