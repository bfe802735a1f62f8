"""sources/sql/query.py: a reader cancelled at any point releases its connection without waiting."""

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from chunkwise.sources import sql
from chunkwise.sources.sql import query as sql_reading
from tests.databases import Database
from tests.flow.producing import GUARD_SECONDS
from tests.sources.sql.querying import batches_of, everywhere, in_postgres, in_sqlite, items_of, read_and_cancel, series

RUNNING = "select pid from pg_stat_activity where state = 'active'"


@in_postgres
async def test_cancelled_reader_returns_connection(database: Database) -> None:
    for _ in range(5):
        reading = asyncio.create_task(items_of(sql.rows(database.engine, "select pg_sleep(3600)")))
        async with asyncio.timeout(GUARD_SECONDS):
            while not await database.run(f"{RUNNING} and query = 'select pg_sleep(3600)'"):
                await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert database.taken == 0
    assert await items_of(sql.rows(database.engine, "select 1 as n")) == [{"n": 1}]


@everywhere
@pytest.mark.parametrize("count", [1, 100, 300_000_000])
async def test_reader_cancelled_twice_releases_all(database: Database, count: int) -> None:
    query = f"select count(*) as n from ({series(database, count)}) as g" if count > 100 else series(database, count)
    await read_and_cancel(database, lambda: sql.rows(database.engine, query))
    assert len(await items_of(sql.rows(database.engine, "select 1 as n"))) == 1


@in_sqlite
async def test_reader_cancelled_anywhere_releases_all(database: Database) -> None:
    turns, is_whole = 0, False
    while not is_whole:
        reading = asyncio.create_task(items_of(sql.rows(database.engine, series(database, 100))))
        for _ in range(turns):
            await asyncio.sleep(0)
            time.sleep(0.0005)
        reading.cancel()
        await asyncio.wait({reading}, timeout=GUARD_SECONDS)
        is_whole = not reading.cancelled()
        assert not is_whole or len(reading.result()) == 100
        assert database.taken == 0
        async with database.engine.connect() as connection:
            assert (await connection.execute(sa.text("pragma query_only"))).scalar() == 0
        turns += 1
    assert turns > 10


async def test_cancelled_reader_does_not_wait_for_pool(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/one.db", pool_size=1, max_overflow=0)
    before = asyncio.all_tasks()
    async with aclosing(batches_of(sql.rows(engine, "select 1 as n"))) as batches:
        await anext(batches)  # this reader has the only connection
        reading = asyncio.create_task(items_of(sql.rows(engine, "select 2 as n")))
        await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.wait({reading}, timeout=1)
        assert reading.cancelled()
    async with asyncio.timeout(GUARD_SECONDS):
        assert await items_of(sql.rows(engine, "select 3 as n")) == [{"n": 3}]
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0.01)
    await engine.dispose()


async def test_cancelled_reader_leaves_next_user_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sql_reading, "_SHARED_SECONDS", GUARD_SECONDS)  # a busy machine may need longer
    engine = create_async_engine("sqlite+aiosqlite://")  # an in-memory database has one connection for all users
    query = "with recursive g(n) as (select 1 union all select n + 1 from g where n < {}) select {} as n from g"
    async with aclosing(batches_of(sql.rows(engine, query.format(100, "n"), batch_rows=10))) as batches:
        first = await anext(batches)
        reading = asyncio.create_task(items_of(sql.rows(engine, query.format(1_000_000, "count(*)"))))
        await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.wait({reading}, timeout=GUARD_SECONDS)
        assert reading.cancelled()
        rest = [row async for batch in batches for row in batch]
    assert [row["n"] for row in [*first, *rest]] == list(range(1, 101))
    await engine.dispose()


async def test_cancelled_reader_does_not_wait_for_query() -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    query = "with recursive g(n) as (select 1 union all select n + 1 from g) select count(*) as n from g"  # endless
    reading = asyncio.create_task(items_of(sql.rows(engine, query)))
    await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.wait({reading}, timeout=GUARD_SECONDS)
    assert reading.cancelled()
    assert await items_of(sql.rows(engine, "select 1 as n")) == [{"n": 1}]
    await engine.dispose()


async def test_connection_in_transaction_can_be_read(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/one.db", pool_size=1, pool_reset_on_return=None)
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute_fetchall("begin")
    for _ in range(2):
        assert await items_of(sql.rows(engine, "select 1 as n")) == [{"n": 1}]
    assert not driver.in_transaction
    await engine.dispose()
