"""The query and headers of a request -> the format, the limit and the pace that it asks for, for files and tables."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from typing import Any, NamedTuple

from aiohttp import hdrs, web

from chunkwise.formats import Format, by_name
from chunkwise.sources.batches import Batches
from chunkwise.transports.negotiation import negotiate
from chunkwise.transports.range_headers import RANGE_PARAMETER

VARY: dict[str, str] = {hdrs.VARY: hdrs.ACCEPT}
"""For each response whose format depends on the Accept header."""

PARAMETERS = frozenset({"format", "interval", "limit", RANGE_PARAMETER})
_MAX_INTERVAL_SECONDS = 60.0


class Asked(NamedTuple):
    """The parts of a request that files and tables have in common."""

    format: Format | None  # None if the client accepts none of the formats
    limit: int | None  # the most items to send; None for all
    interval: float  # seconds between two items; 0 for no pause


def asked_by(request: web.Request, known: AbstractSet[str], formats: Iterable[Format]) -> Asked:
    """Return the format, limit and interval of a request; raise UnknownFormat or ValueError for a bad parameter.

    Its Accept header selects one of the formats; the first one is the default. ``known`` are all its parameters.
    """
    query = request.query
    if unknown := query.keys() - known:
        raise ValueError(f"unknown parameter {min(unknown)!r}, expected any of {', '.join(sorted(known))}")
    accepted = request.headers.getall(hdrs.ACCEPT, [])
    wanted = by_name(query["format"]) if "format" in query else negotiate(accepted, [*formats])
    return Asked(wanted, _limit_of(query), _interval_of(query))


def _limit_of(query: Mapping[str, str]) -> int | None:
    text = query.get("limit")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"limit: got {text!r}, expected a whole number of items")
    return int(text)


def _interval_of(query: Mapping[str, str]) -> float:
    text = query.get("interval", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_INTERVAL_SECONDS:
        raise ValueError(f"interval: got {text!r}, expected seconds from 0 to {_MAX_INTERVAL_SECONDS:g}")
    return seconds


async def paced(source: Batches, interval: float) -> AsyncIterator[Any]:
    """Yield the items of a source with a pause of ``interval`` seconds between them."""
    first = True
    async with aclosing(aiter(source)) as batches:
        async for batch in batches:
            for item in batch:
                if not first:
                    await asyncio.sleep(interval)
                first = False
                yield item
