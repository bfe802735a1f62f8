"""A statement and its parameters -> batches of rows, as dicts, and the connection back.

Must not know tables and their keys, nor what JSON can hold.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_FIRST_ROWS = 16
_BATCH_CHARACTERS = 1024 * 1024
_SAMPLE_ROWS = 16


class Sizes:
    """How many rows to fetch next: few at first, so that they are there at once, and few if they are large.

    Args:
        most: how many at most.
        first: how many at first.

    Attributes:
        rows: how many.

    Raises:
        ValueError: there would be none.
    """

    def __init__(self, most: int, first: int = _FIRST_ROWS) -> None:
        if most < 1:
            msg = f"batch_rows: got {most}, expected 1 or more"
            raise ValueError(msg)
        self.rows = min(first, most)
        self._most = most

    def learn(self, batch: Sequence[Any]) -> None:
        """Take into account how large the rows of a batch are."""
        sample = batch[:: max(1, len(batch) // _SAMPLE_ROWS)]
        # (a Row's own text is cut short)
        characters = sum(len(str(tuple(row))) for row in sample) // len(sample) + 1
        self.rows = max(1, min(self._most, 4 * self.rows, _BATCH_CHARACTERS // characters))


class Query:
    """A statement, and its text for the driver.

    Attributes:
        statement: for SQLAlchemy.
        untyped: whether its columns and parameters have no types of SQLAlchemy's, which would convert their values.
    """

    def __init__(self, statement: Any, *, untyped: bool) -> None:
        self.statement = statement
        self.untyped = untyped
        self._compiled: Any = None

    def for_driver(self, dialect: sa.Dialect, params: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Return the text, and the parameters in its order."""
        if self._compiled is None:
            self._compiled = self.statement.compile(dialect=dialect)
        values = self._compiled.construct_params(dict(params))
        return self._compiled.string, [values[name] for name in self._compiled.positiontup or ()]


async def fetch(
    engine: AsyncEngine, query: Query, params: Mapping[str, Any], sizes: Sizes
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield the rows of a query, in batches by a server-side cursor."""
    async with engine.connect() as connection:
        read = _fetch_from_driver if _is_read_by_driver(connection, query) else _fetch_from_result
        async with aclosing(read(connection, query, params, sizes)) as batches:
            async for batch in batches:
                yield batch


async def fetch_at_once(
    engine: AsyncEngine, query: Query, params: Mapping[str, Any], rows: int
) -> list[dict[str, Any]]:
    """Return the rows of a query that gives so many at most, and writes nothing."""
    async with engine.connect() as connection:
        if _is_read_by_driver(connection, query):
            async with _driver_of(connection) as driver:
                text, values = query.for_driver(connection.dialect, params)
                # A statement is a transaction by itself: to begin and to end one would take three turns to the server
                # and back, and longer than a page.
                return list(map(dict, await driver.fetch(text, *values)))
        async with aclosing(_fetch_from_result(connection, query, params, Sizes(rows, first=rows))) as batches:
            return await anext(batches, [])


async def _fetch_from_result(
    connection: AsyncConnection, query: Query, params: Mapping[str, Any], sizes: Sizes
) -> AsyncGenerator[list[dict[str, Any]], None]:
    if connection.dialect.name == "postgresql":
        await connection.execution_options(postgresql_readonly=True)
    async with connection.stream(query.statement, params) as result:
        names: list[str] = _distinct(list(result.keys()))
        while batch := await result.fetchmany(sizes.rows):
            sizes.learn(batch)
            yield [dict(zip(names, row, strict=True)) for row in batch]


def _is_read_by_driver(connection: AsyncConnection, query: Query) -> bool:
    return query.untyped and connection.dialect.driver == "asyncpg"


async def _fetch_from_driver(
    connection: AsyncConnection, query: Query, params: Mapping[str, Any], sizes: Sizes
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Read with asyncpg's own cursor: as rows of SQLAlchemy, they take half as long again."""
    text, values = query.for_driver(connection.dialect, params)
    async with _driver_of(connection) as driver, _undone(driver):
        cursor = await driver.cursor(text, *values)
        first = True
        while batch := await cursor.fetch(sizes.rows):
            if first:
                _distinct(list(batch[0].keys()))
                first = False
            sizes.learn(batch)
            yield list(map(dict, batch))


@asynccontextmanager
async def _driver_of(connection: AsyncConnection) -> AsyncIterator[Any]:
    """Give asyncpg's connection inside one of SQLAlchemy's."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    if driver.is_closed():  # while nobody used it: the next is new
        await connection.invalidate()
        driver = (await connection.get_raw_connection()).driver_connection
    try:
        yield driver
    finally:
        if driver.is_closed():  # SQLAlchemy has not seen it, and would hand it to the next
            await connection.invalidate()


@asynccontextmanager
async def _undone(driver: Any) -> AsyncIterator[None]:
    """Read in a transaction that leaves nothing, not even a setting of the connection."""
    transaction = driver.transaction(readonly=True)
    await transaction.start()
    try:
        yield
    finally:
        if not driver.is_closed():
            await transaction.rollback()


def _distinct(names: list[str]) -> list[str]:
    for index, name in enumerate(names):
        if name in names[:index]:
            msg = f"the query gives two columns named {name!r}: call one of them otherwise (AS ...)"
            raise ValueError(msg)
    return names
