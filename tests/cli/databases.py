"""Tables, queries and helpers for the tests of `chunkwise serve` with databases."""

import io
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, chdir, closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from chunkwise.cli import app
from chunkwise.cli.databases import open_database
from chunkwise.cli.serve import make_app
from chunkwise.cli.tables import find_rows
from tests.cli.running import Done
from tests.databases import KINDS, Database
from tests.transports.watched import Watched, watched

PRODUCTS = [
    {"id": 1, "name": "tea", "price": 2.5},
    {"id": 2, "name": "cup", "price": 7.0},
    {"id": 3, "name": "it's", "price": 30.0},
]
TABLES = [
    "create table products (id integer primary key, name text, price double precision)",
    "insert into products values (1, 'tea', 2.5), (2, 'cup', 7), (3, 'it''s', 30)",
    "create table pairs (a integer, b text, primary key (a, b))",
    "create view cheap as select * from products where price < 10",
    'create table "odd/na me%" (id integer primary key)',
]
QUERIES = {
    "under": "select * from products where price < :max order by id",
    "named": "select id from products where name = :name or name = :name",
    "delete": "delete from products returning id",
    "insert": "insert into products values (9, 'x', 1) returning id",
}


everywhere = pytest.mark.parametrize("database", KINDS, indirect=True)
in_sqlite = pytest.mark.parametrize("database", KINDS[:1], indirect=True)
in_postgres = pytest.mark.parametrize("database", KINDS[1:], indirect=True)


@asynccontextmanager
async def published(database: Database, *tables: str, **queries: str) -> AsyncIterator[tuple[Watched, ClientSession]]:
    """Serve a database in this process; yield the server and a client session."""
    opened = open_database(database.url)
    try:
        rows = await find_rows([opened], tables, [f"{name}={query}" for name, query in queries.items()])
        async with (
            watched(app=make_app([], rows)) as server,
            ClientSession(f"http://127.0.0.1:{server.port}") as session,
        ):
            yield server, session
    finally:
        for engine in (opened.engine, opened.queries):
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await opened.dispose()


def shop_in(folder: Path) -> Path:
    """Create an SQLite database with the tables above; return its file."""
    file = folder / "shop.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(";".join(TABLES))
    return file


def serve_message(*words: object, cwd: Path = Path()) -> tuple[int, str]:
    """Run `chunkwise serve` in this process; return its exit code and the line on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), chdir(cwd):
        code = app.run(["serve", "--port", "0", *map(str, words)])
    assert out.getvalue() == ""
    return code, Done(code, b"", err.getvalue()).message


async def fetch(session: ClientSession, path: str, **headers: str) -> tuple[int, Any]:
    async with session.get(path, headers=headers) as response:
        return response.status, await response.json(content_type=None)
