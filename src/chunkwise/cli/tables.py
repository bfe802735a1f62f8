"""Databases, table names and SQL queries -> the tables and queries that ``chunkwise serve`` publishes."""

from collections.abc import Sequence

import rich_click as click
import sqlalchemy as sa

from chunkwise import Batches, resumable
from chunkwise.cli.asked import PARAMETERS
from chunkwise.cli.databases import Database, failure_of
from chunkwise.cli.failures import with_http_errors
from chunkwise.cli.rows import PublishedRows
from chunkwise.sources import sql


async def find_rows(
    databases: Sequence[Database], tables: Sequence[str], queries: Sequence[str]
) -> list[PublishedRows]:
    """Return the named tables and the queries; without any, return all tables and views."""
    if queries and len(databases) != 1:
        raise click.BadParameter(f"needs exactly one database, got {len(databases)}", param_hint="--query")
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
        msg = f"nothing to publish: there are no tables in {', '.join(database.label for database in databases)}"
        raise click.UsageError(msg)
    return [found[route] for route in sorted(found)]


def _add(found: dict[str, PublishedRows], rows: PublishedRows) -> None:
    if rows.route in found:
        raise click.UsageError(
            f"two tables or queries have the URL {rows.route}: select tables with --table, or rename the query"
        )
    found[rows.route] = rows


async def _find_table(database: Database, name: str) -> PublishedRows | None:
    """Return the table NAME or SCHEMA.NAME, or None if there is no such table."""
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
    except (TypeError, ValueError):
        # The table or view has no primary key by which clients could resume, so no ranges of its rows are offered.
        query = sa.select(sa.text("*")).select_from(sa.table(table, schema=schema))
        return PublishedRows(f"/{name}", about, lambda _: _source(sql.rows(database.queries, query)))
    pages = resumable(lambda after: _source(source.start(after=after)), key=source.key)
    return PublishedRows(f"/{name}", {**about, "order": list(source.key)}, lambda _: pages)


async def _make_query(database: Database, text: str) -> PublishedRows:
    name, equals, query = text.partition("=")
    if not (name.strip() and equals and query.strip()):
        raise click.BadParameter(f"expected NAME=SQL, got {text!r}", param_hint="--query")
    name = name.strip()
    try:
        parameters = await database.parameters(query)
    except ValueError as error:
        raise click.BadParameter(f"{name}: {error}", param_hint="--query") from None
    if taken := sorted(PARAMETERS & {part.name for part in parameters}):
        msg = f"{name}: the parameter name :{taken[0]} is reserved, choose another name"
        raise click.BadParameter(msg, param_hint="--query")
    about = {"query": name, "database": database.name, "parameters": [part.name for part in parameters]}
    return PublishedRows(
        f"/{name}", about, lambda values: _source(sql.rows(database.queries, query, values)), parameters
    )


def _source(rows: Batches) -> Batches:
    return Batches(with_http_errors(rows, failure_of))
