"""What came of a stream -> the headers that ask for the rest of it.

Must not know when they are sent, nor any one format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from aiohttp import hdrs

from chunkwise.transports.resumption import ITEMS_AFTER, UNIT
from chunkwise.transports.stream import Start


class Position(NamedTuple):
    """Where a stream is to go on of which items came before, in another process, say.

    Attributes:
        items: how many came.
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


def position_behind(items: int, last: Any, start: Start) -> Position | None:
    """Return where a stream goes on behind so many items.

    Args:
        items: how many came.
        last: the last of them.
        start: what is known of the stream.

    Returns:
        None if the stream cannot go on, as far as is known.
    """
    if not start.ranges:
        return None
    try:
        members = msgspec.to_builtins(last) if start.key else {}
        return Position(items, start.etag, {name: members[name] for name in start.key})
    except (TypeError, KeyError, IndexError, msgspec.ValidationError):
        return None
