"""A query and its parameters -> batches of rows as dicts. The connection always returns to the pool."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncResult

from chunkwise.sources.batches import Batches
from chunkwise.sources.sql.values import plain_batches

BATCH_ROWS = 2000
_FIRST_ROWS = 16
_BATCH_CHARACTERS = 1024 * 1024
_SAMPLE_ROWS = 16

_INTERRUPT_SECONDS = 0.05
_SHARED_SECONDS = 1.0
_GIVE_BACK_SECONDS = 0.5

# The tasks that return unneeded connections to the pool. The event loop has only weak references to tasks, so a task
# could be deleted before its end if it were not in this set.
_UNWANTED: set[asyncio.Task[None]] = set()

_CAST = re.compile(r"(?<![:\w\\]):(\w+)::(\w+)")

_T = TypeVar("_T")


def rows(
    engine: AsyncEngine,
    query: str | sa.Executable,
    params: Mapping[str, Any] | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
) -> Batches:
    """Return the rows of a query as a source: ``respond(request, sql.rows(engine, "select * from users"))``.

    The rows are read with a server-side cursor, so memory use does not grow with their number. The stream holds one
    connection, and returns it to the pool when it ends, for whatever reason.

    Nothing is written to the database: in PostgreSQL the transaction is read-only, in SQLite the connection is
    read-only (``query_only``) during the stream, and no transaction is committed. Effects outside of a transaction are
    still possible: a function can have side effects. In SQLite, a PRAGMA can change the connection, and ATTACH can add
    a database to it. Writes to ``sqlite+aiosqlite://``, an in-memory database with one shared connection, are possible,
    too.

    A row is a dict of the driver's values. In JSON, a Decimal is a string, because a float would not be exact. Dates,
    times, UUIDs and intervals (ISO 8601) are strings, bytes are base64, an enum is its text, and JSON and arrays are
    not changed. Other types of PostgreSQL (ranges, addresses, bits) are strings, and a composite is a dict. The
    stream fails if a float is NaN or Infinity: cast such a column to a text in the query. SQLite does not enforce
    column types: a BOOLEAN is 0 or 1, and a date is the stored value.

    Args:
        engine: a SQLAlchemy engine with an async driver.
        query: SQL text with parameters such as ``:city`` (with a cast: ``CAST(:day AS date)``), or a SQLAlchemy
            statement that returns rows.
        params: the values of the parameters. The driver binds them; never put them into the text.
        batch_rows: how many rows to fetch at once at most. The first batch has 16 rows, and batches of large rows have
            fewer.

    Raises:
        ValueError: ``batch_rows`` is less than 1, or a parameter is written ``:day::date``, which SQLAlchemy does not
            recognize. While reading: two columns have the same name.
        Exception: while reading: any error of SQLAlchemy or the driver, for example for an invalid query.
    """
    for name, how in unseen_parameters(query).items() if isinstance(query, str) else ():
        if name in (params or {}):
            raise ValueError(f"query: SQLAlchemy does not find parameter {name!r} before '::': {how}")
    asked = Query(sa.text(query), untyped=True) if isinstance(query, str) else Query(query, untyped=False)
    return Batches(plain_batches(fetch(engine, asked, params or {}, Sizes(batch_rows))))


class Sizes:
    """The number of rows to fetch next: few at the start, so that they are sent soon, and few if rows are large."""

    def __init__(self, most: int, first: int = _FIRST_ROWS) -> None:
        if most < 1:
            raise ValueError(f"batch_rows must be >= 1, got {most}")
        self.rows: int = min(first, most)
        self._most = most

    def learn(self, batch: Sequence[Any]) -> None:
        """Adapt ``rows``, the number of rows to fetch next, to the size of the rows in a batch."""
        sample = batch[:: max(1, len(batch) // _SAMPLE_ROWS)]
        # The values are measured as a tuple, because SQLAlchemy leaves out parts of long values in the text of a Row.
        values = [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in sample]
        characters = sum(map(len, map(str, values))) // len(values) + 1
        self.rows = max(1, min(self._most, 4 * self.rows, _BATCH_CHARACTERS // characters))


class Query:
    """A statement for SQLAlchemy, and its text for the driver.

    ``untyped`` is True if no column or parameter has a SQLAlchemy type. SQLAlchemy then has no values to convert, so
    the driver asyncpg can run the text without SQLAlchemy, which is faster.
    """

    def __init__(self, statement: Any, *, untyped: bool) -> None:
        self.statement = statement
        self.untyped = untyped
        self._compiled: Any = None

    def for_driver(self, dialect: sa.Dialect, params: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Return the text of the statement for the driver, and the values of its parameters in order."""
        if self._compiled is None:
            self._compiled = self.statement.compile(dialect=dialect)
        values = self._compiled.construct_params(dict(params))
        return self._compiled.string, [values[name] for name in self._compiled.positiontup or ()]


