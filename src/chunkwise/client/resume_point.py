"""What an answer says of its beginning, and what came of it -> the headers that ask for the rest (RFC 9110 §14).

Must not know when they are sent, nor over what wire.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple

import msgspec
from aiohttp import hdrs
from aiohttp.typedefs import StrOrURL
from yarl import URL

from chunkwise.errors import DecodeError
from chunkwise.formats.sse import value_of
from chunkwise.server.item_ranges import ITEMS_AFTER, ITEMS_KEY, LAST_EVENT_ID, RANGE_PARAMETER, UNIT

_ABSENT = object()
_EXACT_FLOATS = 2.0**53
_names = msgspec.json.Decoder(list[str])


class Start(NamedTuple):
    """What an answer says of where it begins, and of how it could go on if it broke.

    Attributes:
        first: the index of its first item.
        last: the index of its last item, where the server says so; it may be the last of a part only.
        total: how many items there are in all, likewise.
        ranges: whether the server gives the rest from any item on.
        etag: the version of the items, without the mark of a weak one; None if the server does not tell.
        key: the members of an item that tell its place; none if its index does.
    """

    first: int = 0
    ranges: bool = False
    etag: str | None = None
    key: tuple[str, ...] = ()
    last: int | None = None
    total: int | None = None


class Position(NamedTuple):
    """Where a stream is to go on of which items came before, in another process, say.

    Attributes:
        items: how many came, all of them whole records of the stream.
        etag: their version, if the server told it.
        key: what tells the place of the last of them, where its index does not: names and values.
    """

    items: int
    etag: str | None
    key: dict[str, Any]

    def headers(self) -> dict[str, str]:
        """Return what asks for the rest."""
        headers: dict[str, str] = {hdrs.RANGE: f"{UNIT}={self.items}-"}
        if self.etag is not None:
            headers[hdrs.IF_RANGE] = self.etag
        if self.key:
            headers[ITEMS_AFTER] = json.dumps(list(self.key.values()))
        return headers


class Place(NamedTuple):
    """What a stream was asked to go on with.

    Attributes:
        headers: that ask for it.
        record: the index of the record that is wanted next.
        start: what was known of the stream that broke.
        by_event: whether an event's id says where, which tells nobody its index.
        first_event_id: what a server that begins again would begin with.
    """

    headers: Mapping[str, str]
    record: int
    start: Start
    by_event: bool = False
    first_event_id: str = ""


def position_behind(items: int, key: Mapping[str, Any] | None, start: Start) -> Position | None:
    """Return where a stream goes on behind so many items.

    Args:
        items: how many came.
        key: see `key_of` the last of them.
        start: what is known of the stream.

    Returns:
        None if the stream cannot go on, as far as is known.
    """
    return Position(items, start.etag, dict(key)) if start.ranges and key is not None else None


def key_of(item: Any, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the members of an item that tell its place, as the server sent them; None if it has them not, or not so.

    It has to be asked before anybody else has the item, who may change it.
    """
    value = value_of(item) if names else {}  # the fields of an event are none of the item's
    if isinstance(value, msgspec.Struct):
        members = {field.encode_name: field.name for field in msgspec.structs.fields(value)}
        key = {name: getattr(value, members.get(name, ""), _ABSENT) for name in names}
    elif isinstance(value, dict):
        key = {name: value.get(name, _ABSENT) for name in names}
    else:
        key = {name: getattr(value, name, _ABSENT) for name in names}
    changes = hasattr(value, "__post_init__")  # whatever that does
    return key if not changes and all(map(_is_as_sent, key.values())) else None


def _is_as_sent(value: Any) -> bool:
    """Whether a type has left a member what the server sent, which alone tells it the place."""
    if type(value) is float:  # of an int, where the type asks for that
        return abs(value) < _EXACT_FLOATS
    return type(value) in (str, int, bool, NoneType)


def asks_for_part(headers: Mapping[str, str], url: StrOrURL, params: Mapping[str, str] | None = None) -> bool:
    """Whether a caller wants a part, of which nobody but he knows what stands before it."""
    try:
        query = URL(url).extend_query(params or {}).query
    except ValueError:  # it is none, as aiohttp will say
        return False
    names = {name.lower() for name in headers}
    part = any(value.startswith(f"{UNIT}=") for value in query.getall(RANGE_PARAMETER, []))
    return part or not names.isdisjoint({hdrs.RANGE.lower(), LAST_EVENT_ID.lower()})


def start_of(headers: Mapping[str, str]) -> Start:
    """Return what the headers of an answer say of where its items begin."""
    told = re.match(
        rf"{UNIT} ([0-9]{{1,15}})-(\*|[0-9]{{1,15}})/(\*|[0-9]{{1,15}})$", headers.get(hdrs.CONTENT_RANGE, "")
    )
    units = {unit.strip() for unit in headers.get(hdrs.ACCEPT_RANGES, "").lower().split(",")}
    etag = headers.get(hdrs.ETAG)
    try:
        key = tuple(_names.decode(headers.get(ITEMS_KEY, "[]")))
    except (msgspec.DecodeError, ValueError, RecursionError):
        key = ()  # what is no list of names tells no place: a server that has a key then begins again, and is seen to
    first, last, total = (None if text == "*" else int(text) for text in told.groups()) if told else (0, None, None)
    if last is not None and (last < (first or 0) or (total is not None and last >= total)):
        first = last = total = None  # what cannot be says nothing (RFC 9110 §14.4)
    return Start(first or 0, UNIT in units, etag.removeprefix("W/") if etag else None, key, last, total)


def start_of_record(told: Mapping[str, Any]) -> Start:
    """Return the same of a start record.

    Raises:
        DecodeError: it is none.
    """
    first: Any = told.get("first")
    etag: Any = told.get("etag")
    key: Any = told.get("key")
    good = type(first) is int and first >= 0 and isinstance(etag, str | None) and isinstance(key, list)
    if not good or not all(isinstance(name, str) for name in key):
        raise DecodeError(f"got the start record {str(told)[:80]!r}, expected one with first, etag and key")
    return Start(first, ranges=True, etag=None if etag is None else f'"{etag}"', key=tuple(key))
