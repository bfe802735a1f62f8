"""The URL of a database on the command line -> an engine that can only read, and what is in it.

Must not know what is published of it, or how. No password leaves this file: not in errors, not in logs.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import rich_click as click
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from chunkwise.errors import DecodeError
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
    """A database to publish.

    Attributes:
        engine: whose connections can only read, each for a page at a time.
        queries: another, whose connections are each held by a stream until it ends: where slow clients have them all,
            tables are still read.
        told: what it is called to who has named it: its URL without password and options, or its file.
        name: what it is called to clients.
        kind: "sqlite" or "postgresql".
    """

    def __init__(self, make_engine: Callable[[], AsyncEngine], told: str, name: str) -> None:
        self.engine: AsyncEngine = make_engine()
        self.queries: AsyncEngine = make_engine()
        self.told = told
        self.name = name
        self.kind: str = self.engine.dialect.name

    async def dispose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
        await self.queries.dispose()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection; what is wrong with the database is told as what it is.

        Raises:
            ConnectionError: it is not there, or refuses.
            DecodeError: the file is no database.
            UsageError: the URL has options that the driver does not know.
        """
        try:
            async with aclosing(await self._connect()) as connection:
                if self.kind == "sqlite":
                    await connection.execute(sa.text("select 1 from sqlite_schema"))  # which reads the file
                yield connection
        except (sa.exc.DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if self.kind == "sqlite":
                raise DecodeError(f"{self.told}: {reason(error)}") from None
            raise ConnectionError(f"{self.told} refuses: {reason(error)}") from None
        except OSError as error:
            raise ConnectionError(f"cannot connect to {self.told}: {reason(error)}") from None

    async def _connect(self) -> AsyncConnection:
        try:
            return await self.engine.connect()
        except TypeError:  # asyncpg's connect() takes no such argument
            raise click.UsageError(f"the URL of {self.told} has an option that asyncpg does not know") from None

    async def table_names(self) -> list[str]:
        """Return the names of its tables and views, those that are found without a schema."""

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
        """Return the parameters of a query, and what the database takes them for.

        Raises:
            ValueError: the query is wrong.
        """
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
                told = reason(error)
                if told == "not authorized":  # by _authorize
                    told = "it does more than read (ATTACH, VACUUM, CREATE, PRAGMA ... = ...)"
                elif told.startswith("Incorrect number of bindings"):
                    told = _MISCOUNTED
                for how in unseen_parameters(query).values():
                    told = f"{told}: {how}"
                raise ValueError(told) from None
            return [part_of_type(name, types[name]) for name in names]


def open_database(word: str) -> Database:
    """Return a database; nothing is connected to yet.

    Raises:
        UsageError: the word is no URL of a database that can be published.
        OSError: the file is not there, or cannot be read.
    """
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
    except (sa.exc.ArgumentError, ValueError, TypeError):  # whose texts may hold parts of the URL
        raise click.UsageError(f"got a URL of PostgreSQL that is malformed, {_EXPECTED}") from None


def _open_sqlite(name: str) -> Database:
    if not name or name == ":memory:":
        raise click.UsageError(f"got a URL of SQLite without a file, {_EXPECTED}")
    file = Path(name)
    file.open("rb").close()  # of what stands in the way, SQLite would say no more than that it cannot open it
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


# What is not here, SQLite refuses when it prepares a statement: to attach other files, to vacuum into one, to make
# tables. Writing to tables that are there is left to query_only, since R*Trees prepare that also to be read.
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
}

_ABOUT_NAMES = {
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_info",
    "table_list",
    "table_xinfo",
}
"""The pragmas that only tell something, also of a name."""

_WITHOUT_VALUE = _ABOUT_NAMES | {
    "application_id",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "encoding",
    "freelist_count",
    "function_list",
    "journal_mode",
    "page_count",
    "page_size",
    "query_only",
    "read_uncommitted",
    "schema_version",
    "user_version",
}
"""Those that only tell something where they are given nothing."""


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    """Say to SQLite what a statement may do; see sqlite3_set_authorizer."""
    allowed = action in _ALLOWED
    if action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        allowed = name in (_WITHOUT_VALUE if second is None else _ABOUT_NAMES)
        allowed = allowed or (name == "query_only" and second in ("on", "1"))  # which locks
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def reason(error: BaseException) -> str:
    """Return what a database says is wrong, in a line, without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, TimeoutError):
        return f"no answer in {_CONNECT_SECONDS} seconds"
    if isinstance(cause, OSError) and (cause.errno or 0) > 0:
        return os.strerror(cause.errno or 0)
    lines = str(cause).splitlines()
    return lines[0] if lines else type(cause).__name__


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of a database's error, or an empty text."""
    cause: Any = getattr(error, "orig", None) or error
    return str(getattr(cause, "sqlstate", None) or "")


def is_unreachable(error: BaseException) -> bool:
    """Whether an error of `FAILURES` says that the database is not there, and nothing of what was asked of it."""
    # Of a connection that ended while nobody waited for it, asyncpg only says so, without the state it got, or trips.
    closed = isinstance(error, asyncpg.InternalClientError) or reason(error).endswith("connection is closed")
    return closed or isinstance(error, (OSError, sa.exc.TimeoutError)) or sqlstate(error)[:2] in ("08", "53", "57")


FAILURES: Sequence[type[Exception]] = (
    sa.exc.SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""What reading from a database may raise."""
