"""A request for a published table or query -> a stream of its rows in any format, from any row on."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web
from multidict import MultiMapping

from chunkwise import FORMATS, Batches, UnknownFormat, respond
from chunkwise.cli.asked import PARAMETERS, VARY, asked_by, paced
from chunkwise.sources.resumable import Resumable, first_items
from chunkwise.transports.problems import problem_response

if TYPE_CHECKING:  # needs the extra "sql", which a server of files does not have
    from chunkwise.sources.sql.keys import Part

_EXAMPLES = {  # for types that 1 is not a value of
    bytes: "AQ==",
    date: "2024-12-31",
    datetime: "2024-12-31T23:59:59",
    time: "23:59:59",
    uuid.UUID: "00000000-0000-0000-0000-000000000001",
}


@dataclass(frozen=True)
class PublishedRows:
    """A table or a query and its route."""

    route: str  # the path of its URL
    about: Mapping[str, Any]  # its entry in the index
    make: Callable[[Mapping[str, Any]], Batches | Resumable]  # returns the source for the values of the parameters
    parameters: Sequence["Part"] = field(default=())  # the parameters of the query

    @property
    def example(self) -> str:
        """A query for its URL, with a value for each parameter."""
        values = [
            f"{quote(part.name)}={_EXAMPLES.get(part.kind, '1')}{'Z' * bool(part.has_zone)}" for part in self.parameters
        ]
        return f"?{'&'.join(values)}" if values else ""

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Respond with the rows."""
        try:
            known = PARAMETERS | {part.name for part in self.parameters}
            wanted, limit, interval = asked_by(request, known, FORMATS.values())
            values = {part.name: _value(request.query, part) for part in self.parameters}
        except (UnknownFormat, ValueError) as error:
            return problem_response(400, str(error))
        source: Any = self.make(values)
        if isinstance(source, Resumable):
            source = _Limited(source.factory, source.etag, source.total, source.key, limit, interval)
        else:
            source = _limited(source, limit, interval)
        # If the client accepts none of the formats, respond() lists them in its error.
        return await respond(request, source, wanted or list(FORMATS), headers=VARY)


@dataclass(frozen=True, slots=True)
class _Limited(Resumable):
    """A source of which a request asks for a number of items, counted from the first one, also for a range."""

    limit: int | None
    interval: float

    def start(self, index: int = 0, after: Sequence[Any] | None = None) -> Any:
        """Return the source from an item on."""
        source = Resumable.start(self, index, after)
        return _limited(source, None if self.limit is None else max(0, self.limit - index), self.interval)


def _limited(source: Batches, limit: int | None, interval: float) -> Any:
    if limit is not None:
        source = first_items(source, limit)
    return paced(source, interval) if interval else source


def _value(query: MultiMapping[str], part: "Part") -> Any:
    texts = query.getall(part.name, [])
    if len(texts) != 1:
        how = "is missing" if not texts else "is there twice"
        raise ValueError(f"parameter {part.name!r} {how}: ?{part.name}=...")
    return part.convert(texts[0])
