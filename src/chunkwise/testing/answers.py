"""An answer as it stands on the wire: its bytes, how its connection ended, and where its framing ends (RFC 9112 §6.3).

Must not know what is promised of answers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal
from urllib.parse import urlsplit

from chunkwise.testing.conformance import shown
from chunkwise.testing.faults import body_start
from chunkwise.testing.sockets import BUFFER_BYTES, connect

_status_line = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d)[ \r]")
_chunk_size = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(;[^\r\n]*)?")


@dataclass(slots=True)
class Answer:
    """What came over one connection.

    Attributes:
        data: all bytes.
        ending: how the connection ended; "open" if it did not, as long as anybody waited.
        arrivals: when how many bytes had come, in seconds.
    """

    data: bytes = b""
    ending: Literal["open", "closed", "reset"] = "open"
    arrivals: list[tuple[float, int]] = field(default_factory=list)

    @property
    def status_lines(self) -> int:
        """How many there are, in content as well; interim ones do not count."""
        return len(_status_line.findall(self.data))


@dataclass(frozen=True, slots=True)
class Frame:
    """How the first answer of a connection is framed.

    Attributes:
        status: its status.
        kind: what ends its body.
        start: where its body starts.
        end: where it ends, or None if the end has not come; where the connection's end ends it, nobody can say.
    """

    status: int
    kind: Literal["chunks", "length", "close"]
    start: int
    end: int | None


def request(url: str, headers: Mapping[str, str], *, method: str = "GET", version: str = "1.1") -> bytes:
    """Return a request as bytes."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/{version}", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def ask(url: str, requests: bytes, patience_seconds: float) -> Answer:
    """Send requests over one connection and read until it ends, or patience does."""
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    answer = Answer()
    start = monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_seconds):
            with await connect(parts.hostname or "", parts.port or 80) as sock:
                try:
                    await loop.sock_sendall(sock, requests)
                    while data := await loop.sock_recv(sock, BUFFER_BYTES):
                        answer.data += data
                        answer.arrivals.append((monotonic() - start, len(answer.data)))
                    answer.ending = "closed"
                except ConnectionError:
                    answer.ending = "reset"
    answer.arrivals.append((monotonic() - start, len(answer.data)))
    return answer


def frame_of(data: bytes) -> Frame:
    """Return how an answer is framed.

    Raises:
        AssertionError: it is not HTTP/1.
    """
    start = body_start(data)
    assert start >= 0, f"no whole head of an answer came, only {shown(data)}"
    line, *told = data[: start - 4].rpartition(b"\r\n\r\n")[2].split(b"\r\n")
    status = _status_line.match(line + b"\r")
    assert status is not None, f"the answer starts with {shown(line)}, expected a status line"
    headers = {}
    for header in told:
        name, _, value = header.partition(b":")
        headers[name.strip().lower()] = value.strip()
    coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    assert not (coding and length), "the answer has Transfer-Encoding and Content-Length: RFC 9112 §6.2 allows one"
    if coding is not None:
        assert coding.lower() == b"chunked", f"Transfer-Encoding is {coding!r}, expected chunked"
        return Frame(int(status[1]), "chunks", start, _end_of_chunks(data, start))
    if length is not None:
        assert length.isdigit(), f"Content-Length is {length!r}"
        end = start + int(length)
        return Frame(int(status[1]), "length", start, end if len(data) >= end else None)
    return Frame(int(status[1]), "close", start, None)


def _end_of_chunks(data: bytes, position: int) -> int | None:
    """Return where chunks end (RFC 9112 §7.1), or None if the last has not come."""
    while (end := data.find(b"\r\n", position)) >= 0:
        size = _chunk_size.fullmatch(data, position, end)
        line = data[position:end]
        assert size is not None, f"{shown(line)} stands where the size of a chunk is expected"
        if int(size[1], 16) == 0:
            trailers = data.find(b"\r\n\r\n", end)
            return trailers + 4 if trailers >= 0 else None
        position = end + 2 + int(size[1], 16)
        behind = data[position : position + 2]
        assert b"\r\n".startswith(behind), f"{behind!r} stands behind a chunk, expected its line end"
        position += 2
    return None
