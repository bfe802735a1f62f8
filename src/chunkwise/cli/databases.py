"""The URL of a database -> a `Database`: read-only engines, its tables, and the parameters of a query.

No password leaves this file: not in errors, not in logs.
"""

import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import rich_click as click
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from chunkwise import DecodeError
from chunkwise.cli.failures import DatabaseUnreachableError, ParametersError, RowsError
from chunkwise.sources.sql.keys import Part, part_of_type
from chunkwise.sources.sql.query import unseen_parameters

_CONNECT_SECONDS = 10
_SQLITE = re.compile(r"sqlite(?:\+aiosqlite)?:(?://)?/?(.*)", re.DOTALL)
_POSTGRESQL = re.compile(r"(?:postgres|postgresql|postgresql\+asyncpg)://.*", re.DOTALL)
_MISCOUNTED = (
    "parameters are written :name, and nothing else is one ($1, ?, @name); "
    r"a colon inside of a text or a comment is written \:"
)
_EXPECTED = "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"


class Database:
    """A database to publish, read-only.

    Tables and queries have separate engines, so that tables can be read while slow clients hold all connections of
    queries.
    """

    def __init__(self, make_engine: Callable[[], AsyncEngine], label: str, name: str) -> None:
        self.engine: AsyncEngine = make_engine()  # for tables; each connection is taken for one page
        self.queries: AsyncEngine = make_engine()  # for queries; each stream holds a connection until it ends
        self.label = label  # its URL without password and options, or its file, for messages to the user
        self.name = name  # for clients
        self.kind: str = self.engine.dialect.name  # "sqlite" or "postgresql"

    async def dispose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
        await self.queries.dispose()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection; ConnectionError if it cannot be made, DecodeError for a file of another kind."""
        try:
            async with aclosing(await self._connect()) as connection:
                if self.kind == "sqlite":
                    await connection.execute(sa.text("select 1 from sqlite_schema"))  # reads the file
                yield connection
        except (sa.exc.DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if self.kind == "sqlite":
                raise DecodeError(f"{self.label}: {reason(error)}") from None
            raise ConnectionError(f"{self.label} refuses: {reason(error)}") from None
        except OSError as error:
            raise ConnectionError(f"cannot connect to {self.label}: {reason(error)}") from None

    async def _connect(self) -> AsyncConnection:
        try:
            return await self.engine.connect()
        except TypeError:  # asyncpg's connect() takes no such argument
            raise click.UsageError(f"the URL of {self.label} has an option that asyncpg does not know") from None

    async def table_names(self) -> list[str]:
        """Return the names of the tables and views on the search path."""

        def names(connection: sa.Connection) -> list[str]:
            inspector = sa.inspect(connection)
            return sorted({*inspector.get_table_names(), *inspector.get_view_names()})

        async with self.connected() as connection:
            return await connection.run_sync(names)

    async def has_table(self, name: str, schema: str | None) -> bool:
        """Whether there is such a table or view."""
        async with self.connected() as connection:
            return "\0" not in name and await connection.run_sync(lambda c: sa.inspect(c).has_table(name, schema))

    async def parameters(self, query: str) -> list[Part]:
        """Return the parameters of a query, with the types that the database finds; ValueError if it is wrong."""
        names = list(sa.text(query).compile().params)
        async with self.connected() as connection:
            try:
                if self.kind == "sqlite":
                    explain = sa.text(f"explain {query}")  # does not run it
                    await connection.execute(explain, dict.fromkeys(names))
                    return [part_of_type(name, None) for name in names]
                compiled: Any = sa.text(query).compile(dialect=self.engine.dialect)
                driver: Any = (await connection.get_raw_connection()).driver_connection
                prepared = await driver.prepare(compiled.string)
                names_in_order, known = compiled.positiontup, prepared.get_parameters()
                if len(names_in_order) != len(known):
                    raise ValueError(_MISCOUNTED)
                types = {name: found.name for name, found in zip(names_in_order, known, strict=True)}
            except (sa.exc.SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                message = reason(error)
                if message == "not authorized":  # by _authorize
                    message = "it does more than read (ATTACH, VACUUM, CREATE, PRAGMA ... = ...)"
                elif message.startswith("Incorrect number of bindings"):
                    message = _MISCOUNTED
                raise ValueError(": ".join([message, *unseen_parameters(query).values()])) from None
            return [part_of_type(name, types[name]) for name in names]


def open_database(word: str) -> Database:
    """Return a database, without connecting to it; UsageError or OSError if the word cannot be published."""
    if match := _SQLITE.fullmatch(word):
        return _open_sqlite(match[1])
    if not _POSTGRESQL.fullmatch(word):
        scheme = re.match(r"[\w+.-]*", word)
        raise click.UsageError(f"got a URL of {scheme[0] if scheme else ''}, {_EXPECTED}")
    try:
        url = sa.make_url(word)
        query = dict(url.query)
        if "sslmode" in query:  # libpq's name for it
            query["ssl"] = query.pop("sslmode")
        url = url.set(drivername="postgresql+asyncpg", query=query)
        settings = {"application_name": "chunkwise serve", "default_transaction_read_only": "on"}
        arguments = {"timeout": _CONNECT_SECONDS, "server_settings": settings}
        make_engine = partial(create_async_engine, url, connect_args=arguments, hide_parameters=True)
        return Database(make_engine, url.set(query={}, drivername="postgresql").render_as_string(), url.database or "")
    except (sa.exc.ArgumentError, ValueError, TypeError):  # their messages may show parts of the URL
        raise click.UsageError(f"got a URL of PostgreSQL that is malformed, {_EXPECTED}") from None


def _open_sqlite(name: str) -> Database:
    if not name or name == ":memory:":
        raise click.UsageError(f"got a URL of SQLite without a file, {_EXPECTED}")
    file = Path(name)
    file.open("rb").close()  # raises with the reason; SQLite only says that it cannot open the file
    options = {"mode": "ro", "uri": "true"}
    url = sa.URL.create("sqlite+aiosqlite", database=f"file:{quote(str(file.resolve()))}", query=options)

    def make_engine() -> AsyncEngine:
        engine = create_async_engine(url, hide_parameters=True)
        sa.event.listen(engine.sync_engine, "connect", _only_read)
        return engine

    return Database(make_engine, name, file.name)


def _only_read(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("pragma query_only = on")
    cursor.close()
    connection.run_async(lambda driver: driver.set_authorizer(_authorize))


# SQLite refuses to prepare a statement with any other action: attach a file, vacuum into one, create a table. Writes to
# existing tables are prevented by query_only, because R*Trees prepare such statements also for reading.
_ALLOWED = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE,
}  # fmt: skip

_ABOUT_NAMES = {
    "foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info", "table_list", "table_xinfo",
}  # fmt: skip
"""The pragmas that only read, also with a name as their value."""

_WITHOUT_VALUE = _ABOUT_NAMES | {
    "application_id", "collation_list", "compile_options", "data_version", "database_list", "encoding",
    "freelist_count", "function_list", "journal_mode", "page_count", "page_size", "query_only", "read_uncommitted",
    "schema_version", "user_version",
}  # fmt: skip
"""The pragmas that only read if they have no value."""


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    """Allow or deny an action of a statement; see sqlite3_set_authorizer."""
    allowed = action in _ALLOWED
    if action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        allowed = name in (_WITHOUT_VALUE if second is None else _ABOUT_NAMES)
        allowed = allowed or (name == "query_only" and second in ("on", "1"))  # which locks
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def reason(error: BaseException) -> str:
    """Return the database's own message in one line, without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, TimeoutError):
        return f"no answer in {_CONNECT_SECONDS} seconds"
    if isinstance(cause, OSError) and (cause.errno or 0) > 0:
        return os.strerror(cause.errno or 0)
    return next(iter(str(cause).splitlines()), type(cause).__name__)


_DRIVER_ERRORS = (
    sa.exc.SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""The exceptions of SQLAlchemy and the drivers while rows are read."""


def failure_of(error: Exception) -> Exception:
    """Return an exception of `failures` for one that was raised while rows were read; any other unchanged."""
    if not isinstance(error, _DRIVER_ERRORS):
        return RowsError(error) if isinstance(error, ValueError) else error
    cause: Any = getattr(error, "orig", None) or error
    state, message = str(getattr(cause, "sqlstate", None) or ""), reason(error)
    # SQLSTATE class 22 is invalid data, which the client sent. The driver checks some data itself.
    if state.startswith("22") or isinstance(error, asyncpg.DataError):
        return ParametersError(message)
    # For a connection that was closed while idle, asyncpg raises errors without a state.
    closed = isinstance(error, asyncpg.InternalClientError) or message.endswith("connection is closed")
    if closed or isinstance(error, (OSError, sa.exc.TimeoutError)) or state[:2] in ("08", "53", "57"):
        return DatabaseUnreachableError(message)
    return RowsError(message)
