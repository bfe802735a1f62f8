"""Range headers and start records <-> `RangeInfo` and `ResumePoint`.

A server says with these headers which items a response holds. A client requests the rest of a stream with them.

RFC 9110 §14 defines the headers. The range unit ``items`` and the key headers are defined by chunkwise::

    > Range: items=500-                        < 206, Content-Range: items 500-*/*
    > If-Range: "v1"                           the rest, if the version is still "v1"; otherwise all items, with 200
    > Items-After: [4711]                      the key of the last item, if the server locates items by key (Items-Key)
    > Last-Event-ID: 499                       for server-sent events; a client that has all events gets 204
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import msgspec
from aiohttp import hdrs
from aiohttp.typedefs import StrOrURL
from yarl import URL

from chunkwise.errors import DecodeError
from chunkwise.formats.messages import start_record

UNIT = "items"
"""The range unit (RFC 9110 §14.1)."""

ITEMS_KEY = "Items-Key"
"""A response header: a JSON array with the names of the item's members that form its key."""

ITEMS_AFTER = "Items-After"
"""A request header: a JSON array with the key values of the last item that the client has."""

LAST_EVENT_ID = "Last-Event-ID"

RANGE_PARAMETER = "range"
"""The query parameter that replaces ``Range`` in a WebSocket's URL: browsers cannot set headers there."""

_CONTENT_RANGE = re.compile(rf"{UNIT} ([0-9]{{1,15}})-(\*|[0-9]{{1,15}})/(\*|[0-9]{{1,15}})")
_names = msgspec.json.Decoder(list[str])


class RangeInfo(NamedTuple):
    """The position of a response: which items it holds, and how to request the rest.

    Attributes:
        first: the index of the first item in the response.
        ranges: whether the server can continue the stream at any item.
        etag: the version of the items as a quoted ETag, without ``W/``; None if the server sends no ETag.
        key: the names of the members that locate an item; empty if its index locates it.
        last: the index of the last item in the response; None if the server does not send it.
        total: the number of all items, in this response or not; None if the server does not send it.
    """

    first: int = 0
    ranges: bool = False
    etag: str | None = None
    key: tuple[str, ...] = ()
    last: int | None = None
    total: int | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Self:
        """Read the position from the headers of a response; malformed headers are ignored (RFC 9110 §14.4).

        Args:
            headers: the headers of the response.
        """
        found = _CONTENT_RANGE.fullmatch(headers.get(hdrs.CONTENT_RANGE, ""))
        first, last, total = (
            (None if text == "*" else int(text) for text in found.groups()) if found else (0, None, None)
        )
        if last is not None and (last < (first or 0) or (total is not None and last >= total)):
            first = last = total = None
        units = {unit.strip() for unit in headers.get(hdrs.ACCEPT_RANGES, "").lower().split(",")}
        etag = headers.get(hdrs.ETAG)
        try:
            key = tuple(_names.decode(headers.get(ITEMS_KEY, "[]")))
        except (msgspec.DecodeError, ValueError, RecursionError):
            # If Items-Key is malformed, the client requests the rest of the stream without a key. A server that needs
            # the key then starts at item 0, and the client detects this.
            key = ()
        return cls(first or 0, UNIT in units, etag.removeprefix("W/") if etag else None, key, last, total)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the position from the start record of a WebSocket, whose client does not see response headers.

        Args:
            record: the members of the record.

        Raises:
            DecodeError: the record is malformed.
        """
        first: Any = record.get("first")
        etag: Any = record.get("etag")
        key: Any = record.get("key")
        good = type(first) is int and first >= 0 and isinstance(etag, str | None) and isinstance(key, list)
        if not good or not all(isinstance(name, str) for name in key):
            expected = "first (an integer >= 0), etag (a string or null) and key (a list of strings)"
            raise DecodeError(f"malformed start record {str(record)[:80]!r}, expected {expected}")
        return cls(first, ranges=True, etag=None if etag is None else f'"{etag}"', key=tuple(key))

    def to_headers(self, *, partial: bool) -> dict[str, str]:
        """Return the response headers for this position.

        Args:
            partial: whether the status is 206, which requires a Content-Range header.
        """
        headers: dict[str, str] = {} if self.etag is None else {hdrs.ETAG: self.etag}
        if self.ranges:
            headers[hdrs.ACCEPT_RANGES] = UNIT
            if self.key:
                headers[ITEMS_KEY] = json.dumps(self.key)
        if partial:
            last, total = ("*" if number is None else number for number in (self.last, self.total))
            headers[hdrs.CONTENT_RANGE] = f"{UNIT} {self.first}-{last}/{total}"
        return headers

    def to_record(self) -> bytes:
        """Return the start record that sends this position to the client of a WebSocket."""
        return start_record(self.first, None if self.etag is None else self.etag[1:-1], self.key)


class ResumePoint(NamedTuple):
    """Where to continue a stream: after how many items, of which version, and after which key.

    Store it, and pass it to ``open_stream(..., resume_from=point)`` later, also in another process.

    Attributes:
        items: how many items have arrived.
        etag: the version of the items, in quotes; None if the server sent none.
        key: the members of the last item that give its position, with their values; empty if its index gives the
            position.
    """

    items: int
    etag: str | None
    key: dict[str, Any]

    def to_headers(self) -> dict[str, str]:
        """Return the headers that request the rest."""
        headers: dict[str, str] = {hdrs.RANGE: f"{UNIT}={self.items}-"}
        if self.etag is not None:
            headers[hdrs.IF_RANGE] = self.etag
        if self.key:
            headers[ITEMS_AFTER] = json.dumps(list(self.key.values()))
        return headers


def asks_for_range(headers: Mapping[str, str], url: StrOrURL, params: Mapping[str, str] | None = None) -> bool:
    """Whether the caller's headers or URL request a range of items.

    chunkwise cannot continue such a stream after a disconnect, because only the caller knows which items precede it.
    """
    if not {name.lower() for name in headers}.isdisjoint({hdrs.RANGE.lower(), LAST_EVENT_ID.lower()}):
        return True
    try:
        query = URL(url).extend_query(params or {}).query
    except ValueError:  # an invalid URL is ignored here, because aiohttp raises an error for it later
        return False
    return any(value.startswith(f"{UNIT}=") for value in query.getall(RANGE_PARAMETER, []))