def unseen_parameters(text: str) -> dict[str, str]:
    """Return the parameters that SQLAlchemy does not recognize, each with a hint that shows the correct syntax.

    SQLAlchemy does not recognize a parameter before ``::``, as in ``:day::date``.
    """
    seen = sa.text(text).compile().params if (casts := _CAST.findall(text)) else {}
    return {name: f"write CAST(:{name} AS {to}) instead of :{name}::{to}" for name, to in casts if name not in seen}


async def fetch(
    engine: AsyncEngine, query: Query, params: Mapping[str, Any], sizes: Sizes
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield the rows of a query in batches, read with a server-side cursor."""
    async with _connected(engine) as connection, _only_reading(connection):
        read = _fetch_from_driver if _is_read_by_driver(connection, query) else _fetch_from_result
        async with aclosing(read(connection, query, params, sizes)) as batches:
            async for batch in batches:
                yield batch


async def fetch_at_once(
    engine: AsyncEngine, query: Query, params: Mapping[str, Any], rows: int
) -> list[dict[str, Any]]:
    """Return all rows of a query in one list.

    The query must not write, because it can run in a transaction that is not read-only. It must have at most ``rows``
    rows.
    """
    async with _connected(engine) as connection:
        if _is_read_by_driver(connection, query):
            async with _driver_of(connection) as driver:
                text, values = query.for_driver(connection.dialect, params)
                # A single statement is a transaction by itself. An explicit transaction would need three more round
                # trips, which take longer than reading a page.
                return list(map(dict, await driver.fetch(text, *values)))
        async with aclosing(_fetch_from_result(connection, query, params, Sizes(rows, first=rows))) as batches:
            return await anext(batches, [])


async def _fetch_from_result(
    connection: AsyncConnection, query: Query, params: Mapping[str, Any], sizes: Sizes
) -> AsyncGenerator[list[dict[str, Any]], None]:
    if connection.dialect.name == "postgresql":
        await connection.execution_options(postgresql_readonly=True)
    # If this task is cancelled, `_to_its_end` interrupts SQLite, and then closes the result. If the result stayed open,
    # the interrupt would also stop the next statement, such as a rollback.
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
    """Provide a connection in an ``async with`` block, and return it to the pool."""
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
        # The task `unwanted` waits for the connection, and returns it to the pool. This can take long if no connection
        # is free. So the cancellation waits at most _GIVE_BACK_SECONDS, and the task continues in the background.
        latest = time.monotonic() + _GIVE_BACK_SECONDS
        while not unwanted.done() and (left := latest - time.monotonic()) > 0:
            # A second cancellation is ignored here, because the first one is raised after the loop.
            with suppress(asyncio.CancelledError):
                await asyncio.wait({unwanted}, timeout=left)
        raise
    try:
        yield connection
    finally:
        await _to_its_end(connection, connection.close(), interrupts=False)


async def _give_back(connection: AsyncConnection, starting: asyncio.Future[AsyncConnection]) -> None:
    # The task that needed the connection was cancelled, so an error of the connection does not matter.
    with suppress(Exception):
        await _to_its_end(connection, starting, undo=AsyncConnection.close)
        await connection.close()


@asynccontextmanager
async def _only_reading(connection: AsyncConnection) -> AsyncIterator[None]:
    """Make a SQLite connection read-only during an ``async with`` block."""
    # An in-memory database of SQLite has one connection for all users of the pool. It is not made read-only, because
    # other users may be writing.
    if connection.dialect.driver != "aiosqlite" or _is_shared(connection):
        yield
        return
    driver: Any = (await connection.get_raw_connection()).driver_connection
    ((before,),) = await _to_its_end(connection, driver.execute_fetchall("pragma query_only"))
    try:
        # query_only allows some changes, such as another journal mode. So begin a transaction, in which SQLite refuses
        # these changes or rolls them back. Python itself begins one only before statements such as INSERT.
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
    """Await a call of a database driver. If this task is cancelled, wait for the end of the call, and undo its result.

    Only calls of aiosqlite need this. SQLite runs in a thread, which a cancellation does not stop. If this task did not
    wait for the call, SQLAlchemy would discard the connection. If a second cancellation arrived then, for example
    because a server stops, aiosqlite would never close the connection. An event loop that waits for the thread of the
    connection would then wait for ever.

    Args:
        connection: the connection that the call uses.
        call: the call, as an awaitable.
        interrupts: whether to interrupt SQLite after a cancellation, so that the call ends soon. False for short calls
            that have to finish. If the connection is shared (an in-memory database), SQLite is interrupted only after
            one second, so that the work of other users can finish.
        undo: a function that undoes the result of the call, if the call has succeeded after a cancellation. For
            example, it closes a connection that the call has opened.
    """
    # Drivers other than aiosqlite handle the cancellation of a task themselves.
    if connection.engine.dialect.driver != "aiosqlite":
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
                # interrupt() returns at once. It has no effect on statements that SQLite begins after ``call`` ends.
                await driver.interrupt()
            # A second cancellation is ignored here, because the first one is raised after the loop.
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=_INTERRUPT_SECONDS)
        if not task.cancelled() and task.exception() is None and undo is not None:
            await _to_its_end(connection, undo(task.result()), interrupts=False)
        raise


def _is_read_by_driver(connection: AsyncConnection, query: Query) -> bool:
    return query.untyped and connection.dialect.driver == "asyncpg"


async def _fetch_from_driver(
    connection: AsyncConnection, query: Query, params: Mapping[str, Any], sizes: Sizes
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield rows read with a cursor of asyncpg. Reading them through SQLAlchemy would take 1.5 times as long."""
    text, values = query.for_driver(connection.dialect, params)
    async with _driver_of(connection) as driver, _undone(driver):
        cursor = await driver.cursor(text, *values)
        checked = False
        while batch := await cursor.fetch(sizes.rows):
            checked = checked or bool(_distinct(list(batch[0].keys())))
            sizes.learn(batch)
            yield list(map(dict, batch))


@asynccontextmanager
async def _driver_of(connection: AsyncConnection) -> AsyncIterator[Any]:
    """Provide the asyncpg connection inside a SQLAlchemy connection, so that asyncpg can be called directly."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    # If the server has closed the connection while it was in the pool, replace it by a new one.
    if driver.is_closed():
        await connection.invalidate()
        driver = (await connection.get_raw_connection()).driver_connection
    try:
        yield driver
    finally:
        # Without invalidate(), SQLAlchemy would return a closed connection to the pool.
        if driver.is_closed():
            await connection.invalidate()


@asynccontextmanager
async def _undone(driver: Any) -> AsyncIterator[None]:
    """Run an ``async with`` block in a read-only transaction, then roll the transaction back.

    The rollback also undoes all settings of the connection that a query has changed.
    """
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
        # If the start or the rollback was cancelled or failed, nothing is known about the state of the transaction. So
        # the connection is closed, because the next user of the pool must not receive it.
        if not undone:
            driver.terminate()


def _distinct(names: list[str]) -> list[str]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"got two columns named {name!r}, expected unique names: rename one in the query with AS")
    return names
