"""What an answer says of its beginning, and what came of it -> the headers that ask for the rest (RFC 9110 §14).

Must not know when they are sent, nor over what wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple

import msgspec
from aiohttp import hdrs
from aiohttp.typedefs import StrOrURL
from yarl import URL

from chunkwise.formats.sse import value_of
from chunkwise.transports.range_headers import LAST_EVENT_ID, RANGE_PARAMETER, UNIT, RangeInfo, ResumePoint

_ABSENT = object()
_EXACT_FLOATS = 2.0**53


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
    start: RangeInfo
    by_event: bool = False
    first_event_id: str = ""


def position_behind(items: int, key: Mapping[str, Any] | None, start: RangeInfo) -> ResumePoint | None:
    """Return where a stream goes on behind so many items.

    Args:
        items: how many came.
        key: see `key_of` the last of them.
        start: what is known of the stream.

    Returns:
        None if the stream cannot go on, as far as is known.
    """
    return ResumePoint(items, start.etag, dict(key)) if start.ranges and key is not None else None


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
