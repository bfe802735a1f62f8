"""sources/sql/keys.py: clients can send keys of every type; keys that would skip rows are refused."""

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.ext.asyncio import create_async_engine

from chunkwise.sources import sql
from chunkwise.sources.sql.keys import Part, part_of_type
from tests.databases import Database
from tests.sources.sql.querying import (
    ORDERS,
    batches_of,
    everywhere,
    in_postgres,
    in_sqlite,
    items_and_error,
    items_of,
    resumed_everywhere,
    without_table,
)
from tests.tables import check_rows_async, cross, named

ODD_TEXTS = [
    "",
    " ",
    "'",
    '"',
    "''",
    "\\",
    "%",
    "%s",
    ":x",
    "a\nb",
    "a\tb",
    "\u2028",
    "é",
    "E",
    "e",
    "ß",
    "字",
    "😀",
    "$1",
    "?",
    "--",
    "/*",
]
# --- keys of every type


POSTGRESQL_VALUES: dict[str, list[str]] = {
    "smallint": ["-32768", "0", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9007199254740993", "9223372036854775807"],
    "numeric": ["-1e30", "0.1", "0.10000000000000000001", "12345678901234567890.5", "'NaN'"],
    "double precision": ["-1e300", "0.1", "0.30000000000000004", "5e-324"],
    "real": ["0.1", "0.2", "16777217"],
    "boolean": ["false", "true"],
    "date": ["'0001-01-02'", "'2024-02-29'", "'9999-12-30'"],
    "timestamp": ["'2024-02-29 12:00:00.000001'", "'2024-02-29 12:00:00.000002'", "'9999-12-31'"],
    "timestamptz": ["'2024-02-29 12:00:00.1+02'", "'2024-02-29 12:00:00.2+02'"],
    "time": ["'00:00'", "'23:59:59.999999'"],
    "uuid": ["gen_random_uuid()"] * 9,
    "bytea": [r"'\x'", r"'\x00'", r"'\xff00'", "'abc'"],
    "color": ["'red'", "'blue'", "'green'"],
    "varchar(9)": ["'a'", "'b'"],
    "char(3)": ["'a'", "'b'"],
    'text collate "C"': ["'a'", "'B'"],
}


@in_postgres
async def test_postgresql_key_of_any_type_resumes(database: Database) -> None:
    await database.run("create type color as enum ('red', 'green', 'blue')")

    async def check(declared: str, descending: bool) -> None:
        await without_table(database, "t")
        await database.run(f"create table t (k {declared} primary key)")
        async with database.engine.begin() as connection:
            for value in POSTGRESQL_VALUES[declared]:
                await connection.exec_driver_sql(f"insert into t values ({value})")
        rows = await database.run(f"select k from t order by k {'desc' if descending else ''}")
        source = await sql.table(database.engine, "t", batch_rows=1, descending=descending)
        await resumed_everywhere(source, [{"k": row[0]} for row in rows])

    await check_rows_async(cross(named(POSTGRESQL_VALUES), ORDERS), check, at_once=1)


SQLITE_VALUES: dict[str, list[str]] = {
    "integer": ["-9223372036854775808", "9007199254740993", "9223372036854775807"],
    "int": ["1", "2"],
    "boolean": ["false", "true"],
    "real": ["1", "0.1", "0.30000000000000004"],
    "numeric": ["1", "0.1", "0.30000000000000004", "9007199254740993"],
    "decimal(10, 2)": ["0.1", "0.125", "0.3"],
    "date": ["'2024-02-29'", "'2024-12-31'", "20240101"],
    "datetime": ["'2024-02-29T12:00:00Z'", "'yesterday'", "1700000000", "1700000000.5"],
    "text": ["'a'", "'A'", "''", "'1'", "'01'"],
    "varchar(9) collate nocase": ["'a'", "'B'"],
}


@in_sqlite
async def test_sqlite_key_of_any_type_resumes(database: Database) -> None:
    async def check(declared: str, descending: bool) -> None:
        await without_table(database, "t")
        await database.run(f"create table t (k {declared} primary key)")
        for value in SQLITE_VALUES[declared]:
            await database.run(f"insert into t values ({value})".replace(":", "\\:"))
        rows = await database.run(f"select k from t order by k {'desc' if descending else ''}")
        source = await sql.table(database.engine, "t", batch_rows=1, descending=descending)
        await resumed_everywhere(source, [{"k": row[0]} for row in rows])

    await check_rows_async(cross(named(SQLITE_VALUES), ORDERS), check, at_once=1)


@everywhere
@pytest.mark.parametrize("descending", [False, True])
async def test_text_key_may_have_special_characters(database: Database, descending: bool) -> None:
    await database.run("create table t (k text primary key)")
    for text in ODD_TEXTS:
        await database.run("insert into t values (:text)", text=text)
    rows = await database.run(f"select k from t order by k {'desc' if descending else ''}")
    source = await sql.table(database.engine, "t", batch_rows=3, descending=descending)
    await resumed_everywhere(source, [{"k": row[0]} for row in rows])


@in_sqlite
@pytest.mark.parametrize("descending", [False, True])
async def test_null_key_in_sqlite_is_an_error(database: Database, descending: bool) -> None:
    await database.run("create table t (k text primary key)", "insert into t values ('a'), (null), (null)")
    source = await sql.table(database.engine, "t", descending=descending)
    for after in (None, ["a"]):
        with pytest.raises(ValueError, match="k is NULL in a row of table 't'"):
            await items_of(source.start(1, after))
    assert database.taken == 0


@in_sqlite
async def test_column_without_type_is_refused_as_key(database: Database) -> None:
    await database.run("create table t (k primary key)")
    with pytest.raises(TypeError, match="column 'k' has the type NULL"):
        await sql.table(database.engine, "t")


# --- columns refused as keys


@everywhere
async def test_missing_tables_and_columns_are_refused(database: Database) -> None:
    await database.run("create table points (id integer primary key, name text)", "insert into points values (1, 'x')")
    for name in ("nothing", "points; drop table points", 'points"', "", "points.id", "POINTS\0", "*"):
        with pytest.raises(LookupError, match="there is no table"):
            await sql.table(database.engine, name)
    for column in ("nothing", "id; drop table points", 'id"', "", "1", "*", "id desc", "(select 1)"):
        with pytest.raises(LookupError, match="has no column"):
            await sql.table(database.engine, "points", column)
        with pytest.raises(LookupError, match="has no column"):
            await sql.table(database.engine, "points", ["id", column])
        with pytest.raises(LookupError, match="has no column"):
            await sql.table(database.engine, "points", columns=["id", column])
    assert len(await database.run("select * from points")) == 1


@everywhere
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
async def test_order_must_be_unique_and_not_null(database: Database) -> None:
    await database.run(
        "create table t (id integer primary key, a integer not null, b integer unique, c integer not null)",
        "create unique index partial on t (a) where a > 5",
        "create unique index expression on t (abs(c))",
        "create unique index pair on t (a, c)",
        "create table bare (n integer not null)",
    )
    for name in ("a", "c"):
        with pytest.raises(ValueError, match=rf"must be unique, got {name} of table 't': add its primary key, id"):
            await sql.table(database.engine, "t", name)
    with pytest.raises(ValueError, match="'b' of table 't' may be NULL"):
        await sql.table(database.engine, "t", "b")
    with pytest.raises(ValueError, match="'b' of table 't' may be NULL"):
        await sql.table(database.engine, "t", ["b", "id"])
    with pytest.raises(ValueError, match="'bare' has no primary key"):
        await sql.table(database.engine, "bare")
    with pytest.raises(ValueError, match="order_by must be unique, got n of table 'bare'"):
        await sql.table(database.engine, "bare", "n")
    assert (await sql.table(database.engine, "t", ["c", "a"])).key == ("c", "a")


@in_postgres
@pytest.mark.parametrize("declared", ["interval", "inet", "int4range", "integer[]", "jsonb", "timestamptz[]"])
async def test_unsupported_key_types_are_refused(database: Database, declared: str) -> None:
    await database.run(f"create table t (k {declared} primary key)")
    with pytest.raises(TypeError, match="column 'k' has the type"):
        await sql.table(database.engine, "t")


@in_sqlite
@pytest.mark.parametrize(
    ("declared", "stored", "expected"),
    [
        ("text", "x'00'", "got a bytes in a row of table 't', expected a text"),
        ("blob", "'abcd'", "got a str in a row of table 't', expected bytes"),
        ("int", "'x'", "got a str in a row of table 't', expected a whole number"),
    ],
)
async def test_sqlite_key_of_wrong_type_is_an_error(
    database: Database, declared: str, stored: str, expected: str
) -> None:
    await database.run(f"create table t (k {declared} primary key not null)", f"insert into t values ({stored})")
    source = await sql.table(database.engine, "t")
    with pytest.raises(ValueError, match=expected):
        await items_of(source.start())


# --- keys as clients send them


TYPES: dict[str, tuple[str, list[Any], list[Any]]] = {
    "integer": (
        "a whole number",
        [1, "1", 1.0],
        ["a", "1.5", 1.5, None, True, "", "1 or 1=1", 2**63, -(2**64), "9" * 40],
    ),
    "text": ("a text", ["a", "' or ''='", "1); drop table t --"], [1, None, True, 1.5, "\ud800"]),
    "double precision": ("a number", [1, "1.5", -1.5], ["a", None, "nan", "inf", "1e999", True, "0 or 1=1"]),
}
ONLY_POSTGRESQL: dict[str, tuple[str, list[Any], list[Any]]] = {
    "numeric": ("a decimal number", ["1.50", 1, 1.5, "NaN"], ["a", None, True, ""]),
    "date": ("a date such as", ["2024-02-29"], ["2023-02-29", 5, "5", None, "now", "today'::date --"]),
    "timestamp": (", without a time zone", ["2024-02-29T12:00:00"], ["2024-02-29T12:00:00Z", "now", 1700000000, None]),
    "timestamptz": (", with a time zone", ["2024-02-29T12:00:00Z"], ["2024-02-29T12:00:00", "now", 1700000000, None]),
    "time": ("a time such as", ["12:00:00"], ["25:00:00", 5, None]),
    "uuid": ("a UUID", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], ["a0eebc99", 5, None]),
    "bytea": ("base64", ["3q0="], ["\\xdead", 5, None, "a"]),
    "boolean": ("true or false", [True, "true"], ["yes", None, "true or true"]),
    "color": ("one of red, blue", ["red"], ["green", "red'", 1, None]),
    "smallint": ("a whole number", [32767], [32768, "-32769"]),
    "int": ("a whole number", [2147483647], [2147483648, "-2147483649"]),
}


