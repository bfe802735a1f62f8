"""`chunkwise serve` with databases: which streams hold its connections, and the response when no connection is free."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import chunkwise
from chunkwise.cli.databases import open_database
from chunkwise.cli.tables import find_rows
from tests.cli.databases import PRODUCTS, TABLES, everywhere, fetch, in_postgres, published
from tests.databases import Database, running_postgres
from tests.needs import needs_curl, needs_postgres

pytestmark = needs_curl


@everywhere
async def test_slow_query_readers_do_not_block_tables(database: Database) -> None:
    await database.run(*TABLES)
    async with published(database, "products", "cheap") as (_, session), AsyncExitStack() as readers:
        for _ in range(15):  # all connections of the pool
            response = await readers.enter_async_context(session.get("/cheap?interval=60&format=ndjson"))
            await response.content.readline()
        assert await fetch(session, "/products") == (200, PRODUCTS)


@everywhere
async def test_early_disconnect_releases_connections(database: Database) -> None:
    await database.run(*TABLES)
    many = "select a.id, b.id as other from products a, products b, products c, products d"
    async with published(database, "products", "cheap", many=many) as (server, session):
        for path in ("/many?limit=1", "/products?limit=1", "/cheap?limit=1") * 10:
            assert len((await fetch(session, path))[1]) == 1
        for path in ("/many", "/products", "/cheap"):
            async with session.get(f"{path}?interval=60&format=ndjson") as response:
                await response.content.readline()
            assert (await server.outcome()).end in ("client_gone", "complete")
        while not server.has_more:
            assert (await server.outcome()).end in ("client_gone", "complete")


@everywhere
async def test_table_is_streamed_in_every_format(database: Database) -> None:
    await database.run(*TABLES)
    async with published(database) as (server, session):
        url = f"http://127.0.0.1:{server.port}/products"
        for media_type in ("application/json", "text/csv", "text/event-stream", "application/x-ndjson"):
            async with chunkwise.open_stream(session, url, headers={"Accept": media_type}) as stream:
                assert [item["name"] async for item in stream] == ["tea", "cup", "it's"]


@needs_postgres
async def test_stopped_database_is_a_503(tmp_path: Path) -> None:
    with running_postgres() as server:
        server.psql("create table products (id integer primary key)")
        database = Database("postgresql", server.url(scheme="postgresql"), tmp_path)
        async with published(database, "products", one="select 1 as n") as (_, session):
            assert await fetch(session, "/products") == (200, [])
            server.stop()
            for _ in range(2):
                for path in ("/products", "/one"):
                    status, details = await fetch(session, path)
                    assert status == 503, details
                    assert details["detail"].startswith("the database cannot be reached: ")
        await database.dispose()


@in_postgres
async def test_connection_lost_between_batches_is_a_503(database: Database) -> None:
    async with AsyncExitStack() as stack:
        opened = open_database(database.url)
        stack.push_async_callback(opened.dispose)
        many = "select pg_backend_pid() as pid from generate_series(1, 100000)"
        await database.run(f"create view seen as {many}")
        for rows in await find_rows([opened], ("seen",), [f"many={many}"]):
            source: Any = rows.make({})
            batches = await stack.enter_async_context(aclosing(aiter(source)))
            [first, *_] = await anext(batches)
            await database.run("select pg_terminate_backend(:pid)", pid=first["pid"])
            await asyncio.sleep(0.2)  # until the driver notices, while no batch is requested
            with pytest.raises(web.HTTPServiceUnavailable, match="Service Unavailable") as refused:
                await anext(batches)
            message = f"{refused.value.text}"
            assert message.startswith("the database cannot be reached: ")
            assert message.endswith(": the underlying connection is closed")


@in_postgres
async def test_renamed_table_is_a_500(database: Database) -> None:
    await database.run(*TABLES)
    async with published(database) as (_, session):
        assert (await fetch(session, "/products"))[0] == 200
        await database.run("alter table products rename to gone")
        status, details = await fetch(session, "/products")
        assert (status, details["detail"]) == (500, 'the rows cannot be read: relation "products" does not exist')
