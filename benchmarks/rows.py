"""A count -> the data of all measurements: the same rows, events and documents for every contender.

Must not import any contender, chunkwise among them: what a process imports is part of its memory.

Rows are made anew one by one, as a database driver's are, and not taken from a list that is ready: that costs each
contender the same, some 0.7 us a row, and makes every ratio smaller than that of the layers alone. But ready rows would
make the rival that holds all of them at once look better than it is, whose cost is just that they are many.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def row(index: int) -> dict[str, Any]:
    """One item: text, numbers and nesting; its JSON has some 175 bytes."""
    return {
        "id": index,
        "name": f"user {index}",
        "mail": f"user.{index}@example.org",
        "score": index / 7,
        "tags": ["a", "b", "c"],
        "address": {"street": "Main street", "number": index % 100, "city": "Überlingen"},
    }


def event(index: int) -> dict[str, Any]:
    """The data of one small event, as of a language model that tells token by token."""
    return {"index": index, "token": f" word{index % 1000}"}


async def rows(count: int) -> AsyncIterator[dict[str, Any]]:
    """As many rows, all ready at once: the source never waits."""
    for index in range(count):
        yield row(index)


async def events(count: int) -> AsyncIterator[dict[str, Any]]:
    """The data of as many events, all ready at once."""
    for index in range(count):
        yield event(index)


def row_text(index: int) -> str:
    """The compact JSON of a row."""
    return _compact.encode(row(index))


def event_text(index: int) -> str:
    """The compact JSON of an event's data."""
    return _compact.encode(event(index))


BEFORE_ITEMS = b'{"took":12,"items":['
ANSWER = 42
AFTER_ITEMS = f'],"more":{{"answer":{ANSWER}}}}}'.encode()
"""What stands around the rows of a document, so that they are at `items.item`, and something is behind them."""


class Document(NamedTuple):
    """A document of rows, and where its rows end."""

    text: bytes
    ends: list[int]
    """The offset behind each row, before the comma."""


def document(count: int) -> Document:
    """Rows at ``items.item``, and one number behind them at ``more.answer``."""
    parts, ends, size = [], [], len(BEFORE_ITEMS)
    for index in range(count):
        text = row_text(index).encode()
        parts.append(text)
        size += len(text)
        ends.append(size)
        size += 1
    return Document(BEFORE_ITEMS + b",".join(parts) + AFTER_ITEMS, ends)


def event_stream(count: int) -> Iterator[bytes]:
    """The text of as many server-sent events, each with an id."""
    for index in range(count):
        yield f"id: {index}\ndata: {event_text(index)}\n\n".encode()


SETTINGS = {"theme": "dark", "columns": ["id", "name"]}


async def total(count: int) -> int:
    """An awaitable inside a live document."""
    return count


def live_document(count: int) -> dict[str, Any]:
    """A document with an iterator, an awaitable and plain data, as a handler would return it."""
    return {"users": rows(count), "total": total(count), "settings": SETTINGS}


def whole_document(count: int) -> dict[str, Any]:
    """What a reader of the live document has to get."""
    return {"users": [row(index) for index in range(count)], "total": count, "settings": SETTINGS}
