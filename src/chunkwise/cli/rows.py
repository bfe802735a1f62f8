"""A request for a published table or query -> a stream of its rows in any format."""

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

# `Part` is imported only for type checking. Its import needs the extra "sql", and a server that serves only files runs
# without this extra.
if TYPE_CHECKING:
    from chunkwise.sources.sql.keys import Part

# An example URL has the value 1 for each parameter, except for parameters of these types.
_EXAMPLES = {
    bytes: "AQ==",
    date: "2024-12-31",
    datetime: "2024-12-31T23:59:59",
    time: "23:59:59",
    uuid.UUID: "00000000-0000-0000-0000-000000000001",
}


@dataclass(frozen=True)
class PublishedRows:
    """A table or query that is served, and its route.

    Attributes:
        route: the path of its URL, without quoting.
        about: its entry in the JSON index, without the URL.
        make: a function that takes the values of the parameters and returns the source of the rows.
        parameters: the parameters of the query; empty for a table.
    """

    route: str
    about: Mapping[str, Any]
    make: Callable[[Mapping[str, Any]], Batches | Resumable]
    parameters: Sequence["Part"] = field(default=())

    @property
    def example(self) -> str:
        """The query string of an example URL, with a value for each parameter."""
        values = [
            f"{quote(part.name)}={_EXAMPLES.get(part.kind, '1')}{'Z' * bool(part.has_zone)}" for part in self.parameters
        ]
        return f"?{'&'.join(values)}" if values else ""

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Respond to a request with the rows of the table or query."""
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
        # If the client accepts none of the formats, respond() receives all formats, and lists them in its error
        # response.
        return await respond(request, source, wanted or list(FORMATS), headers=VARY)


@dataclass(frozen=True, slots=True)
class _Limited(Resumable):
    """A resumable source with a limit of items and with a pause between two items.

    The limit counts from the first item of the source, even if a request asks for a range that starts later.
    """

    limit: int | None
    interval: float

    def start(self, index: int = 0, after: Sequence[Any] | None = None) -> Any:
        """Return the items from ``index`` on, up to the limit; see `Resumable.start`."""
        source = Resumable.start(self, index, after)
        return _limited(source, None if self.limit is None else max(0, self.limit - index), self.interval)


def _limited(source: Batches, limit: int | None, interval: float) -> Any:
    if limit is not None:
        source = first_items(source, limit)
    return paced(source, interval) if interval else source


def _value(query: MultiMapping[str], part: "Part") -> Any:
    texts = query.getall(part.name, [])
    if len(texts) != 1:
        how = "is missing" if not texts else f"occurs {len(texts)} times"
        raise ValueError(f"parameter {part.name!r} {how} in the URL, expected ?{part.name}=VALUE once")
    return part.convert(texts[0])
