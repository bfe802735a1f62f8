"""Fuzz targets for the headers of requests and responses. A target raises an AssertionError for a wrong result.

aiohttp's parser reads headers from the fuzzer's bytes, and then chunkwise reads these headers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from chunkwise.client.resume_point import key_of, resume_point_after
from chunkwise.errors import DecodeError, UnknownFormat
from chunkwise.formats import FORMATS, Format, by_media_type
from chunkwise.formats.parsing.json_values import encode_value
from chunkwise.server.item_ranges import Selection, select_items
from chunkwise.sources.resumable import Resumable, resumable
from chunkwise.transports.content_coding import CODINGS, codings_of
from chunkwise.transports.negotiation import IDENTITY, negotiate, negotiate_coding, parse_accept, prefers
from chunkwise.transports.range_headers import LAST_EVENT_ID, RangeInfo

_ITEMS: list[dict[str, Any]] = [{"id": n, "a": str(n)} for n in range(10)]
_HAS_ETAG, _HAS_TOTAL, _HAS_KEY = 1, 2, 4

# aiohttp's parser requires an event loop as an argument, but never runs it.
_loop = asyncio.new_event_loop()


def head_of(lines: bytes) -> RawRequestMessage | None:
    """Return a request with the first line as the query of its URL, and the other lines as its headers.

    Return None if aiohttp rejects the request.
    """
    target, _, headers = lines.replace(b"\r", b"").partition(b"\n")
    text = b"GET /?%b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (target, headers.strip(b"\n").replace(b"\n", b"\r\n"))
    parser = HttpRequestParser(SimpleNamespace(), _loop, 2**16)  # type: ignore[arg-type]
    try:
        messages, _, _ = parser.feed_data(text)
    except (HttpProcessingError, ValueError):
        # The ValueError is from yarl, which rejects an invalid URL.
        return None
    return messages[0][0] if messages else None


def fuzz_request(raw: bytes) -> None:
    """Check what chunkwise reads from request headers: format, coding, preferences, and where to continue a stream."""
    choices, which = raw[:2].ljust(2, b"\0")
    head = head_of(raw[2:])
    if head is None:
        return
    _negotiate(head.headers)
    source = resumable(
        _after if choices & _HAS_KEY else _from,
        etag="v1" if choices & _HAS_ETAG else None,
        total=len(_ITEMS) if choices & _HAS_TOTAL and not choices & _HAS_KEY else None,
        key=["id"] if choices & _HAS_KEY else (),
    )
    _go_on(head, source, list(FORMATS.values())[which % len(FORMATS)])


def _negotiate(headers: CIMultiDictProxy[str]) -> None:
    accept = tuple(headers.getall(hdrs.ACCEPT, []))
    formats = list(FORMATS.values())
    chosen = negotiate(accept, formats)
    assert chosen is None or chosen in formats
    # Several lines of one header must give the same result as one line with commas between the values (RFC 9110 §5.3).
    assert negotiate([", ".join(accept)] if accept else [], formats) is chosen
    if chosen is None:
        assert parse_accept(accept), f"{accept!r} names no type, but every format was refused"
    for found in parse_accept(accept):
        assert 0 <= found.quality <= 1
    coding = negotiate_coding(headers.getall(hdrs.ACCEPT_ENCODING, []), CODINGS)
    assert coding is None or coding in (*CODINGS, IDENTITY)
    prefers(headers.getall("Prefer", []), "stream-end")
    codings_of(headers.get(hdrs.CONTENT_ENCODING, ""))
    with suppress(UnknownFormat):
        by_media_type(headers.get(hdrs.CONTENT_TYPE, ""))


def _from(index: int) -> Iterator[Any]:
    assert index >= 0
    return iter(_ITEMS[index:])


def _after(key: tuple[Any, ...] | None) -> Iterator[Any]:
    if key is None:
        return iter(_ITEMS)
    # `key` is the key of the last item that the client has. chunkwise has read it from JSON in a request header, so it
    # must be possible to encode it as JSON again.
    encode_value(list(key))
    [number] = key
    if type(number) is not int:
        msg = f"id: got {number!r}, expected a whole number"
        raise ValueError(msg)
    return iter([item for item in _ITEMS if item["id"] > number])


def _go_on(head: RawRequestMessage, source: Resumable, format: Format) -> None:
    request: Any = SimpleNamespace(headers=head.headers, query=head.url.query, method=hdrs.METH_GET)
    rest = select_items(request, source, format)
    if isinstance(rest, web.Response):
        assert rest.status in (204, 400, 416), rest.status
        return
    got = list(rest.source)
    if not rest.partial and not rest.ends_events:
        assert (got, rest.info.first) == (_ITEMS, 0), f"expected all items, got {got!r} from {rest.info.first}"
        return
    assert hdrs.IF_RANGE not in head.headers or rest.ends_events or head.headers[hdrs.IF_RANGE].endswith('"v1"')
    assert rest.ends_events == (format.event_ids and LAST_EVENT_ID in head.headers)
    if not source.key:
        assert got == _ITEMS[rest.info.first : rest.info.first + len(got)], f"got {got!r} from {rest.info.first}"
    if rest.partial:
        _check_headers(rest, got)


def _check_headers(rest: Selection, got: list[Any]) -> None:
    headers = rest.info.to_headers(partial=rest.partial)
    info = RangeInfo.from_headers(headers)
    assert info.first == rest.info.first
    assert info.ranges
    first, last, total = headers[hdrs.CONTENT_RANGE].removeprefix("items ").replace("/", "-").split("-")
    assert int(first) == rest.info.first
    assert last == "*" or int(last) >= rest.info.first
    assert last == "*" or total == "*" or int(last) < int(total)
    assert last == "*" or len(got) <= int(last) - rest.info.first + 1


def fuzz_response(raw: bytes) -> None:
    """Check the position at which a stream starts, and the request that resumes the stream.

    chunkwise reads the position from the headers of a response, or from the start record of a WebSocket.
    """
    choice = raw[:1]
    if choice and choice[0] & 1:
        try:
            record = json.loads(raw[1:])
            start = RangeInfo.from_record(record) if isinstance(record, dict) else RangeInfo()
        except (ValueError, RecursionError, DecodeError):
            return
    else:
        head = head_of(b"\n" + raw[1:])
        if head is None:
            return
        start = RangeInfo.from_headers(head.headers)
    assert start.first >= 0
    assert all(isinstance(name, str) for name in start.key), start
    for last in (_ITEMS[3], {}, None, 3):
        position = resume_point_after(start.first + 1, key_of(last, start.key), start)
        if position is not None:
            URL("http://x/").with_query(range=position.to_headers()[hdrs.RANGE])
            assert not start.key or position.key, position


TARGETS: dict[str, Callable[[bytes], None]] = {"request": fuzz_request, "response": fuzz_response}
