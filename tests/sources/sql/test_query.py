"""sources/sql/query.py: the rows of a query, and its connection, which returns to the pool however the stream ends."""

import asyncio
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

import chunkwise
from chunkwise.sources import sql
from tests.databases import Database
from tests.flow.producing import GUARD_SECONDS
from tests.sources.sql.querying import (
    batches_of,
    encoded,
    everywhere,
    in_postgres,
    in_sqlite,
    items_and_error,
    items_of,
    read_and_cancel,
    series,
    without_table,
)
from tests.tables import check_rows_async, cross, named

USERS: list[dict[str, Any]] = [{"id": 1, "name": "Tom"}, {"id": 2, "name": "Zoë"}, {"id": 3, "name": None}]


async def fill(database: Database) -> None:
    await database.run(
        "create table users (id integer primary key, name text)",
        "insert into users values (1, 'Tom'), (2, 'Zoë'), (3, null)",
    )


# --- rows


@everywhere
async def test_rows_are_dicts_in_the_order_of_the_query(database: Database) -> None:
    await fill(database)
    assert await items_of(sql.rows(database.engine, "select * from users order by id")) == USERS
    assert await items_of(sql.rows(database.engine, "select name, id from users order by id desc")) == USERS[::-1]


@everywhere
async def test_query_without_rows_is_an_empty_stream(database: Database) -> None:
    await fill(database)
    source = sql.rows(database.engine, "select * from users where id > 3")
    assert await encoded(source, "json") == "[]"


@everywhere
async def test_parameter_may_be_used_several_times(database: Database) -> None:
    await fill(database)
    query = "select id, name from users where name = :name or (id > :low and id > :low) order by id"
    assert await items_of(sql.rows(database.engine, query, {"low": 2, "name": "Tom"})) == [USERS[0], USERS[2]]


@everywhere
async def test_value_like_sql_is_bound_as_value(database: Database) -> None:
    async def check(value: str) -> None:
        await without_table(database, "users")
        await fill(database)
        assert (
            await items_of(sql.rows(database.engine, "select id from users where name = :name", {"name": value})) == []
        )
        await database.run("insert into users values (4, :name)", name=value)
        found = await items_of(sql.rows(database.engine, "select * from users where name = :name", {"name": value}))
        assert found == [{"id": 4, "name": value}]
        assert len(await database.run("select * from users")) == 4

    await check_rows_async(
        named(["' or ''='", "Tom'; drop table users; --", 'x" or "1"="1', ":low", "\\", "%s", "$1"]), check, at_once=1
    )


@everywhere
async def test_parameter_without_value_is_an_error(database: Database) -> None:
    with pytest.raises((sa.exc.StatementError, sa.exc.InvalidRequestError), match="low"):
        await items_of(sql.rows(database.engine, "select :low as n"))


def test_error_for_cast_shows_correct_syntax() -> None:
    engine = create_async_engine("postgresql+asyncpg://127.0.0.1/none")
    with pytest.raises(ValueError, match=r"'day' before '::': write CAST\(:day AS date\) instead of :day::date"):
        sql.rows(engine, "select :n, :day::date", {"n": 1, "day": "2024-02-29"})
    sql.rows(engine, "select ':day::date'", {"n": 1})
    sql.rows(engine, "select ':day::date', :day", {"day": 1})


@everywhere
async def test_sqlalchemy_statement_is_accepted_as_query(database: Database) -> None:
    await database.run("create table sales (id integer primary key, price numeric(10, 2), day date)")
    await database.run("insert into sales values (1, 2.5, '2024-02-29')")
    sales = sa.Table("sales", sa.MetaData(), sa.Column("price", sa.Numeric(10, 2)), sa.Column("day", sa.Date))
    query = sa.select(sales).where(sales.c.price > sa.bindparam("low"))
    items = await items_of(sql.rows(database.engine, query, {"low": Decimal(1)}))
    assert await encoded([*items]) == '{"price":"2.50","day":"2024-02-29"}\n'


@everywhere
async def test_first_batch_is_small_and_others_are_limited(database: Database) -> None:
    async def check(batch_rows: int) -> None:
        lists = [
            batch async for batch in batches_of(sql.rows(database.engine, series(database, 999), batch_rows=batch_rows))
        ]
        assert [row["n"] for batch in lists for row in batch] == list(range(1, 1000))
        assert len(lists[0]) == min(16, batch_rows)
        assert max(map(len, lists)) <= batch_rows
        assert len(lists) >= 999 / batch_rows

    await check_rows_async(named([1, 2, 15, 16, 17, 100, 5000]), check, at_once=1)


@everywhere
async def test_large_rows_are_fetched_in_small_batches(database: Database) -> None:
    blob = "repeat('x', 300000)" if database.kind == "postgresql" else "replace(hex(zeroblob(150000)), '0', 'x')"
    query = series(database, 60).replace("select n from g", f"select n, {blob} as pad from g")
    sizes = [len(batch) async for batch in batches_of(sql.rows(database.engine, query))]
    assert sum(sizes) == 60
    assert max(sizes[1:]) <= 3  # these rows are less than 1 MiB


