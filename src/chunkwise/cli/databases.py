"""The URL of a database -> a `Database`: read-only connections, the names of tables, and the parameters of a query.

Errors and logs never contain a password.
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
    "write a parameter as :name, not as $1, ? or @name; "
    r"write a colon inside a string or a comment as \:"
)
_EXPECTED = "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"


class Database:
    """A database that is only read.

    There are two SQLAlchemy engines, each with its own connections: tables can be read while slow clients use all
    connections for queries.

    Attributes:
        engine: the engine for tables with a primary key. Each page of rows borrows a connection.
        queries: the engine for queries, and for tables and views without a primary key. Each stream
            keeps a connection until it ends.
        label: the URL without password and options, or the path of the SQLite file; used in messages to the user.
        name: the name that clients see in the index.
        kind: ``"sqlite"`` or ``"postgresql"``.
    """

    def __init__(self, make_engine: Callable[[], AsyncEngine], label: str, name: str) -> None:
        self.engine: AsyncEngine = make_engine()
        self.queries: AsyncEngine = make_engine()
        self.label = label
        self.name = name
        self.kind: str = self.engine.dialect.name

    async def dispose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
        await self.queries.dispose()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection during the ``async with`` block.

        Raises:
            ConnectionError: the database cannot be reached or read.
            DecodeError: SQLite cannot read the file, for example because it is not a database.
        """
        try:
            async with aclosing(await self._connect()) as connection:
                if self.kind == "sqlite":
                    # SQLite does not read the file until a statement is executed. This one checks that it can be read.
                    await connection.execute(sa.text("select 1 from sqlite_schema"))
                yield connection
        except (sa.exc.DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if self.kind == "sqlite":
                raise DecodeError(f"{self.label}: {reason(error)}") from None
            raise ConnectionError(f"cannot read {self.label}: {reason(error)}") from None
        except OSError as error:
            raise ConnectionError(f"cannot connect to {self.label}: {reason(error)}") from None

    async def _connect(self) -> AsyncConnection:
        try:
            return await self.engine.connect()
        except TypeError:
            # asyncpg raises a TypeError if it does not know an option in the URL.
            raise click.UsageError(
                f"the URL of {self.label} has an unknown option after the ?: correct or remove it"
            ) from None

    async def table_names(self) -> list[str]:
        """Return the names of the tables and views in the default schema."""

        def names(connection: sa.Connection) -> list[str]:
            inspector = sa.inspect(connection)
            return sorted({*inspector.get_table_names(), *inspector.get_view_names()})

        async with self.connected() as connection:
            return await connection.run_sync(names)

    async def has_table(self, name: str, schema: str | None) -> bool:
        """Return whether the database has a table or view of this name."""
        async with self.connected() as connection:
            return "\0" not in name and await connection.run_sync(lambda c: sa.inspect(c).has_table(name, schema))

    async def parameters(self, query: str) -> list[Part]:
        """Return the parameters of a query with their types; raise ValueError if the database rejects the query."""
        names = list(sa.text(query).compile().params)
        async with self.connected() as connection:
            try:
                if self.kind == "sqlite":
                    # The statement EXPLAIN checks the query without running it.
                    explain = sa.text(f"explain {query}")
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
                # This is the message of SQLite if the query would do more than read (see `_authorize`).
                if message == "not authorized":
                    message = "the query may only read (no ATTACH, VACUUM, CREATE, PRAGMA ... = ...)"
                elif message.startswith("Incorrect number of bindings"):
                    message = _MISCOUNTED
                raise ValueError(": ".join([message, *unseen_parameters(query).values()])) from None
            return [part_of_type(name, types[name]) for name in names]


def open_database(word: str) -> Database:
    """Return the database at a URL, without connecting to it; raise UsageError or OSError if the URL is wrong."""
    if match := _SQLITE.fullmatch(word):
        return _open_sqlite(match[1])
    if not _POSTGRESQL.fullmatch(word):
        scheme = re.match(r"[\w+.-]*", word)
        raise click.UsageError(f"{_EXPECTED}, got a URL that starts with {scheme[0] if scheme else ''}:")
    try:
        url = sa.make_url(word)
        query = dict(url.query)
        # The option that PostgreSQL's C library (libpq) calls sslmode has the name ssl in asyncpg.
        if "sslmode" in query:
            query["ssl"] = query.pop("sslmode")
        url = url.set(drivername="postgresql+asyncpg", query=query)
        settings = {"application_name": "chunkwise serve", "default_transaction_read_only": "on"}
        arguments = {"timeout": _CONNECT_SECONDS, "server_settings": settings}
        make_engine = partial(create_async_engine, url, connect_args=arguments, hide_parameters=True)
        return Database(make_engine, url.set(query={}, drivername="postgresql").render_as_string(), url.database or "")
    except (sa.exc.ArgumentError, ValueError, TypeError):
        # The message of the original error is not shown, because it may contain the password.
        raise click.UsageError(f"the PostgreSQL URL is malformed, {_EXPECTED}") from None


def _open_sqlite(name: str) -> Database:
    if not name or name == ":memory:":
        raise click.UsageError(f"the SQLite URL has no file, {_EXPECTED}")
    file = Path(name)
    # If the file cannot be opened, open() raises an OSError that says why. SQLite's own error would not say why.
    file.open("rb").close()
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


# These are the actions that SQLite allows in a statement. A statement with any other action, such as attaching a file
# or creating a table, is rejected. Writes to existing tables are in the set, because SQLite's R*Trees prepare such
# statements even if a table is only read. The pragma query_only prevents the writes themselves.
_ALLOWED = {
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE,
}  # fmt: skip

_ABOUT_NAMES = {
    "foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info", "table_list", "table_xinfo",
}  # fmt: skip
"""The pragmas that only read, even if they have a value, which is a name."""

_WITHOUT_VALUE = _ABOUT_NAMES | {
    "application_id", "collation_list", "compile_options", "data_version", "database_list", "encoding",
    "freelist_count", "function_list", "journal_mode", "page_count", "page_size", "query_only", "read_uncommitted",
    "schema_version", "user_version",
}  # fmt: skip
"""The pragmas that only read as long as they have no value."""


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    """Return SQLITE_OK if a statement may do this action, SQLITE_DENY if not; see sqlite3_set_authorizer."""
    allowed = action in _ALLOWED
    if action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        allowed = name in (_WITHOUT_VALUE if second is None else _ABOUT_NAMES)
        # The pragma query_only makes the connection read-only. A statement must not switch it off.
        allowed = allowed or (name == "query_only" and second in ("on", "1"))
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def reason(error: BaseException) -> str:
    """Return the database's own message in one line, without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, TimeoutError):
        return f"no response within {_CONNECT_SECONDS} seconds"
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
"""The exceptions that SQLAlchemy and the drivers raise while rows are read."""


def failure_of(error: Exception) -> Exception:
    """Convert an error of a database or its driver to an error of `chunkwise.cli.failures`; return others unchanged."""
    if not isinstance(error, _DRIVER_ERRORS):
        return RowsError(error) if isinstance(error, ValueError) else error
    cause: Any = getattr(error, "orig", None) or error
    state, message = str(getattr(cause, "sqlstate", None) or ""), reason(error)
    # SQLSTATE class 22 means invalid data: the client sent a value that the database rejects. asyncpg rejects some
    # values itself, with a DataError.
    if state.startswith("22") or isinstance(error, asyncpg.DataError):
        return ParametersError(message)
    # If a connection was closed while it was idle, asyncpg raises errors without an SQLSTATE. Only their type or
    # message shows that the cause is a closed connection.
    closed = isinstance(error, asyncpg.InternalClientError) or message.endswith("connection is closed")
    if closed or isinstance(error, (OSError, sa.exc.TimeoutError)) or state[:2] in ("08", "53", "57"):
        return DatabaseUnreachableError(message)
    return RowsError(message)
