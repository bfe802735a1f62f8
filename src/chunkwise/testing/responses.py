"""Send a request over a plain socket, and return the bytes of the response and how the connection ended.

The framing of a response, which is how its end is marked (RFC 9112 §6.3), is found in these bytes.
"""

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
class RawResponse:
    """The bytes that were received over one connection, when they arrived, and how the connection ended."""

    data: bytes = b""
    # "closed" or "reset" if the connection ended like this; "open" if it had not ended before the timeout.
    ending: Literal["open", "closed", "reset"] = "open"
    # Each read adds a pair: the seconds since the start, and the number of bytes that had arrived by then. A last pair
    # is added when the connection ends or the timeout expires.
    arrivals: list[tuple[float, int]] = field(default_factory=list)

    @property
    def status_lines(self) -> int:
        """The number of status lines in all bytes, except the status lines of interim responses (1xx).

        A server that fails may wrongly send a second status line inside the content, so the content is searched too.
        """
        return len(_status_line.findall(self.data))


@dataclass(frozen=True, slots=True)
class Framing:
    """Where the body of the first response on a connection starts and ends, and how its end is marked."""

    status: int
    # The last chunk, the Content-Length or only the connection's close marks the end of the body.
    kind: Literal["chunks", "length", "close"]
    # The body starts at this offset of the received bytes.
    start: int
    # The body ends at this offset; None if the end was not received, or if only the connection's close marks it.
    end: int | None


def request(url: str, headers: Mapping[str, str], *, method: str = "GET", version: str = "1.1") -> bytes:
    """Return the bytes of an HTTP/1 request without a body."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/{version}", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def ask(url: str, requests: bytes, patience_seconds: float) -> RawResponse:
    """Send requests over one connection, and return all that arrives before the connection ends.

    After ``patience_seconds``, return what has arrived by then.
    """
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    response = RawResponse()
    start = monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_seconds):
            with await connect(parts.hostname or "", parts.port or 80) as sock:
                try:
                    await loop.sock_sendall(sock, requests)
                    while data := await loop.sock_recv(sock, BUFFER_BYTES):
                        response.data += data
                        response.arrivals.append((monotonic() - start, len(response.data)))
                    response.ending = "closed"
                except ConnectionError:
                    response.ending = "reset"
    response.arrivals.append((monotonic() - start, len(response.data)))
    return response


def framing_of(data: bytes) -> Framing:
    """Return where a response's body starts and ends; raise AssertionError if it is not a valid HTTP/1 response."""
    start = body_start(data)
    assert start >= 0, f"expected the head of a response, received only {shown(data)}"
    line, *fields = data[: start - 4].rpartition(b"\r\n\r\n")[2].split(b"\r\n")
    status = _status_line.match(line + b"\r")
    assert status is not None, f"the response starts with {shown(line)}, expected a status line"
    headers = {}
    for field_line in fields:
        name, _, value = field_line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    assert not (coding and length), "the response has Transfer-Encoding and Content-Length: RFC 9112 §6.2 allows one"
    if coding is not None:
        assert coding.lower() == b"chunked", f"Transfer-Encoding is {coding!r}, expected chunked"
        return Framing(int(status[1]), "chunks", start, _end_of_chunks(data, start))
    if length is not None:
        assert length.isdigit(), f"Content-Length is {length!r}, expected a number"
        end = start + int(length)
        return Framing(int(status[1]), "length", start, end if len(data) >= end else None)
    return Framing(int(status[1]), "close", start, None)


def _end_of_chunks(data: bytes, position: int) -> int | None:
    """Return the offset after the last chunk (RFC 9112 §7.1), or None if the last chunk was not received."""
    while (end := data.find(b"\r\n", position)) >= 0:
        size = _chunk_size.fullmatch(data, position, end)
        line = data[position:end]
        assert size is not None, f"expected the size of a chunk, got {shown(line)}"
        if int(size[1], 16) == 0:
            trailers = data.find(b"\r\n\r\n", end)
            return trailers + 4 if trailers >= 0 else None
        position = end + 2 + int(size[1], 16)
        after = data[position : position + 2]
        assert b"\r\n".startswith(after), f"got {after!r} after a chunk, expected its line end"
        position += 2
    return None