@pytest.mark.parametrize("batch_rows", [0, -1])
async def test_batch_rows_must_be_positive(batch_rows: int) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    with pytest.raises(ValueError, match=f"batch_rows must be >= 1, got {batch_rows}"):
        sql.rows(engine, "select 1", batch_rows=batch_rows)
    with pytest.raises(ValueError, match=f"batch_rows must be >= 1, got {batch_rows}"):
        await sql.table(engine, "users", batch_rows=batch_rows)


@everywhere
async def test_duplicate_column_names_are_refused(database: Database) -> None:
    await fill(database)
    query = "select a.id, b.id from users a join users b on a.id = b.id"
    with pytest.raises(ValueError, match="two columns named 'id'"):
        await items_of(sql.rows(database.engine, query))


# --- nothing is written


@everywhere
@pytest.mark.parametrize(
    "query",
    [
        "insert into users values (4, 'x') returning id",
        "delete from users returning id",
        "update users set name = 'x' returning id",
    ],
)
async def test_query_that_writes_changes_nothing(database: Database, query: str) -> None:
    await fill(database)
    with pytest.raises(Exception, match=r"read-only transaction|readonly database"):
        await items_of(sql.rows(database.engine, query))
    assert await database.run("select id, name from users order by id") == [tuple(user.values()) for user in USERS]


@in_postgres
async def test_write_inside_query_is_refused(database: Database) -> None:
    await fill(database)
    with pytest.raises(Exception, match="read-only transaction"):
        await items_of(sql.rows(database.engine, "with gone as (delete from users returning id) select id from gone"))
    query = sa.text("with gone as (delete from users returning id) select id from gone").columns(id=sa.Integer)
    with pytest.raises(Exception, match="read-only transaction"):
        await items_of(sql.rows(database.engine, query))
    assert len(await database.run("select * from users")) == 3


@in_sqlite
async def test_write_hidden_from_python_is_undone_in_sqlite(database: Database) -> None:
    async def check(query: str) -> None:
        await without_table(database, "users")
        await fill(database)
        before = database.file.read_bytes()
        _, error = await items_and_error(batches_of(sql.rows(database.engine, query)))
        assert error is not None or query.startswith("pragma")
        assert database.file.read_bytes() == before
        assert await database.run("pragma journal_mode") == [("delete",)]
        assert (await items_of(sql.rows(database.engine, "select count(*) as n from sqlite_temp_schema"))) == [{"n": 0}]

    await check_rows_async(
        named(
            [
                "with x as (select 4 as a) insert into users select a, 'x' from x returning id",
                "; insert into users values (4, 'x') returning id",
                "/* */ insert into users values (4, 'x') returning id",
                "create table users2 as select 1 as a",
                "create temp table users2 as select 1 as a",
                "pragma user_version = 7",
                "pragma journal_mode = wal",
                "vacuum",
            ]
        ),
        check,
        at_once=1,
    )


@in_sqlite
async def test_sqlite_connection_is_writable_again(database: Database) -> None:
    async def check(query_only: int, end: str) -> None:
        await without_table(database, "users")
        await fill(database)
        for connection in await connections_of(database):
            await connection.execute(sa.text(f"pragma query_only = {query_only}"))
            await connection.close()
        queries = {
            "error": "select * from users join (select abs(-9223372036854775808))",
            "wrong": "select from",
            "switched": "pragma query_only = off",
        }
        batches = batches_of(sql.rows(database.engine, queries.get(end, "select * from users"), batch_rows=1))
        if end == "left":
            await anext(batches)
            await batches.aclose()
        else:
            _, error = await items_and_error(batches)
            assert (error is not None) == (end != "complete")
        for connection in await connections_of(database):
            assert (await connection.execute(sa.text("pragma query_only"))).scalar() == query_only
            await connection.execute(sa.text("pragma query_only = off"))
            await connection.execute(sa.text("update users set name = name"))
            await connection.close()

    ends = named(["complete", "left", "error", "wrong", "switched"])
    await check_rows_async(cross({"writable": 0, "read-only": 1}, ends), check, at_once=1)


async def connections_of(database: Database) -> list[AsyncConnection]:
    """Take all connections from the pool of a database."""
    return [await database.engine.connect() for _ in range(2)]


@in_sqlite
@pytest.mark.parametrize("count", [1, 300_000_000])
async def test_cancelled_reader_leaves_no_sqlite_lock(database: Database, count: int) -> None:
    await fill(database)
    query = f"select count(*) as n from ({series(database, count)}) as g"
    await read_and_cancel(database, lambda: sql.rows(database.engine, query))
    async with database.engine.begin() as one, database.engine.connect() as other:
        for connection in (one, other):
            assert (await connection.execute(sa.text("pragma query_only"))).scalar() == 0
        await one.execute(sa.text("update users set name = name"))


