"""Headers and start records -> `RangeInfo` and `ResumePoint`, and back.

A server says with them which items a response holds, and a client requests the rest.

RFC 9110 §14 has the headers; the range unit ``items`` and its keys are ours::

    > Range: items=500-                        < 206, Content-Range: items 500-*/*
    > If-Range: "v1"                           the rest, if the version is still that one; else all, with 200
    > Items-After: [4711]                      the key of the last item, where a key gives the position (Items-Key)
    > Last-Event-ID: 499                       server-sent events; a client that has all of them gets 204
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
"""A response header: the names of an item's members that make its key, as a JSON array."""

ITEMS_AFTER = "Items-After"
"""A request header: the key of the last item that the client has, as a JSON array of its values."""

LAST_EVENT_ID = "Last-Event-ID"

RANGE_PARAMETER = "range"
"""The query parameter that stands for ``Range`` in a WebSocket's URL: browsers cannot set its headers."""

_CONTENT_RANGE = re.compile(rf"{UNIT} ([0-9]{{1,15}})-(\*|[0-9]{{1,15}})/(\*|[0-9]{{1,15}})")
_names = msgspec.json.Decoder(list[str])


class RangeInfo(NamedTuple):
    """The position of a response: which items it holds, and how the rest can be requested.

    Attributes:
        first: the index of its first item.
        ranges: whether the server sends the rest from any item on.
        etag: the version of the items, quoted, without the mark of a weak one; None if the server sends none.
        key: the names of the members of an item that give its position; none if its index does.
        last: the index of its last item, if the server says so; the last of this response, not always of all items.
        total: how many items there are in all, if the server says so.
    """

    first: int = 0
    ranges: bool = False
    etag: str | None = None
    key: tuple[str, ...] = ()
    last: int | None = None
    total: int | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Self:
        """Read it from the headers of a response; malformed headers count as absent (RFC 9110 §14.4).

        Args:
            headers: the headers.
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
            key = ()  # a server that needs a key will then begin again, which the client notices
        return cls(first or 0, UNIT in units, etag.removeprefix("W/") if etag else None, key, last, total)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read it from the start record of a WebSocket, whose client sees no headers.

        Args:
            record: the record's members.

        Raises:
            DecodeError: the record is not a start record.
        """
        first: Any = record.get("first")
        etag: Any = record.get("etag")
        key: Any = record.get("key")
        good = type(first) is int and first >= 0 and isinstance(etag, str | None) and isinstance(key, list)
        if not good or not all(isinstance(name, str) for name in key):
            raise DecodeError(f"got the start record {str(record)[:80]!r}, expected one with first, etag and key")
        return cls(first, ranges=True, etag=None if etag is None else f'"{etag}"', key=tuple(key))

    def to_headers(self, *, partial: bool) -> dict[str, str]:
        """Return the headers that say it.

        Args:
            partial: whether the response has the status 206, and so a Content-Range.
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
        """Return the start record that says it to the client of a WebSocket."""
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
    """Whether a caller requests a range: only the caller knows which items are before it."""
    if not {name.lower() for name in headers}.isdisjoint({hdrs.RANGE.lower(), LAST_EVENT_ID.lower()}):
        return True
    try:
        query = URL(url).extend_query(params or {}).query
    except ValueError:  # not a URL: aiohttp raises an error that says so
        return False
    return any(value.startswith(f"{UNIT}=") for value in query.getall(RANGE_PARAMETER, []))