async def check_keys(database: Database, declared: str, expected: str, good: list[Any], bad: list[Any]) -> None:
    await database.run(f"create table t (k {declared} primary key)")
    source = await sql.table(database.engine, "t")
    for value in good:
        assert await items_of(source.start(1, [value])) == []
    for value in bad:
        with pytest.raises(ValueError, match=f"k: got .*, expected .*{expected}"):
            source.start(1, [value])
    for values in ([], [good[0], good[0]]):
        with pytest.raises(ValueError, match=f"got {len(values)} key values, expected 1: k"):
            source.start(1, values)


@everywhere
@pytest.mark.parametrize("declared", TYPES)
async def test_invalid_key_error_names_expected_type(database: Database, declared: str) -> None:
    await check_keys(database, declared, *TYPES[declared])


@in_postgres
async def test_invalid_postgresql_key_is_refused(database: Database) -> None:
    await database.run("create type color as enum ('red', 'blue')")

    async def check(declared: str) -> None:
        await without_table(database, "t")
        await check_keys(database, declared, *ONLY_POSTGRESQL[declared])

    await check_rows_async(named(ONLY_POSTGRESQL), check, at_once=1)


@in_postgres
async def test_dates_used_for_infinity_are_refused(database: Database) -> None:
    async def check(case: tuple[str, list[str]], descending: bool) -> None:
        declared, ends = case
        await without_table(database, "t")
        await database.run(f"create table t (k {declared} primary key)")
        async with database.engine.begin() as connection:
            for value in ends:
                await connection.exec_driver_sql(f"insert into t values ({value})")
        assert len(await items_of((await sql.table(database.engine, "t", descending=descending)).start())) == 2
        source = await sql.table(database.engine, "t", batch_rows=1, descending=descending)
        received, error = await items_and_error(batches_of(source.start()))
        assert len(received) == 1
        assert isinstance(error, ValueError)
        with pytest.raises(ValueError, match=r"k: got .*, expected (another date|a date and time)"):
            source.start(1, [item["k"] for item in msgspec.to_builtins(received[0])])

    await check_rows_async(
        cross(
            named(
                [
                    ("date", ["'9999-12-31'", "'infinity'"]),
                    ("date", ["'-infinity'", "'0001-01-01'"]),
                    ("timestamp", ["'9999-12-31 23:59:59.999999'", "'infinity'"]),
                    ("timestamptz", ["'9999-12-31 23:59:59.999999Z'", "'infinity'"]),
                ]
            ),
            ORDERS,
        ),
        check,
        at_once=1,
    )