@in_postgres
async def test_setting_changed_by_a_query_is_undone(database: Database) -> None:
    setting = "default_transaction_read_only"
    for query in (f"select set_config('{setting}', 'on', false)", sa.select(sa.func.set_config(setting, "on", False))):
        assert len(await items_of(sql.rows(database.engine, query))) == 1
        (row,) = await items_of(sql.rows(database.engine, f"select current_setting('{setting}') as now"))
        assert row == {"now": "off"}


@everywhere
async def test_connection_can_be_used_to_write_after_query(database: Database) -> None:
    await fill(database)
    for query in ("select 1 as n", sa.select(sa.literal(1))):
        await items_of(sql.rows(database.engine, query))
        async with database.engine.begin() as connection:
            await connection.execute(sa.text("update users set name = name"))


# --- the connection is released


@everywhere
async def test_query_is_sent_with_first_read(database: Database) -> None:
    source = sql.rows(database.engine, "select * from users")
    await fill(database)
    assert database.taken == 0
    assert await items_of(source) == sorted(USERS, key=lambda user: str(user["id"]))


@everywhere
@pytest.mark.parametrize("typed", [False, True])
async def test_reader_that_stops_returns_the_connection(database: Database, typed: bool) -> None:
    query: Any = series(database, 1_000_000)
    if typed:
        query = sa.text(query).columns(n=sa.Integer)
    for _ in range(5):  # more than the number of connections in the pool
        async with aclosing(batches_of(sql.rows(database.engine, query))) as batches:
            assert (await anext(batches))[0] == {"n": 1}
            assert database.taken == 1
        assert database.taken == 0


@everywhere
@pytest.mark.parametrize("query", ["select * from nothing", "select from from", "select 1; select 2"])
async def test_invalid_query_returns_the_connection(database: Database, query: str) -> None:
    for _ in range(5):
        with pytest.raises(Exception, match=r"(?s)."):
            await items_of(sql.rows(database.engine, query))
        assert database.taken == 0


@in_postgres
async def test_query_failing_midway_returns_connection(database: Database) -> None:
    for _ in range(5):
        query = "select 1 / (500 - n) as x from generate_series(1, 999) g(n)"
        received, error = await items_and_error(batches_of(sql.rows(database.engine, query)))
        assert "division by zero" in str(error)
        assert len(received[0]) == 16
        assert database.taken == 0
    assert await items_of(sql.rows(database.engine, "select 1 as n")) == [{"n": 1}]


@in_postgres
async def test_connection_ended_by_server_is_replaced(database: Database) -> None:
    query = "select pg_backend_pid() as pid, n from generate_series(1, 1000000) g(n)"
    async with aclosing(batches_of(sql.rows(database.engine, query))) as batches:
        first = await anext(batches)
        await database.run("select pg_terminate_backend(:pid)", pid=first[0]["pid"])
        _, error = await items_and_error(batches)
        assert error is not None
    assert database.taken == 0
    assert len(await items_of(sql.rows(database.engine, "select 1 as n"))) == 1


@in_postgres
async def test_ended_connection_is_replaced_after_stop(
    database: Database,
) -> None:
    async with aclosing(batches_of(sql.rows(database.engine, "select pg_backend_pid() as pid"))) as batches:
        [row] = await anext(batches)
        await database.run("select pg_terminate_backend(:pid)", pid=row["pid"])
        await asyncio.sleep(0.2)  # until the server notices it
    assert database.taken == 0
    assert len(await items_of(sql.rows(database.engine, "select 1 as n"))) == 1


@in_postgres
async def test_connection_ended_in_pool_is_replaced(database: Database) -> None:
    async with database.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
    await database.run("select pg_terminate_backend(:pid)", pid=driver.get_server_pid())
    async with asyncio.timeout(GUARD_SECONDS):
        while not driver.is_closed():
            await asyncio.sleep(0.01)
    assert len(await items_of(sql.rows(database.engine, "select 1 as n"))) == 1


@everywhere
@pytest.mark.parametrize("websocket", [False, True])
async def test_disconnected_client_returns_connection(database: Database, websocket: bool) -> None:
    ended = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            return await chunkwise.respond(request, sql.rows(database.engine, series(database, 10_000_000)), "ndjson")
        finally:
            ended.set()

    app = web.Application()
    app.router.add_get("/", handler)
    async with TestServer(app) as server, ClientSession() as session:
        if websocket:
            async with session.ws_connect(server.make_url("/")) as messages:
                await messages.receive_str()
                assert database.taken == 1
        else:
            async with session.get(server.make_url("/")) as response:
                await response.content.readexactly(1000)
                assert database.taken == 1
        async with asyncio.timeout(GUARD_SECONDS):
            await ended.wait()
        assert database.taken == 0


@everywhere
async def test_response_has_all_rows_in_every_format(database: Database) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, sql.rows(database.engine, series(database, 5000)))

    app = web.Application()
    app.router.add_get("/", handler)
    async with TestServer(app) as server, ClientSession() as session:
        for media_type in ("application/json", "text/csv", "text/event-stream"):
            async with chunkwise.open_stream(
                session, str(server.make_url("/")), headers={"Accept": media_type}
            ) as stream:
                assert [int(item["n"]) async for item in stream] == list(range(1, 5001))
    assert database.taken == 0
