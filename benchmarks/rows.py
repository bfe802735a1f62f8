"""Create the data of all measurements: the same rows, events and documents for every contender.

This module imports neither a contender nor chunkwise, because each import would increase the measured memory of the
processes that create data.

Rows are created one by one, as by a database driver. This takes about 0.7 us per row, equally long for all contenders,
so their measured times differ by smaller factors than their own work does. If the rows were prepared in a list, a
contender that holds all rows in memory would have no disadvantage.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def row(index: int) -> dict[str, Any]:
    """Return one item with text, numbers and nesting; its JSON has about 175 bytes."""
    return {
        "id": index,
        "name": f"user {index}",
        "mail": f"user.{index}@example.org",
        "score": index / 7,
        "tags": ["a", "b", "c"],
        "address": {"street": "Main street", "number": index % 100, "city": "Überlingen"},
    }


def event(index: int) -> dict[str, Any]:
    """Return the data of one small event, like a token of a language model."""
    return {"index": index, "token": f" word{index % 1000}"}


async def rows(count: int) -> AsyncIterator[dict[str, Any]]:
    """Yield ``count`` rows without ever waiting."""
    for index in range(count):
        yield row(index)


async def events(count: int) -> AsyncIterator[dict[str, Any]]:
    """Yield the data of ``count`` events without ever waiting."""
    for index in range(count):
        yield event(index)


def row_text(index: int) -> str:
    """Return the compact JSON of a row."""
    return _compact.encode(row(index))


def event_text(index: int) -> str:
    """Return the compact JSON of an event's data."""
    return _compact.encode(event(index))


BEFORE_ITEMS = b'{"took":12,"items":['
ANSWER = 42
AFTER_ITEMS = f'],"more":{{"answer":{ANSWER}}}}}'.encode()
"""The text around the rows of a document, so that the rows are at `items.item` and one value follows them."""


class Document(NamedTuple):
    """The JSON text of a document of rows, and the byte offsets where its rows end."""

    text: bytes
    ends: list[int]
    """The offsets of the first byte after each row, where its comma is."""


def document(count: int) -> Document:
    """Return a document with rows at ``items.item``, and one number after them at ``more.answer``."""
    parts, ends, size = [], [], len(BEFORE_ITEMS)
    for index in range(count):
        text = row_text(index).encode()
        parts.append(text)
        size += len(text)
        ends.append(size)
        size += 1
    return Document(BEFORE_ITEMS + b",".join(parts) + AFTER_ITEMS, ends)


def event_stream(count: int) -> Iterator[bytes]:
    """Yield the text of ``count`` server-sent events, each with an id."""
    for index in range(count):
        yield f"id: {index}\ndata: {event_text(index)}\n\n".encode()


SETTINGS = {"theme": "dark", "columns": ["id", "name"]}


async def total(count: int) -> int:
    """Return ``count``. A call of this function is the awaitable in the document of `live_document`."""
    return count


def live_document(count: int) -> dict[str, Any]:
    """Return a document with an iterator, an awaitable and plain data."""
    return {"users": rows(count), "total": total(count), "settings": SETTINGS}


def whole_document(count: int) -> dict[str, Any]:
    """Return the document that a reader of `live_document` should receive."""
    return {"users": [row(index) for index in range(count)], "total": count, "settings": SETTINGS}
