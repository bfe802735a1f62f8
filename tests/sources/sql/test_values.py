"""sources/sql/values.py: values that JSON cannot represent are converted; the encoder refuses invalid values."""

import ipaddress
from typing import Any

import pytest
import sqlalchemy as sa

from chunkwise import FORMATS
from chunkwise.errors import EncodeError
from chunkwise.flow.outbound import Outbound
from chunkwise.sources import sql
from chunkwise.sources.sql.values import PlainValues
from tests.databases import Database
from tests.sources.sql.querying import encoded, in_postgres, in_sqlite, items_and_error


def converted(*values: Any) -> list[Any]:
    """Return the converted values of one column."""
    batch = [{"n": value} for value in values]
    PlainValues().convert(batch)
    return [row["n"] for row in batch]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return [1, value]


def test_types_with_text_form_are_sent_as_text() -> None:
    address = ipaddress.ip_address("10.0.0.1")
    assert converted(None, [], [None], address, None) == [None, [], [None], "10.0.0.1", None]


@pytest.mark.parametrize("value", ["\ud800", nested(100_000)], ids=["a lone surrogate", "far too deep"])
def test_unknown_values_are_left_unchanged(value: Any) -> None:
    [left] = converted(value)
    assert left is value


def test_first_value_decides_column_conversion() -> None:
    values = PlainValues()
    first: list[dict[str, Any]] = [{"n": None}]
    second: list[dict[str, Any]] = [{"n": ipaddress.ip_address("::1")}]
    values.convert(first)
    values.convert(second)
    assert (first, second) == ([{"n": None}], [{"n": "::1"}])


# --- values of databases, as JSON


POSTGRES_VALUES = [
    ("1.10::numeric", '"1.10"'),
    ("'NaN'::numeric", '"NaN"'),
    ("12345678901234567890::numeric", '"12345678901234567890"'),
    ("9223372036854775807::bigint", "9223372036854775807"),
    ("'2024-02-29 12:00:00.000001'::timestamp", '"2024-02-29T12:00:00.000001"'),
    ("'2024-02-29 12:00:00+02'::timestamptz", '"2024-02-29T10:00:00Z"'),
    ("'2024-02-29'::date", '"2024-02-29"'),
    ("'23:59:59'::time", '"23:59:59"'),
    ("'12:00+02'::timetz", '"12:00:00+02:00"'),
    ("'1 day 2 hours'::interval", '"P1DT7200S"'),
    ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"'),
    (r"'\xdead'::bytea", '"3q0="'),
    ("""'{"a": [1, null, "x"]}'::jsonb""", '{"a":[1,null,"x"]}'),
    ("""'{"a":\n1}'::json""", '{"a":1}'),
    ("array[1, null, 2]", "[1,null,2]"),
    ("array['1.5'::numeric]", '["1.5"]'),
    ("'red'::color", '"red"'),
    ("array['red', 'blue']::color[]", '["red","blue"]'),
    ("true", "true"),
    ("null", "null"),
    ("'1.2.3.4'::inet", '"1.2.3.4"'),
    ("array['1.2.3.4', null]::inet[]", '["1.2.3.4",null]'),
    ("'10.0.0.0/8'::cidr", '"10.0.0.0/8"'),
    ("int4range(1, 5)", '"[1,5)"'),
    ("int4range(null, 5)", '"(,5)"'),
    ("'empty'::int4range", '"empty"'),
    ("daterange('2024-01-01', '2024-02-01', '[]')", '"[2024-01-01,2024-02-02)"'),
    ("'{[1,2),[4,5)}'::int4multirange", '["[1,2)","[4,5)"]'),
    ("B'101'", '"101"'),
    ("point(1, 2)", "[1.0,2.0]"),
    ("path '((1,2),(3,4))'", "[[1.0,2.0],[3.0,4.0]]"),
    ("row(1, '1.2.3.4')::place", '{"n":1,"address":"1.2.3.4"}'),
    ("'08:00:2b:01:02:03'::macaddr", '"08:00:2b:01:02:03"'),
]


@in_postgres
async def test_postgresql_values_are_sent_as_json(database: Database) -> None:
    await database.run("create type color as enum ('red', 'blue')", "create type place as (n int, address inet)")
    for text, expected in POSTGRES_VALUES:
        # The value follows rows that do not show the type.
        query = f"select null as n, {text} as v union all select null, {text} where true"
        assert await encoded(sql.rows(database.engine, query)) == f'{{"n":null,"v":{expected}}}\n' * 2, text


@in_postgres
@pytest.mark.parametrize("empty", ["null", "array[]::inet[]", "array[null]::inet[]"])
async def test_special_value_after_nulls_is_converted(database: Database, empty: str) -> None:
    query = (
        f"select n, case when n < 50 then {empty} else array['1.2.3.4'::inet] end as v from generate_series(1, 50) g(n)"
    )
    assert (await encoded(sql.rows(database.engine, query))).endswith('{"n":50,"v":["1.2.3.4"]}\n')


@in_postgres
@pytest.mark.parametrize("value", ["'NaN'::float8", "'Infinity'::float8", "array['NaN'::float8]"])
async def test_nan_fails_stream_after_earlier_rows(database: Database, value: str) -> None:
    query = f"select 1 as n, null as v union all select 2, {value}"
    outbound = Outbound(sql.rows(database.engine, query), FORMATS["ndjson"].encoder())
    received, error = await items_and_error(outbound.pieces())
    assert received == [b'{"n":1,"v":null}\n']
    assert isinstance(error, EncodeError)
    assert "NaN or Infinity" in str(error)


@in_sqlite
async def test_sqlite_values_are_sent_as_stored(database: Database) -> None:
    await database.run(
        "create table odd (a boolean, b date, c decimal(10, 2), d blob, e json, f, g integer)",
        """insert into odd values (true, '2024-02-29', 12.5, x'dead', '{"a"\\:1}', 1e3, 9223372036854775807)""",
        "insert into odd (c, f) values (12, 'text')",
    )
    assert await encoded(sql.rows(database.engine, "select * from odd")) == (
        '{"a":1,"b":"2024-02-29","c":12.5,"d":"3q0=","e":"{\\"a\\":1}","f":1000.0,"g":9223372036854775807}\n'
        '{"a":null,"b":null,"c":12,"d":null,"e":null,"f":"text","g":null}\n'
    )


@in_sqlite
async def test_object_of_user_class_is_refused(database: Database) -> None:
    class Odd(sa.types.TypeDecorator[Any]):
        impl = sa.Integer
        cache_ok = True

        def process_result_value(self, value: Any, dialect: Any) -> Any:
            return object()

    with pytest.raises(EncodeError, match="JSON cannot represent a value of type object"):
        await encoded(sql.rows(database.engine, sa.select(sa.type_coerce(sa.literal(1), Odd).label("n"))))