@in_postgres
async def test_key_changed_by_driver_fails_stream(
    database: Database,
) -> None:
    def change(connection: Any, _record: Any) -> None:
        less: dict[str, Any] = {"encoder": lambda value: str(value - 1), "decoder": int}
        connection.run_async(lambda driver: driver.set_type_codec("int8", schema="pg_catalog", **less))

    sa.event.listen(database.engine.sync_engine, "connect", change)
    await database.run("create table t (k bigint primary key)", "insert into t values (1), (2), (3)")
    source = await sql.table(database.engine, "t", batch_rows=1)
    batches = batches_of(source.start())
    assert await anext(batches) == [{"k": 1}]
    with pytest.raises(ValueError, match=r"the driver changes the key k = \(1,\)"):
        await anext(batches)


@in_postgres
async def test_text_with_nul_is_refused_in_postgresql(database: Database) -> None:
    await database.run("create table t (k text primary key)")
    source = await sql.table(database.engine, "t")
    with pytest.raises(ValueError, match=r"k: got .*, expected a text"):
        source.start(1, ["a\0b"])


@everywhere
async def test_keys_like_sql_are_bound_as_values(database: Database) -> None:
    await database.run("create table t (k text primary key)", "insert into t values ('a'), ('b')")
    source = await sql.table(database.engine, "t")
    for text in ("' or ''='", "z' or ''='", "'; drop table t; --", "a') or 1=1 --", ":k", "$1", "?", "%s"):
        rows = await database.run("select k from t where k > :text order by k", text=text)
        assert await items_of(source.start(1, [text])) == [{"k": row[0]} for row in rows]
    assert len(await database.run("select * from t")) == 2


