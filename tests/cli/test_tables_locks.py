"""`chunkwise serve` with databases: no query can write anything."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import rich_click as click
import sqlalchemy as sa
from aiohttp import ClientPayloadError

from chunkwise.cli.databases import open_database
from tests.cli.databases import PRODUCTS, TABLES, everywhere, fetch, in_sqlite, published
from tests.databases import Database
from tests.each_row import each_row
from tests.needs import needs_curl

pytestmark = needs_curl


@everywhere
async def test_writing_queries_fail_and_change_nothing(database: Database) -> None:
    await database.run(*TABLES)
    writing = {
        "a": "delete from products returning id",
        "b": "update products set price = 0 returning id",
        "c": "insert into products values (9, 'x', 1) returning id",
    }
    if database.kind == "postgresql":
        writing |= {
            "d": "with gone as (delete from products returning id) select * from gone",
            "e": "select set_config('default_transaction_read_only', 'off', false)",
            "f": "select nextval('numbers')",
            "g": "create table other (n int)",
            "h": "drop table products",
        }
        await database.run("create sequence numbers")
    async with published(database, **writing) as (_, session):
        for _ in range(2):
            for name in sorted(writing):
                try:
                    status, details = await fetch(session, f"/{name}")
                except ClientPayloadError:  # on a busy machine, the 200 status is sent before the first row fails
                    continue
                if (database.kind, name) != ("postgresql", "e"):
                    assert status == 500, (name, details)
                    assert "read" in details["detail"]
    rows = await database.run("select id, name, price from products order by id")
    assert [dict(zip(("id", "name", "price"), row, strict=True)) for row in rows] == PRODUCTS


@pytest.fixture
async def tables(database: Database) -> None:
    await database.run(*TABLES)


@in_sqlite
@pytest.mark.usefixtures("tables")
@each_row(
    "query",
    [
        "pragma query_only = off",
        "PRAGMA Query_Only(0)",
        "pragma user_version = 5",
        "pragma wal_checkpoint",
        "attach '{other}' as other",
        "; attach '{other}' as other",
        "create table other (n int)",
        "create temp table other (n int)",
        "drop table products",
        "savepoint here",
    ],
)
async def test_unsafe_sqlite_query_is_rejected_at_start(database: Database, tmp_path: Path, query: str) -> None:
    other = tmp_path / "other.db"
    with pytest.raises(click.BadParameter, match=r"the query may only read|syntax error"):
        async with published(database, any=query.format(other=other)):
            pass
    assert not other.exists()
    assert await database.run("pragma user_version") == [(0,)]


@in_sqlite
async def test_sqlite_vacuum_into_a_file_fails(database: Database, tmp_path: Path) -> None:
    await database.run(*TABLES)
    other = tmp_path / "other.db"
    async with published(database, copy=f"vacuum into '{other}'") as (_, session):
        status, details = await fetch(session, "/copy")
    assert (status, details["detail"]) == (500, "the rows cannot be read: cannot VACUUM from within a transaction")
    assert not other.exists()
    opened = open_database(database.url)
    async with opened.queries.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        with pytest.raises(sqlite3.DatabaseError, match="authorization denied"):  # also outside a transaction
            await driver.execute_fetchall(f"vacuum into '{other}'")
    await opened.dispose()
    assert not other.exists()


@in_sqlite
async def test_sqlite_stays_read_only_without_authorizer(database: Database, tmp_path: Path) -> None:
    await database.run(*TABLES)
    opened = open_database(database.url)
    try:
        for engine in (opened.engine, opened.queries):
            async with engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                await driver.set_authorizer(None)
                for statement in ("insert into products values (9, 'x', 1)", "create table other (n int)"):
                    with pytest.raises(sa.exc.OperationalError, match="readonly"):
                        await connection.execute(sa.text(statement))
                await connection.execute(sa.text("pragma query_only = off"))
                with pytest.raises(sa.exc.OperationalError, match="readonly"):
                    await connection.execute(sa.text("insert into products values (9, 'x', 1)"))
    finally:
        await opened.dispose()


@in_sqlite
async def test_all_reading_sqlite_statements_are_allowed(database: Database) -> None:
    await database.run(
        *TABLES,
        "create virtual table places using rtree(id, low, high)",
        "insert into places values (1, 0, 1)",
        "create virtual table words using fts5(word)",
        "insert into words values ('hello')",
    )
    queries = {
        "with": "with recursive g(n) as (select 1 union all select n + 1 from g where n < 3) select n from g",
        "values": "values (1), (2), (3)",
        "json": "select value from json_each('[1, 2, 3]')",
        "places": "select id from places where low < 1 union all select id from products where id > 1",
        "words": "select a.word from words a, products where a.word match 'hello'",
        "columns": "select name from pragma_table_info('products')",
        "pragma": "pragma table_info(products)",
    }
    async with published(database, **queries) as (_, session):
        for name in queries:
            status, rows = await fetch(session, f"/{name}")
            assert (status, len(rows)) == (200, 3), rows
