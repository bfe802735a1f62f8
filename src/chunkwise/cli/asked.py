"""The query of a request -> what it asks of anything that is published.

Must not know what that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from typing import Any

from chunkwise.sources.batches import Batches

_MAX_INTERVAL_SECONDS = 60.0


def check_names(query: Mapping[str, str], known: AbstractSet[str]) -> None:
    """Raise ValueError for a parameter that nobody knows."""
    if unknown := query.keys() - known:
        raise ValueError(f"unknown parameter {min(unknown)!r}, expected any of {', '.join(sorted(known))}")


def limit_of(query: Mapping[str, str]) -> int | None:
    """Return how many items are wanted at most; None for all."""
    text = query.get("limit")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"limit: got {text!r}, expected a whole number of items")
    return int(text)


def interval_of(query: Mapping[str, str]) -> float:
    """Return after how many seconds each item is wanted; 0 for at once."""
    text = query.get("interval", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_INTERVAL_SECONDS:
        raise ValueError(f"interval: got {text!r}, expected seconds from 0 to {_MAX_INTERVAL_SECONDS:g}")
    return seconds


async def paced(source: Batches, interval: float) -> AsyncIterator[Any]:
    """Give the items of a source, each so many seconds after the one before."""
    first = True
    async with aclosing(aiter(source)) as batches:
        async for batch in batches:
            for item in batch:
                if not first:
                    await asyncio.sleep(interval)
                first = False
                yield item
