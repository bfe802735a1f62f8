"""sources/sql/table_pages.py, `table`: pages in the order of a key, while the table changes, after any key."""

import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
import sqlalchemy as sa

from chunkwise.sources import sql
from tests.databases import Database
from tests.sources.sql.querying import (
    ORDERS,
    batches_of,
    encoded,
    everywhere,
    in_postgres,
    in_sqlite,
    items_and_error,
    items_of,
    read_and_cancel,
    resumed_everywhere,
    series,
    without_table,
)
from tests.tables import check_rows_async, cross, named

ODD_NAMES = [
    "select",
    'we"ird',
    "a b",
    "a:b",
    "semi;colon",
    "ключ",
    "100%",
    "it's",
    "back\\slash",
    "dot.ted",
    "?",
    "Upper",
    "$1",
]


async def fill(database: Database, count: int) -> None:
    await database.run("create table points (id integer primary key, name text)")
    # The keys are ten apart, so that other rows can be inserted between them.
    await database.run(f"insert into points select n * 10, 'p' || n from ({series(database, count)}) as series")


# --- rows


@everywhere
async def test_table_is_read_in_primary_key_order(database: Database) -> None:
    await database.run(
        "create table t (b integer, a integer primary key)", "insert into t values (1, 3), (2, 1), (3, 2)"
    )
    source = await sql.table(database.engine, "t")
    assert source.key == ("a",)
    await resumed_everywhere(source, [{"b": 2, "a": 1}, {"b": 3, "a": 2}, {"b": 1, "a": 3}])


@everywhere
async def test_composite_key_is_one_resume_point(database: Database) -> None:
    async def check(descending: bool, batch_rows: int) -> None:
        await without_table(database, "t")
        await database.run("create table t (a integer, b text, n integer, primary key (a, b))")
        await database.run("insert into t values (1, 'a', 1), (1, 'b', 2), (2, 'a', 3), (2, 'c', 4), (3, 'b', 5)")
        source = await sql.table(database.engine, "t", descending=descending, batch_rows=batch_rows)
        assert source.key == ("a", "b")
        rows = [(1, "a", 1), (1, "b", 2), (2, "a", 3), (2, "c", 4), (3, "b", 5)]
        items = [{"a": a, "b": b, "n": n} for a, b, n in rows]
        await resumed_everywhere(source, items[::-1] if descending else items)

    await check_rows_async(cross(ORDERS, named([1, 2, 3, 100])), check, at_once=1)


@everywhere
async def test_order_with_primary_key_is_unique(database: Database) -> None:
    await database.run("create table t (id integer primary key, day text not null)")
    await database.run("insert into t values (1, 'b'), (2, 'a'), (3, 'b'), (4, 'a')")
    source = await sql.table(database.engine, "t", ["day", "id"], batch_rows=1)
    await resumed_everywhere(source, [{"id": n, "day": day} for n, day in [(2, "a"), (4, "a"), (1, "b"), (3, "b")]])


@everywhere
@pytest.mark.parametrize("declared", ["unique", "index"])
async def test_table_is_ordered_by_unique_column(database: Database, declared: str) -> None:
    unique = "unique" * (declared == "unique")
    await database.run(f"create table t (id integer primary key, code text not null {unique})")
    if declared == "index":
        await database.run("create unique index codes on t (code)")
    await database.run("insert into t values (1, 'b'), (2, 'a')")
    source = await sql.table(database.engine, "t", "code")
    assert source.key == ("code",)
    await resumed_everywhere(source, [{"id": 2, "code": "a"}, {"id": 1, "code": "b"}])


@everywhere
async def test_empty_table_is_an_empty_stream(database: Database) -> None:
    await database.run("create table t (id integer primary key)")
    source = await sql.table(database.engine, "t")
    assert await encoded(source.start(), "json") == "[]"
    assert await items_of(source.start(5, [7])) == []


@everywhere
async def test_columns_and_condition_are_applied(database: Database) -> None:
    await database.run("create table t (id integer primary key, a text, b text)")
    await database.run("insert into t values (1, 'x', 'y'), (2, '\\:a', 'z'), (3, '''', 'z')")
    source = await sql.table(database.engine, "t", columns=["b", "id"])
    assert await items_of(source.start(1, [2])) == [{"b": "z", "id": 3}]
    for value, ids in (("x", [1]), (":a", [2]), ("'", [3]), ("' or ''='", [])):
        for where in (sa.column("a") == value, sa.text("a = :value").bindparams(value=value)):
            source = await sql.table(database.engine, "t", columns=["id"], where=where, batch_rows=1)
            assert [item["id"] for item in await items_of(source.start())] == ids
            assert [item["id"] for item in await items_of(source.start(1, [1]))] == [n for n in ids if n > 1]
    many = sa.column("a").in_(["x", "'"]) | (sa.column("id") == 2)
    source = await sql.table(database.engine, "t", columns=["id"], where=many, batch_rows=1)
    assert [item["id"] for item in await items_of(source.start())] == [1, 2, 3]


