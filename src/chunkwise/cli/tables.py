"""Databases, and the names of tables and queries -> the tables and queries that ``chunkwise serve`` publishes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any
from urllib.parse import quote

import rich_click as click
import sqlalchemy as sa
from aiohttp import web
from multidict import MultiMapping

from chunkwise import FORMATS, Batches, UnknownFormat, respond, resumable
from chunkwise.cli.asked import PARAMETERS, asked_by, paced
from chunkwise.cli.databases import Database, failure_of
from chunkwise.cli.failures import with_http_errors
from chunkwise.cli.publishing import VARY
from chunkwise.sources import sql
from chunkwise.sources.resumable import Resumable, first_items
from chunkwise.sources.sql.keys import Part
from chunkwise.transports.problems import problem_response

_EXAMPLES = {  # for types that 1 is not a value of
    bytes: "AQ==",
    date: "2024-12-31",
    datetime: "2024-12-31T23:59:59",
    time: "23:59:59",
    uuid.UUID: "00000000-0000-0000-0000-000000000001",
}


@dataclass(frozen=True)
class PublishedRows:
    """A table or a query and its route.

    Attributes:
        route: the path of its URL.
        about: its entry in the index.
        make: returns the source for the values of the parameters.
        parameters: the parameters of the query.
    """

    route: str
    about: Mapping[str, Any]
    make: Callable[[Mapping[str, Any]], Batches | Resumable]
    parameters: Sequence[Part] = field(default=())

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


def _value(query: MultiMapping[str], part: Part) -> Any:
    texts = query.getall(part.name, [])
    if len(texts) != 1:
        how = "is missing" if not texts else "is there twice"
        raise ValueError(f"parameter {part.name!r} {how}: ?{part.name}=...")
    return part.convert(texts[0])


async def find_rows(
    databases: Sequence[Database], tables: Sequence[str], queries: Sequence[str]
) -> list[PublishedRows]:
    """Return the named tables and queries, or all tables and views if none are named.

    Raises:
        UsageError: a table is not there, a query is wrong, two have the same route, or there is nothing to publish.
        ConnectionError: a database is not there, or refuses.
    """
    if queries and len(databases) != 1:
        raise click.BadParameter(f"is asked of one database, got {len(databases)}", param_hint="--query")
    found: dict[str, PublishedRows] = {}
    named = set[str]()
    for database in databases:
        for name in tables or ([] if queries else await database.table_names()):
            if (table := await _find_table(database, name)) is not None:
                named.add(name)
                _add(found, table)
    for name in tables:
        if name not in named:
            msg = f"there is no table {name!r} in {', '.join(database.label for database in databases)}"
            raise click.BadParameter(msg, param_hint="--table")
    for text in queries:
        _add(found, await _make_query(databases[0], text))
    if databases and not found:
        msg = f"nothing to publish in {', '.join(database.label for database in databases)}: there are no tables"
        raise click.UsageError(msg)
    return [found[route] for route in sorted(found)]


def _add(found: dict[str, PublishedRows], rows: PublishedRows) -> None:
    if rows.route in found:
        raise click.UsageError(f"two tables or queries would both be {rows.route}: choose with --table")
    found[rows.route] = rows


async def _find_table(database: Database, name: str) -> PublishedRows | None:
    """Return the table NAME or SCHEMA.NAME."""
    schema: str | None = None
    table = name
    if not await database.has_table(table, schema):
        schema, _, table = name.partition(".")
        if not table or not await database.has_table(table, schema):
            return None
    about = {"table": name, "database": database.name}
    try:
        async with database.connected():
            source = await sql.table(database.engine, table, schema=schema)
    except (TypeError, ValueError):  # no key, or a key that no client could send back: a view, for example
        query = sa.select(sa.text("*")).select_from(sa.table(table, schema=schema))
        return PublishedRows(f"/{name}", about, lambda _: _source(sql.rows(database.queries, query)))
    pages = resumable(lambda after: _source(source.start(after=after)), key=source.key)
    return PublishedRows(f"/{name}", {**about, "order": list(source.key)}, lambda _: pages)


async def _make_query(database: Database, text: str) -> PublishedRows:
    name, equals, query = text.partition("=")
    if not (name.strip() and equals and query.strip()):
        raise click.BadParameter(f"got {text!r}, expected NAME=SQL", param_hint="--query")
    name = name.strip()
    try:
        parameters = await database.parameters(query)
    except ValueError as error:
        raise click.BadParameter(f"{name}: {error}", param_hint="--query") from None
    if taken := sorted(PARAMETERS & {part.name for part in parameters}):
        msg = f"{name}: parameter :{taken[0]} is one of serve's own, choose another name"
        raise click.BadParameter(msg, param_hint="--query")
    about = {"query": name, "database": database.name, "parameters": [part.name for part in parameters]}
    return PublishedRows(
        f"/{name}", about, lambda values: _source(sql.rows(database.queries, query, values)), parameters
    )


def _source(rows: Batches) -> Batches:
    return Batches(with_http_errors(rows, failure_of))
