"""A table of a database -> its rows in pages, in the order of a unique key. Reading can start after any row."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import Resumable, WrongKey, resumable
from chunkwise.sources.sql.keys import Key, find_key
from chunkwise.sources.sql.query import BATCH_ROWS, Query, Sizes, fetch_at_once
from chunkwise.sources.sql.values import plain_batches

# The query parameter for the number of rows has this name. The prefix prevents a clash with a parameter in `where`, the
# condition of the user.
_LIMIT = "chunkwise_limit"


async def table(
    engine: AsyncEngine,
    name: str,
    order_by: str | Sequence[str] | None = None,
    *,
    descending: bool = False,
    columns: Sequence[str] | None = None,
    where: sa.ColumnElement[bool] | sa.TextClause | None = None,
    schema: str | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Resumable:
    """Return the rows of a table in the order of a unique key, as a source that can be resumed after any row.

    Call it once, when the application starts, and use the result for any number of requests::

        users = await sql.table(engine, "users")
        ...
        return await chunkwise.respond(request, users)

    The table is read in pages, without OFFSET: each query selects the rows after the last key of the previous page. So
    if rows are inserted, removed or changed during the stream, all other rows are still sent exactly once. A new or
    changed row is sent in its new form if it is committed before the stream reaches its position. If the key of a
    row changes, the row may be repeated or skipped.

    Args:
        engine: a SQLAlchemy engine with an async driver. A connection is held only while a page is read.
        name: the name of the table. It is looked up in the database, and quoted.
        order_by: the column or columns to order by: never NULL, and unique together. By default the primary key.
        descending: whether to read from the last row to the first.
        columns: the columns to send, including those of ``order_by``. By default all.
        where: a condition, as a SQLAlchemy expression: ``sqlalchemy.column("city") == city``, or
            ``sqlalchemy.text("city = :city").bindparams(city=city)``.
        schema: the schema of the table, if it is not on the search path of the database.
        batch_rows: how many rows a page has at most; see `rows`.

    Raises:
        LookupError: the table or a column does not exist.
        ValueError: the columns to order by are not unique together or may be NULL, ``columns`` lacks one of them,
            other tables inherit from this one (PostgreSQL), or ``batch_rows`` is less than 1. While reading: the key of
            a row is NULL or does not have the type of its column (SQLite), or the driver changes the key, so that the
            next page would be wrong.
        TypeError: ``where`` is a string, or a column to order by has a type that a client cannot send to resume.
    """
    # Sizes raises ValueError if batch_rows is less than 1. Without this line, the error would be raised later, when a
    # stream starts.
    Sizes(batch_rows)
    if isinstance(where, str):
        raise TypeError(f"where must be an expression such as sqlalchemy.text(...).bindparams(...), got {where!r}")
    async with engine.connect() as connection:
        key = await connection.run_sync(find_key, name, schema, order_by)
    selected = key.columns if columns is None else list(columns)
    if unknown := [column for column in selected if column not in key.columns]:
        raise LookupError(f"table {name!r} has no column {unknown[0]!r}; it has {', '.join(key.columns)}")
    if lacking := [column for column in key.names if column not in selected]:
        raise ValueError(f"columns must include {lacking[0]!r}, which is in order_by, got {', '.join(selected)}")
    pages = _Pages(engine, key, selected, where, batch_rows, descending=descending)
    return resumable(lambda after: Batches(plain_batches(pages.after(after))), key=key.names)


class _Pages:
    """Reads a table in pages, from the first row or from the row after a given key."""

    def __init__(
        self, engine: AsyncEngine, key: Key, columns: Sequence[str], where: Any, batch_rows: int, *, descending: bool
    ) -> None:
        self._engine = engine
        self._key = key
        self._parameters = [f"chunkwise_after_{index}" for index in range(len(key.names))]
        self._batch_rows = batch_rows
        # The columns and the parameters for key values have no SQLAlchemy types. With types, SQLAlchemy would add casts
        # to the statement, and in SQLite a cast changes the value of a Decimal. The driver needs no types, because it
        # accepts key values as they are.
        self._source = source = sa.table(key.table, *map(sa.column, key.columns), schema=key.schema)
        # Keys are compared with the collation of their unique index. In another collation, two different keys may be
        # equal, so that a row would be skipped.
        self._keys = keys = [
            source.c[name] if collation is None else source.c[name].collate(collation)
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

    def after(self, after: tuple[Any, ...] | None) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Return the batches of all rows after a key that a client has sent, or of all rows if the key is None.

        Raises:
            WrongKey: the key is invalid, for example because a value has the wrong type.
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
            # The query asks for rows after the key `before`. If it returns the row of this key again, the driver has
            # changed the value, and without an error the same page would be read for ever.
            if self._key.of(batch[0]) == before:
                raise ValueError(
                    f"the driver changes the key {self._key.label} = {before}, so the query for the next rows "
                    "returns the same row again: use other columns as order_by"
                )
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
        """Raise ValueError if a key column is NULL in any row. Without this check, a stream could skip rows."""
        # Only SQLite allows NULL in a primary key. The query of each page after the first compares keys with the
        # last key of the previous page, and no comparison with NULL is true, so rows would be skipped.
        if not self._key.may_be_null:
            return
        null = sa.or_(*[column.is_(None) for column in self._keys])
        statement = sa.select(sa.literal(1).label("found")).select_from(self._source).where(null).limit(1)
        if await fetch_at_once(self._engine, Query(statement, untyped=False), {}, 1):
            raise ValueError(
                f"{self._key.label} is NULL in a row of table {self._key.table!r}, expected a value, because rows are "
                "read in the order of this key: set the value or remove the row"
            )