@everywhere
async def test_names_of_table_and_columns_are_quoted(database: Database) -> None:
    async def check(name: str) -> None:
        quoted = '"' + name.replace('"', '""') + '"'
        async with database.engine.begin() as connection:
            for statement in (
                f"create table {quoted} ({quoted} integer primary key)",
                f"insert into {quoted} values (1), (2)",
            ):
                await connection.exec_driver_sql(statement)
        source = await sql.table(database.engine, name, name, batch_rows=1)
        await resumed_everywhere(source, [{name: 1}, {name: 2}])

    await check_rows_async(named(ODD_NAMES), check, at_once=1)


@in_postgres
async def test_table_in_other_schema_is_read(database: Database) -> None:
    await database.run(
        "create schema other", "create table other.t (id integer primary key)", "insert into other.t values (5)"
    )
    source = await sql.table(database.engine, "t", schema="other")
    assert await items_of(source.start()) == [{"id": 5}]
    with pytest.raises(LookupError, match="there is no table 't'"):
        await sql.table(database.engine, "t")


# --- while the table changes


async def insert(database: Database, key: int) -> None:
    await database.run("insert into points values (:key, 'new')", key=key)


async def delete(database: Database, key: int) -> None:
    await database.run("delete from points where id = :key", key=key)


async def move(database: Database, key: int) -> None:
    """Change the key of a row; both keys are before the current row."""
    await database.run("update points set id = -id where id = :key", key=key)


@everywhere
async def test_changes_repeat_or_skip_no_other_row(database: Database) -> None:
    async def check(descending: bool, seed: int) -> None:
        chance = random.Random(seed)
        await without_table(database, "points")
        await fill(database, 300)
        there = set(range(10, 3001, 10))
        wanted = set(there)
        source = await sql.table(database.engine, "points", batch_rows=chance.choice([1, 7, 30]), descending=descending)
        seen: list[int] = []

        async def change() -> None:
            key = chance.randrange(1, 3000) if chance.random() < 0.5 else chance.choice([*there])
            ahead = key < seen[-1] if descending else key > seen[-1]
            await (delete if key in there else insert)(database, key)
            there.symmetric_difference_update({key})
            if ahead:
                wanted.symmetric_difference_update({key})

        async def read(after: list[int] | None) -> bool:
            """Read to the end or to a cut; return whether the end was reached."""
            async with aclosing(batches_of(source.start(len(seen), after))) as batches:
                async for batch in batches:
                    seen.extend(item["id"] for item in batch)
                    for _ in range(chance.randrange(4)):
                        await change()
                    if chance.random() < 0.1:
                        return False
            return True

        while not await read(seen[-1:] or None):  # resume like another process
            pass
        assert seen == sorted(wanted, reverse=descending), f"seed {seed}"
        assert there - set(seen), f"seed {seed}: no row was inserted before the position"

    await check_rows_async(cross(ORDERS, named(range(3))), check, at_once=1)


@everywhere
async def test_changes_before_current_row_have_no_effect(database: Database) -> None:
    await fill(database, 100)
    source = await sql.table(database.engine, "points", batch_rows=10)
    seen: list[int] = []
    changes: list[Callable[[], Any]] = [
        lambda: insert(database, 1),
        lambda: delete(database, 10),
        lambda: move(database, 20),
        lambda: insert(database, seen[-1] - 1),
        lambda: delete(database, seen[-1]),  # the row at the current position
    ]
    async for batch in batches_of(source.start()):
        seen += [item["id"] for item in batch]
        if changes:
            await changes.pop()()
    assert not changes
    assert seen == list(range(10, 1001, 10))


# --- connections


@everywhere
async def test_no_connection_is_held_between_pages(database: Database) -> None:
    await fill(database, 100)
    source = await sql.table(database.engine, "points", batch_rows=10)
    assert database.taken == 0
    readers = [batches_of(source.start()) for _ in range(20)]  # the pool has two connections
    for reader in readers:
        await anext(reader)
        assert database.taken == 0
    for reader in readers:
        assert len([item async for batch in reader for item in batch]) == 90


@everywhere
async def test_reader_cancelled_twice_releases_all(database: Database) -> None:
    await fill(database, 1000)
    source = await sql.table(database.engine, "points", batch_rows=50)
    await read_and_cancel(database, source.start)
    assert len(await items_of(source.start())) == 1000


@everywhere
async def test_dropped_table_returns_connection(database: Database) -> None:
    await fill(database, 100)
    source = await sql.table(database.engine, "points")
    batches = batches_of(source.start())
    await anext(batches)
    await database.run("drop table points")
    _, error = await items_and_error(batches)
    assert "points" in str(error)
    assert database.taken == 0


