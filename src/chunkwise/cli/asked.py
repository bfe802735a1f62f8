"""The URL parameters and headers of a request -> the format, the number and the pace of the items to send."""

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
"""The header of responses whose format depends on the Accept header."""

PARAMETERS = frozenset({"format", "interval", "limit", RANGE_PARAMETER})
_MAX_INTERVAL_SECONDS = 60.0


class Asked(NamedTuple):
    """The parameters that requests for files and for tables have in common.

    Attributes:
        format: the format of the response; None if the client accepts none of the formats.
        limit: the largest number of items to send; None for all items.
        interval: the seconds between two items; 0 for no pause.
    """

    format: Format | None
    limit: int | None
    interval: float


def asked_by(request: web.Request, known: AbstractSet[str], formats: Iterable[Format]) -> Asked:
    """Return the format, limit and interval of a request; raise UnknownFormat or ValueError for a bad parameter.

    Without the parameter ``format``, the Accept header selects one of ``formats``; the first one is the default.
    ``known`` are the names of all parameters that are allowed.
    """
    query = request.query
    if unknown := query.keys() - known:
        raise ValueError(f"unknown parameter {min(unknown)!r} in the URL, expected one of {', '.join(sorted(known))}")
    accepted = request.headers.getall(hdrs.ACCEPT, [])
    wanted = by_name(query["format"]) if "format" in query else negotiate(accepted, [*formats])
    return Asked(wanted, _limit_of(query), _interval_of(query))


def _limit_of(query: Mapping[str, str]) -> int | None:
    text = query.get("limit")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"limit: expected a whole number of items, got {text!r}")
    return int(text)


def _interval_of(query: Mapping[str, str]) -> float:
    text = query.get("interval", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_INTERVAL_SECONDS:
        raise ValueError(f"interval: expected 0 to {_MAX_INTERVAL_SECONDS:g} seconds, got {text!r}")
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
