"""A query or a table of a database -> batches of its rows, each a dict.

Must not know formats or transports. It needs the extra ``sql``: SQLAlchemy, and a driver of your database::

    from chunkwise.sources import sql

A query is read by one cursor, in one transaction, and holds a connection until its stream ends. A table is read in
pages, each in a transaction of its own: a slow client holds no connection, and the rest can be had by any process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

try:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine
except ModuleNotFoundError as _missing:
    msg = "SQL sources need the extra 'sql': pip install 'chunkwise[sql]'"
    raise ModuleNotFoundError(msg, name=_missing.name) from _missing

from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import Resumable, WrongKey, resumable
from chunkwise.sources.sql.keys import Key, find_key
from chunkwise.sources.sql.query import Query, Sizes, fetch, fetch_at_once, unseen_parameters
from chunkwise.sources.sql.values import PlainValues

__all__ = ["rows", "table"]

_BATCH_ROWS = 2000
_LIMIT = "chunkwise_limit"  # which is none of a condition's own parameters


def rows(
    engine: AsyncEngine,
    query: str | sa.Executable,
    params: Mapping[str, Any] | None = None,
    *,
    batch_rows: int = _BATCH_ROWS,
) -> Batches:
    """Return the rows of a query as a source: ``respond(request, sql.rows(engine, "select * from users"))``.

    A server-side cursor reads them, so that memory is flat; the connection goes back when the stream ends, however it
    does. Nothing is written to the database: the transaction is read-only in PostgreSQL, the connection is in SQLite
    (``query_only``) while the stream lasts, and no transaction is committed in any. What is outside of a transaction
    nobody holds back: functions with effects of their own; in SQLite a PRAGMA that changes the connection, ATTACH, and
    whatever writes in ``sqlite+aiosqlite://``, in memory, whose one connection others write with meanwhile.

    A row is a dict of what the driver gives, which JSON holds in this way: a Decimal is a string, since a float would
    not be exact; dates, times, UUIDs and intervals (ISO 8601) are strings, bytes are base64; JSON and arrays are what
    they hold, an enum is its text. What else PostgreSQL has (ranges, addresses, bits) is its text, a composite is a
    dict. NaN and Infinity fail the stream, as they do everywhere, unless they are Decimals: cast them in the query.
    SQLite knows no types of columns: a BOOLEAN is 0 or 1, a date is what was stored.

    Args:
        engine: any of SQLAlchemy's, with an async driver. The stream takes one of its connections.
        query: the text, with parameters such as ``:city`` (with a cast, ``CAST(:day AS date)``), or any
            statement of SQLAlchemy that gives rows.
        params: the values of the parameters, bound by the driver: never put them into the text.
        batch_rows: how many rows are fetched at once at most; fewer if they are large, and 16 at first.

    Raises:
        ValueError: a parameter is written ``:day::date``; while reading: two columns have one name.
        Exception: while reading: what SQLAlchemy and the driver raise, for a query that is wrong, say.
    """
    for name, how in unseen_parameters(query).items() if isinstance(query, str) else ():
        if name in (params or {}):
            raise ValueError(f"query: parameter {name!r} cannot be seen before '::': {how}")
    asked = Query(sa.text(query), untyped=True) if isinstance(query, str) else Query(query, untyped=False)
    return Batches(_plain(fetch(engine, asked, params or {}, Sizes(batch_rows))))


async def table(
    engine: AsyncEngine,
    name: str,
    order_by: str | Sequence[str] | None = None,
    *,
    descending: bool = False,
    columns: Sequence[str] | None = None,
    where: sa.ColumnElement[bool] | sa.TextClause | None = None,
    schema: str | None = None,
    batch_rows: int = _BATCH_ROWS,
) -> Resumable:
    """Return the rows of a table, in the order of a unique key, as a source that can go on behind any of them.

    Look the table up once, when the application starts, and answer any number of requests with it::

        users = await sql.table(engine, "users")
        ...
        return await chunkwise.respond(request, users)

    Each page asks for the rows behind the last one's key (no OFFSET). So rows that are inserted, removed or changed
    meanwhile neither repeat nor skip others: those behind the place are sent, those before it are not. That holds for
    what is committed when the place goes by, and for keys that do not change.

    Args:
        engine: see `rows`. A connection is taken for each page only.
        name: of the table, as it stands in the database; it is looked up there, and quoted.
        order_by: the column or columns of the order: they are never NULL, and unique, at least all together. By default
            the primary key.
        descending: from the last to the first.
        columns: which to send; all by default. Those of the order have to be among them.
        where: a condition, as an expression of SQLAlchemy: ``sqlalchemy.column("city") == city``, or
            ``sqlalchemy.text("city = :city").bindparams(city=city)``.
        schema: where the table is, if it is not where the database looks first.
        batch_rows: see `rows`.

    Raises:
        LookupError: there is no such table or column.
        ValueError: the order is not unique or may be NULL, or the columns lack it; other tables inherit from this one,
            in PostgreSQL; while reading: a key of SQLite's is none of its column's type.
        TypeError: the condition is a string, or a column of the order has a type that no client could send back.
    """
    Sizes(batch_rows)  # raises for a number that is none
    if isinstance(where, str):
        raise TypeError(f"where: got {where!r}, expected an expression, such as sqlalchemy.text(...).bindparams(...)")
    async with engine.connect() as connection:
        key = await connection.run_sync(find_key, name, schema, order_by)
    selected = key.columns if columns is None else list(columns)
    if unknown := [column for column in selected if column not in key.columns]:
        raise LookupError(f"table {name!r} has no column {unknown[0]!r}; it has {', '.join(key.columns)}")
    if lacking := [column for column in key.names if column not in selected]:
        raise ValueError(f"columns: got {', '.join(selected)}, expected also {lacking[0]!r}, by which they are ordered")
    pages = _Pages(engine, key, selected, where, batch_rows, descending=descending)
    return resumable(lambda after: Batches(_plain(pages.behind(after))), key=key.names)


class _Pages:
    """A table in pages, from any key on."""

    def __init__(
        self,
        engine: AsyncEngine,
        key: Key,
        columns: Sequence[str],
        where: Any,
        batch_rows: int,
        *,
        descending: bool,
    ) -> None:
        self._engine = engine
        self._key = key
        self._parameters = [f"chunkwise_after_{index}" for index in range(len(key.names))]
        self._batch_rows = batch_rows
        # No types: the driver takes its own values back. A cast of the statement's could only change them, as a Decimal
        # of SQLite's does, and the database knows what its columns are.
        self._source = source = sa.table(key.table, *map(sa.column, key.columns), schema=key.schema)
        self._keys = keys = [
            source.c[name] if collation is None else source.c[name].collate(collation)  # which the index has, too
            for name, collation in zip(key.names, key.collations, strict=True)
        ]
        after = [sa.bindparam(name, type_=sa.types.NullType()) for name in self._parameters]
        here, there = (sa.tuple_(*keys), sa.tuple_(*after)) if len(keys) > 1 else (keys[0], after[0])
        first = sa.select(*[source.c[name].label(name) for name in columns])
        if where is not None:
            first = first.where(where)
        first = first.order_by(*(column.desc() if descending else column for column in keys))
        first = first.limit(sa.bindparam(_LIMIT, type_=sa.Integer()))
        self._first = Query(first, untyped=where is None)
        self._next = Query(first.where(here < there if descending else here > there), untyped=where is None)

    def behind(self, after: tuple[Any, ...] | None) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Return the batches behind a key as a client has it; None for all.

        Raises:
            WrongKey: the key is none of this table.
        """
        try:
            return self._read(None if after is None else self._key.convert(after))
        except ValueError as error:
            raise WrongKey(str(error)) from None

    async def _read(self, after: tuple[Any, ...] | None) -> AsyncGenerator[list[dict[str, Any]], None]:
        sizes = Sizes(self._batch_rows)
        await self._refuse_null()
        while True:
            limit = sizes.rows
            batch = await self._page(after, limit)
            if not batch:
                return
            self._key.check_kinds(batch)
            before, after = after, self._key.of(batch[-1])
            if self._key.of(batch[0]) == before:  # it would go on for ever
                raise ValueError(f"{self._key.told} does not change on its way to the database and back, got {before}")
            sizes.learn(batch)
            full = len(batch) == limit
            yield batch
            if not full:
                return
            self._key.check(after)

    async def _page(self, after: tuple[Any, ...] | None, limit: int) -> list[dict[str, Any]]:
        query = self._first if after is None else self._next
        places = {} if after is None else dict(zip(self._parameters, after, strict=True))
        return await fetch_at_once(self._engine, query, {_LIMIT: limit, **places}, limit)

    async def _refuse_null(self) -> None:
        """Raise if a column that only promises never to be NULL is."""
        # Only SQLite's primary keys do not keep that promise. No comparison finds NULL: rows would be left out.
        if not self._key.may_be_null:
            return
        null = sa.or_(*[column.is_(None) for column in self._keys])
        statement = sa.select(sa.literal(1).label("found")).select_from(self._source).where(null).limit(1)
        if await fetch_at_once(self._engine, Query(statement, untyped=False), {}, 1):
            msg = f"{self._key.told} is NULL in a row of table {self._key.table!r}: it has no place in the order"
            raise ValueError(msg)


async def _plain(
    batches: AsyncGenerator[list[dict[str, Any]], None],
) -> AsyncGenerator[list[dict[str, Any]], None]:
    values = PlainValues()
    async with aclosing(batches):
        async for batch in batches:
            values.convert(batch)
            yield batch