@everywhere
async def test_large_table_is_read_in_small_pages(database: Database) -> None:
    await fill(database, 100_000)
    source = await sql.table(database.engine, "points")
    sizes, last = [], 0
    async for batch in batches_of(source.start()):
        sizes.append(len(batch))
        for item in batch:
            assert item["id"] == last + 10
            last = item["id"]
    assert last == 1_000_000
    assert sizes[0] == 16
    assert max(sizes) == 2000


@everywhere
async def test_table_of_large_rows_has_small_pages(database: Database) -> None:
    await database.run("create table points (id integer primary key, name text)")
    long = "printf('%.300000c', 'x')" if database.kind == "sqlite" else "repeat('x', 300000)"
    await database.run(f"insert into points select n, {long} from ({series(database, 40)}) as series")
    source = await sql.table(database.engine, "points")
    sizes = [len(batch) async for batch in batches_of(source.start())]
    assert sum(sizes) == 40
    assert max(sizes[1:]) <= 3  # a page after the first is less than 1 MiB


@in_postgres
async def test_each_page_uses_the_index(database: Database) -> None:
    await database.run("create table t (a integer, b integer, primary key (a, b))")
    await database.run("insert into t select n / 100, n from generate_series(1, 50000) g(n)", "analyze t")
    source = await sql.table(database.engine, "t", batch_rows=100)
    assert len(await items_of(source.start(1, [400, 40050]))) == 9950
    async with database.engine.connect() as connection:  # the same connection, in which the statement is prepared
        prepared = "select statement from pg_prepared_statements where statement like 'SELECT t.a%'"
        ((page,),) = await connection.exec_driver_sql(prepared)
        query = "explain " + page.replace("$1", "400").replace("$2", "40050").replace("$3", "100")
        plan = "\n".join(row[0] for row in await connection.exec_driver_sql(query))
    assert "Index" in plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan
    assert "OFFSET" not in page


# --- what is refused


@in_sqlite
async def test_sqlite_key_uses_collation_of_index(database: Database) -> None:
    async def check(descending: bool, declared: str) -> None:
        await without_table(database, "t")
        await database.run(f"create table t {declared}")
        texts = [*"aBcDeFg", *("AbCdEfG" if "binary" in declared else "")]
        for text in texts:
            await database.run("insert into t values (:text)", text=text)
        source = await sql.table(database.engine, "t", "k", descending=descending, batch_rows=2)
        order = sorted(texts, key=str.lower if "nocase" in declared and "binary" not in declared else str)
        await resumed_everywhere(source, [{"k": text} for text in (order[::-1] if descending else order)])

    await check_rows_async(
        cross(
            ORDERS,
            named(
                [
                    "(k text collate nocase not null, primary key (k collate binary))",
                    "(k text collate nocase primary key not null)",
                    "(k text not null, unique (k collate rtrim))",
                    "(k text collate nocase primary key not null) without rowid",
                ]
            ),
        ),
        check,
        at_once=1,
    )


@in_postgres
async def test_table_with_inheriting_tables_is_refused(database: Database) -> None:
    await database.run(
        "create table t (id integer primary key)",
        "create table heir () inherits (t)",
        "create table parts (id integer primary key) partition by hash (id)",
        "create table part partition of parts for values with (modulus 1, remainder 0)",
        "insert into parts values (1), (2)",
    )
    for schema in (None, "public"):
        with pytest.raises(ValueError, match="other tables inherit from table 't'"):
            await sql.table(database.engine, "t", "id", schema=schema)
    await resumed_everywhere(await sql.table(database.engine, "parts", batch_rows=1), [{"id": 1}, {"id": 2}])


@in_postgres
async def test_invalid_index_does_not_make_key_unique(database: Database) -> None:
    await database.run("create table t (k integer not null)", "insert into t values (1), (1)")
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(sa.exc.IntegrityError):
            await connection.execute(sa.text("create unique index concurrently keys on t (k)"))
    with pytest.raises(ValueError, match="order_by must be unique, got k of table 't'"):
        await sql.table(database.engine, "t", "k")


@in_postgres
async def test_index_with_equal_collation_is_accepted(database: Database) -> None:
    await database.run("create table t (k text not null, n integer)", "insert into t values ('B', 1), ('a', 2)")
    await database.run('create unique index keys on t (k collate "POSIX") include (n)')
    await resumed_everywhere(await sql.table(database.engine, "t", "k"), [{"k": "B", "n": 1}, {"k": "a", "n": 2}])


@everywhere
async def test_invalid_columns_and_conditions_are_refused(database: Database) -> None:
    await fill(database, 1)
    with pytest.raises(ValueError, match="columns must include 'id', which is in order_by, got name"):
        await sql.table(database.engine, "points", columns=["name"])
    with pytest.raises(TypeError, match=r"where must be an expression such as .*, got 'id = 1'"):
        await sql.table(database.engine, "points", where="id = 1")  # type: ignore[arg-type]