def test_long_value_is_shortened_in_error() -> None:
    part = Part("k", int, 64, has_zone=None, nul=False, choices=())
    with pytest.raises(ValueError, match=r"^k: got 'a{40}\.\.\.', expected a whole number$"):
        part.convert("a" * 1000)


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [("int4", "5", 5), ("bool", "true", True), ("text", "5", "5"), ("no such type", "5", "5"), (None, "a\0b", "a\0b")],
)
def test_parameter_is_converted_to_database_type(type: str | None, text: str, value: Any) -> None:
    assert part_of_type("n", type).convert(text) == value


def test_only_sqlite_accepts_nul_in_parameter() -> None:
    with pytest.raises(ValueError, match="n: got"):
        part_of_type("n", "text").convert("a\0b")


# --- databases without special support


class OtherDialect(SQLiteDialect_aiosqlite):
    """SQLite under another name, so that only the reflection of SQLAlchemy is used."""

    name = "other"
    supports_statement_cache = True


@in_sqlite
async def test_other_databases_use_keys_of_sqlalchemy(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.impls, "other.driver", lambda: OtherDialect)

    async def check(declared: str, order_by: Any, refused: bool) -> None:
        table, *index = declared.split("; ")
        await without_table(database, "t")
        await database.run(f"create table t ({table})", *index, "insert into t values (2, 3), (1, 4)")
        url = database.engine.url.set(drivername="other+driver")
        engine = create_async_engine(url)
        try:
            if refused:
                with pytest.raises(ValueError, match="must be unique"):
                    await sql.table(engine, "t", order_by=order_by)
            else:
                source = await sql.table(engine, "t", order_by=order_by, columns=["k", "a"])
                rows = [{"k": 1, "a": 4}, {"k": 2, "a": 3}]
                assert await items_of(source.start()) == (rows[::-1] if order_by == "a" else rows)
        finally:
            await engine.dispose()

    await check_rows_async(
        named(
            [
                ("k int not null primary key, a int", None, False),
                ("k int not null primary key, a int not null unique", "a", False),
                ("k int not null primary key, a int not null, unique (a, k)", ["k", "a"], False),
                ("k int not null primary key, a int not null, unique (a, k)", "a", True),
                ("k int not null primary key, a int not null; create unique index i on t (a)", "a", False),
                ("k int not null primary key, a int not null; create index i on t (a)", "a", True),
                ("k int not null primary key, a int not null; create unique index i on t (a) where a > 1", "a", True),
                ("k int, a int not null unique", "a", False),
                ("k int, a int not null", "a", True),
            ]
        ),
        check,
        at_once=1,
    )
