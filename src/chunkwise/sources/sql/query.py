"""A statement and its parameters -> batches of rows, as dicts, and the connection back.

Must not know tables and their keys, nor what JSON can hold.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncResult

_FIRST_ROWS = 16
_BATCH_CHARACTERS = 1024 * 1024
_SAMPLE_ROWS = 16

_INTERRUPT_SECONDS = 0.05
_SHARED_SECONDS = 1.0
_GIVE_BACK_SECONDS = 0.5

_UNWANTED: set[asyncio.Task[None]] = set()  # (a loop itself has only weak references to its tasks)

_CAST = re.compile(r"(?<![:\w\\]):(\w+)::(\w+)")

_T = TypeVar("_T")


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
            raise ValueError(f"batch_rows: got {most}, expected 1 or more")
        self.rows: int = min(first, most)
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


def unseen_parameters(text: str) -> dict[str, str]:
    """Return the parameters of a text that SQLAlchemy sees none in, since a cast is behind them -> how to write it."""
    seen = sa.text(text).compile().params if (casts := _CAST.findall(text)) else {}
    return {name: f"write CAST(:{name} AS {to}) for :{name}::{to}" for name, to in casts if name not in seen}


async def fetch(
    engine: AsyncEngine, query: Query, params: Mapping[str, Any], sizes: Sizes
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield the rows of a query, in batches by a server-side cursor."""
    async with _connected(engine) as connection, _only_reading(connection):
        read = _fetch_from_driver if _is_read_by_driver(connection, query) else _fetch_from_result
        async with aclosing(read(connection, query, params, sizes)) as batches:
            async for batch in batches:
                yield batch


async def fetch_at_once(
    engine: AsyncEngine, query: Query, params: Mapping[str, Any], rows: int
) -> list[dict[str, Any]]:
    """Return the rows of a query that gives so many at most, and writes nothing."""
    async with _connected(engine) as connection:
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
    # A statement that is begun and not closed keeps SQLite's interrupt for whatever comes next, as the rollback.
    result: AsyncResult[Any] = await _to_its_end(
        connection, connection.stream(query.statement, params), undo=AsyncResult.close
    )
    try:
        names: list[str] = _distinct(list(result.keys()))
        while batch := await _to_its_end(connection, result.fetchmany(sizes.rows)):
            sizes.learn(batch)
            yield [dict(zip(names, row, strict=True)) for row in batch]
    finally:
        await _to_its_end(connection, result.close())


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Give a connection, and take it back."""
    connection = engine.connect()
    if engine.dialect.driver != "aiosqlite":
        async with connection:
            yield connection
        return
    starting = asyncio.ensure_future(connection.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        unwanted = asyncio.create_task(_give_back(connection, starting))
        _UNWANTED.add(unwanted)
        unwanted.add_done_callback(_UNWANTED.discard)
        # It may have to wait for its turn in the pool, as long as the pool allows; we do not.
        latest = time.monotonic() + _GIVE_BACK_SECONDS
        while not unwanted.done() and (left := latest - time.monotonic()) > 0:
            with suppress(asyncio.CancelledError):  # once more: it is passed on below
                await asyncio.wait({unwanted}, timeout=left)
        raise
    try:
        yield connection
    finally:
        await _to_its_end(connection, connection.close(), interrupts=False)


async def _give_back(connection: AsyncConnection, starting: asyncio.Future[AsyncConnection]) -> None:
    with suppress(Exception):  # it was to be read from, and is not: what stood in its way is nobody's failure
        await _to_its_end(connection, starting, undo=AsyncConnection.close)
        await connection.close()


@asynccontextmanager
async def _only_reading(connection: AsyncConnection) -> AsyncIterator[None]:
    """Let a connection of SQLite's read and not write, and be afterwards as it was."""
    # A pool that has one connection for all who ask (SQLite's in memory) has it also for those who write meanwhile.
    if connection.dialect.driver != "aiosqlite" or _is_shared(connection):
        yield
        return
    driver: Any = (await connection.get_raw_connection()).driver_connection
    ((before,),) = await _to_its_end(connection, driver.execute_fetchall("pragma query_only"))
    try:
        # Python begins a transaction only where the text begins with INSERT and the like, and SQLite commits whatever
        # else writes. In a transaction, VACUUM and a change of the journal fail, too.
        if not driver.in_transaction:
            await _to_its_end(connection, driver.execute_fetchall("begin"))
        await _to_its_end(connection, driver.execute_fetchall("pragma query_only = on"))
        yield
    finally:
        await _to_its_end(connection, _set_back(driver, before), interrupts=False)


def _is_shared(connection: AsyncConnection) -> bool:
    return isinstance(connection.sync_engine.pool, sa.pool.StaticPool)


async def _set_back(driver: Any, query_only: int) -> None:
    await driver.rollback()
    await driver.execute_fetchall(f"pragma query_only = {query_only}")


async def _to_its_end(
    connection: AsyncConnection,
    call: Awaitable[_T],
    *,
    interrupts: bool = True,
    undo: Callable[[_T], Awaitable[object]] | None = None,
) -> _T:
    """Await a call of the driver's; if we are cancelled meanwhile, it ends first, and what it gave is undone.

    SQLite works in a thread, which knows nothing of that. SQLAlchemy would throw the connection away, and one that it
    throws away while we are cancelled again (by a server that stops, say) aiosqlite never closes: who waits for it, as
    an event loop does at its end, waits for ever. So that it takes no time, what SQLite is at is interrupted; but
    not what takes none and has to be done. Nor at once what others do over the same connection, as they have it in a
    database in memory: they wait for us meanwhile, and that has an end, too.
    """
    if connection.engine.dialect.driver != "aiosqlite":  # others undo by themselves what they are cancelled at
        return await call
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        begun = time.monotonic()
        while not task.done():
            spares = _is_shared(connection) and time.monotonic() - begun < _SHARED_SECONDS
            if interrupts and connection.sync_connection is not None and not spares:
                driver: Any = connection.sync_connection.connection.driver_connection
                await driver.interrupt()  # does not wait, and does nothing to what has still to begin
            with suppress(asyncio.CancelledError):  # once more: it is passed on below
                await asyncio.wait({task}, timeout=_INTERRUPT_SECONDS)
        if not task.cancelled() and task.exception() is None and undo is not None:
            await _to_its_end(connection, undo(task.result()), interrupts=False)
        raise


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
    undone = False
    try:
        await transaction.start()
        try:
            yield
        finally:
            if not driver.is_closed():
                await transaction.rollback()
            undone = True
    finally:
        if not undone:  # we were cancelled meanwhile, and nobody knows how far it came: the next must not get it
            driver.terminate()


def _distinct(names: list[str]) -> list[str]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"the query gives two columns named {name!r}: call one of them otherwise (AS ...)")
    return names
