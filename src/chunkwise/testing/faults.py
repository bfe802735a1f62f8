"""The faults that a `FaultProxy` can cause, and a counter of the bytes that pass before a fault.

A fault is a cut, a reset, a stall, slow pieces or HTTP/1.0.
"""

from dataclasses import dataclass, fields
from typing import Literal, get_args

End = Literal["cut", "reset", "stall"]
Part = Literal["response", "body"]

MAX_HEAD_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A change that a `FaultProxy` makes to a connection. ``Fault()`` changes nothing.

    There are three kinds of faults: an early end, small pieces and HTTP/1.0. Join faults of different kinds with ``|``:
    ``http10() | cut_at(100)``.

    Attributes:
        end: how the response ends too early: see `cut_at`, `reset_at` and `stall_at`. None if it does not end early.
        at: the number of bytes after which the response ends.
        of: where the count of these bytes starts: at the status line (``"response"``) or at the body (``"body"``).
        piece_bytes: the size of the pieces that are passed on; None for all bytes at once.
        every_seconds: the pause after each piece, in seconds.
        as_http10: whether the request is sent on as HTTP/1.0.

    Raises:
        ValueError: a number is negative, a piece has no bytes, ``of`` is unknown, or two faults of the same kind are
            joined.
    """

    end: End | None = None
    at: int = 0
    of: Part = "response"
    piece_bytes: int | None = None
    every_seconds: float = 0.0
    as_http10: bool = False

    def __post_init__(self) -> None:
        if self.at < 0 or self.every_seconds < 0:
            raise ValueError(f"at and every_seconds must be >= 0, got {self}")
        if self.of not in get_args(Part):
            raise ValueError(f"of must be one of {', '.join(get_args(Part))}, got {self.of!r}")
        if self.piece_bytes is not None and self.piece_bytes < 1:
            raise ValueError(f"piece_bytes must be >= 1, got {self.piece_bytes}")

    def __or__(self, other: "Fault") -> "Fault":
        if (self.end and other.end) or (self.piece_bytes and other.piece_bytes):
            raise ValueError(f"expected two faults of different kinds to join, got {self} and {other}")
        changed = {
            field.name: getattr(fault, field.name)
            for fault in (self, other)
            for field in fields(fault)
            if getattr(fault, field.name) != field.default
        }
        return Fault(**changed)


def none() -> Fault:
    """Change nothing: the proxy passes all bytes on as it receives them."""
    return Fault()


def cut_at(count: int, *, of: Part = "response") -> Fault:
    """Close the connection cleanly (FIN) after ``count`` bytes of the response.

    The bytes are counted as they are sent, so the line with the size of each chunk counts as well. With a count of 0,
    the connection is closed when the server sends the first byte of its response, and the client receives no byte. If
    a connection is used for several requests, the count continues from one response to the next, and ``of="body"``
    counts from the body of the first response.

    Args:
        count: the number of bytes to pass on first.
        of: where the count starts: at the status line (``"response"``) or at the body (``"body"``).
    """
    return Fault(end="cut", at=count, of=of)


def reset_at(count: int, *, of: Part = "response") -> Fault:
    """Reset the connection (RST) when the client's kernel has received ``count`` bytes of the response.

    Linux reports when the bytes are received. On other systems, the reset is sent 0.1 seconds after the bytes. If the
    client has not read the bytes by then, Linux still delivers them before the reset, but other systems and asyncio's
    own streams may drop them.

    Args:
        count: the number of bytes to pass on first.
        of: see `cut_at`.
    """
    return Fault(end="reset", at=count, of=of)


def stall_at(count: int, *, of: Part = "response") -> Fault:
    """Pass on ``count`` bytes of the response and no more; the connection stays open until the client closes it.

    Args:
        count: the number of bytes to pass on first.
        of: see `cut_at`.
    """
    return Fault(end="stall", at=count, of=of)


def dribble(piece_bytes: int, every_seconds: float) -> Fault:
    """Pass the response on in small pieces, with a pause after each.

    Args:
        piece_bytes: the size of a piece.
        every_seconds: the length of a pause.
    """
    return Fault(piece_bytes=piece_bytes, every_seconds=every_seconds)


def http10() -> Fault:
    """Pass the request on as HTTP/1.0, without the headers ``Connection`` and ``TE``.

    Only the first request of a connection is passed on, because HTTP/1.0 servers close a connection after a response.

    HTTP/1.0 has no chunked bodies, so a request with a chunked body gets a response with status 411.
    """
    return Fault(as_http10=True)


class Countdown:
    """Counts the bytes of a response, so that its fault follows after exactly the right number of bytes."""

    def __init__(self, fault: Fault) -> None:
        self._at = fault.at if fault.end is not None and fault.of == "response" else None
        self._at_of_body = fault.at if fault.end is not None and fault.of == "body" else None
        self._head = b""
        self._passed = 0

    def allow(self, data: bytes) -> tuple[bytes, bool]:
        """Return the part of ``data`` that may be passed on, and whether the fault follows after this part.

        Raises:
            ConnectionError: the count starts at the body, but the head of the response is longer than
                `MAX_HEAD_BYTES`.
        """
        if self._at_of_body is not None:
            self._head += data
            if (start := body_start(self._head)) >= 0:
                self._at, self._at_of_body, self._head = start + self._at_of_body, None, b""
            elif len(self._head) > MAX_HEAD_BYTES:
                raise ConnectionError(f"the head of the response has not ended after {MAX_HEAD_BYTES} bytes")
        allowed = data if self._at is None else data[: self._at - self._passed]
        self._passed += len(allowed)
        return allowed, self._passed == self._at


def body_start(response: bytes) -> int:
    """Return the offset at which a response's body starts, after all interim responses (1xx).

    Return -1 if the end of the response's head was not received yet.
    """
    start = 0
    while (end := response.find(b"\r\n\r\n", start)) >= 0:
        interim = response[start:end].split(b" ", 2)[1:2]
        start = end + 4
        if not interim or not interim[0].startswith(b"1") or interim[0] == b"101":
            return start
    return -1


_DROPPED = {"connection", "keep-alive", "proxy-connection", "te"}


def as_http10(head: bytes) -> tuple[bytes, int] | None:
    """Return the head of a request, changed to HTTP/1.0, and the length of the request's body.

    Return None if the request has a Transfer-Encoding, because HTTP/1.0 has no chunked bodies.
    """
    line, *headers = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = line.rpartition(" ")[0] + " HTTP/1.0"
    length = 0
    kept = []
    for header in headers:
        name, _, value = header.partition(":")
        if name.lower() == "transfer-encoding":
            return None
        if name.lower() == "content-length" and value.strip().isdecimal():
            length = int(value)
        if name.lower() not in _DROPPED:
            kept.append(header)
    return "\r\n".join([line, *kept, "", ""]).encode("latin-1"), length
