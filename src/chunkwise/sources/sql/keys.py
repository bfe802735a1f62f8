"""A table and the columns to order it by -> the unique key of its rows.

To resume a stream, a client sends the key values of the last row that it has received. `Key` checks and converts them.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec
import sqlalchemy as sa

_EXPECTED: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    Decimal: "a decimal number",
    int | float: "a number",
    str: "a text",
    bool: "true or false",
    bytes: "base64",
    date: "a date such as 2024-12-31",
    datetime: "a date and time such as 2024-12-31T23:59:59",
    time: "a time such as 23:59:59",
    uuid.UUID: "a UUID",
    int | float | str: "a number or a text",
}
"""The types that a key column may have, with their names in messages. JSON and text represent their values exactly."""

# The Python type of a column -> the type of its values in SQLite, which has no booleans, decimal numbers, dates or
# times, and stores them as numbers or texts.
_IN_SQLITE: dict[Any, Any] = {
    bool: int,
    Decimal: int | float,
    date: int | float | str,
    datetime: int | float | str,
    time: int | float | str,
}

_ENDS = (date.min, date.max, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))

_NUMBERS = (int, float, Decimal, int | float)

Unique = Mapping[str, str | None]
"""Columns that are unique together, apart from NULLs -> their collations in the index; None: the column's own."""

# This query returns the columns of the unique indexes that can be used as a key. Partial indexes and indexes on
# expressions are left out. These indexes are left out, too:
# - An index that PostgreSQL has marked as invalid, because two rows may have the same values in it.
# - An index with another collation than its column, if the collation of the column is not deterministic. Different
#   texts can be equal in such a collation, so the index does not ensure that the texts in the column are unique.
_POSTGRESQL_UNIQUE = """
select array_agg(a.attname::text order by k.number) as names
from pg_index i
cross join lateral unnest(i.indkey::int2[], i.indcollation::oid[]) with ordinality as k(attribute, compared_by, number)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attribute
left join pg_collation c on c.oid = a.attcollation
where i.indrelid in (TABLE) and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
  and k.number <= i.indnkeyatts
group by i.indexrelid
having bool_and(k.compared_by = a.attcollation or coalesce(c.collisdeterministic, true))
"""

_POSTGRESQL_HEIRS = """
select 1 from pg_inherits join pg_class c on c.oid = inhparent where inhparent in (TABLE) and c.relkind <> 'p'
"""

_POSTGRESQL_TABLE = """
select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relname = :table and (n.nspname = :schema or cast(:schema as text) is null and pg_table_is_visible(c.oid))
"""

_SQLITE_UNIQUE = """
select i.name as index_name, x.name, x.coll
from pragma_index_list(:table, :schema) as i, pragma_index_xinfo(i.name, :schema) as x
where i."unique" and not i.partial and x.key
"""


@dataclass(frozen=True)
class Part:
    """Converts the JSON or text value of one column of a key, or of one parameter of a query."""

    name: str
    # The Python type that a value has after the conversion.
    kind: Any
    # The size of the column in bits, if the values are integers. A larger integer is refused.
    bits: int
    # Whether a datetime must have a time zone. None if the values are not datetimes.
    has_zone: bool | None
    # Whether a text may contain the character NUL: SQLite stores it, but PostgreSQL refuses it.
    nul: bool
    # The allowed values, if the column is an enum. Empty for other types.
    choices: tuple[str, ...]

    def convert(self, value: Any) -> Any:
        """Return the value in the type that the driver accepts; raise ValueError if it cannot be converted."""
        try:
            converted = self._converted(value)
        except (msgspec.ValidationError, ValueError):
            expected = f"one of {', '.join(self.choices)}" if self.choices else _EXPECTED[self.kind]
            if self.has_zone is not None:
                expected += ", with a time zone" if self.has_zone else ", without a time zone"
            got = value if len(repr(value)) <= 40 else f"{value!s:.40}..."
            raise ValueError(f"{self.name}: got {got!r}, expected {expected}") from None
        self.check(converted)
        return converted

    def check(self, value: Any) -> None:
        """Raise ValueError for the first and last date of Python, which drivers send as -infinity and infinity."""
        # asyncpg reads infinity as Python's last date, and writes this date as infinity. So the date 9999-12-31 of a
        # row would become infinity in the next query. The same holds for -infinity and the first date.
        plain = value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
        if plain in _ENDS:
            raise ValueError(f"{self.name}: got {value}, expected another date: drivers also use this one for infinity")

    def _converted(self, value: Any) -> Any:
        if not isinstance(value, str) and self.kind not in (*_NUMBERS, bool, int | float | str):
            raise ValueError
        converted = msgspec.convert(value, self.kind, strict=self.kind == int | float | str)
        if isinstance(converted, int) and not -(1 << self.bits - 1) <= converted < 1 << self.bits - 1:
            raise ValueError
        if isinstance(converted, float) and not math.isfinite(converted):
            raise ValueError
        if isinstance(converted, datetime) and (converted.tzinfo is not None) != self.has_zone:
            raise ValueError
        if isinstance(converted, str):
            # A text with a lone surrogate cannot be sent to the database. For such a text, encode() raises ValueError.
            converted.encode()
            if "\0" in converted and not self.nul:
                raise ValueError
        if self.choices and converted not in self.choices:
            raise ValueError
        return converted


@dataclass(frozen=True)
class Key:
    """The columns that a table is ordered by. No two rows have the same values in all of them."""

    table: str
    # The schema of the table. If it is None, the database looks for the table on its search path.
    schema: str | None
    # The names of all columns of the table, not only of the key.
    columns: list[str]
    # The key columns. Each part converts the values of one column.
    parts: list[Part]
    # The collation that each key column is compared with, which is the one of the unique index. None means that the
    # column is compared with its own collation.
    collations: list[str | None]
    # Whether the database allows NULL in a key column. If so, the table is searched for NULL before it is read.
    may_be_null: bool
    # Whether values may have other types than their columns, as in SQLite. If so, all key values are checked.
    is_mixed: bool

    @property
    def names(self) -> list[str]:
        """The names of the key columns."""
        return [part.name for part in self.parts]

    @property
    def label(self) -> str:
        """The names of the key columns as text for messages."""
        return ", ".join(self.names)

    def of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the key values of a row."""
        return tuple(row[name] for name in self.names)

    def check(self, values: Sequence[Any]) -> None:
        """Raise ValueError for a date that the driver sends as infinity or -infinity.

        Otherwise the next page, which starts after these key values, would skip or repeat rows.
        """
        for part, value in zip(self.parts, values, strict=True):
            part.check(value)

    def check_kinds(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raise ValueError if a key value in a row has another type than its column, which SQLite allows.

        When a stream is resumed, such a value from a client would be refused or converted to the type of the column.
        """
        if not self.is_mixed:
            return
        for part in self.parts:
            kinds = {type(row[part.name]) for row in rows}
            if others := [kind for kind in kinds if not issubclass(kind, part.kind)]:
                expected = "bytes" if part.kind is bytes else _EXPECTED[part.kind]
                raise ValueError(
                    f"{part.name}: got a {others[0].__name__} in a row of table {self.table!r}, "
                    f"expected {expected}: the stream could not be resumed after this row"
                )

    def convert(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Convert key values from JSON or CSV to the types of the driver; raise ValueError if they are invalid."""
        if len(values) != len(self.parts):
            raise ValueError(f"got {len(values)} key values, expected {len(self.parts)}: {self.label}")
        return tuple(part.convert(value) for part, value in zip(self.parts, values, strict=True))


def find_key(connection: sa.Connection, table: str, schema: str | None, order_by: str | Sequence[str] | None) -> Key:
    """Return the key of a table: the columns of ``order_by``, or the primary key if ``order_by`` is None.

    Raises:
        LookupError: there is no such table, or it does not have a column of ``order_by``.
        ValueError: there is no primary key, the key columns are not unique together, a key column may be NULL, or other
            tables inherit from the table (PostgreSQL).
        TypeError: a key column has a type whose values a client cannot send to resume a stream.
    """
    inspector = sa.inspect(connection)
    try:
        found = [] if "\0" in table else inspector.get_columns(table, schema)
    except sa.exc.NoSuchTableError:
        found = []
    columns: dict[str, Any] = {column["name"]: column for column in found}
    if not columns:
        raise LookupError(f"there is no table {table!r}" + f" in schema {schema!r}" * (schema is not None))
    primary = inspector.get_pk_constraint(table, schema)["constrained_columns"]
    names = list(primary) if order_by is None else [order_by] if isinstance(order_by, str) else list(order_by)
    if not names:
        raise ValueError(f"table {table!r} has no primary key: pass a unique column as order_by")
    for name in names:
        if name not in columns:
            raise LookupError(f"table {table!r} has no column {name!r}; it has {', '.join(columns)}")
    unique = next(
        (found for found in find_unique(connection, table, schema) if found and found.keys() <= set(names)), None
    )
    if unique is None:
        more = f": add its primary key, {', '.join(primary)}" if primary else ""
        raise ValueError(f"order_by must be unique, got {', '.join(names)} of table {table!r}{more}")
    nullable = [name for name in names if columns[name]["nullable"]]
    lax = connection.dialect.name == "sqlite"
    if refused := [name for name in nullable if not (lax and name in primary)]:
        raise ValueError(
            f"order_by: column {refused[0]!r} of table {table!r} may be NULL, expected a column that is NOT NULL"
        )
    parts = [_part(name, columns[name]["type"], connection.dialect.name) for name in names]
    collations = [unique.get(name) for name in names]
    return Key(table, schema, list(columns), parts, collations, bool(nullable), lax)


def _part(name: str, type: Any, dialect: str) -> Part:
    kind: Any = type.python_type
    if dialect == "sqlite":
        kind = _IN_SQLITE.get(kind, kind)
    if kind not in _EXPECTED:
        raise TypeError(
            f"order_by: column {name!r} has the type {type}, expected a number, text, date, time, boolean, bytes or "
            "UUID: use another column"
        )
    return Part(
        name,
        kind,
        64 if dialect == "sqlite" else _bits(type),
        bool(type.timezone) if kind is datetime else None,
        nul=dialect == "sqlite",
        choices=tuple(getattr(type, "enums", ())),
    )


def _bits(type: Any) -> int:
    if isinstance(type, sa.SmallInteger):
        return 16
    return 32 if isinstance(type, sa.Integer) and not isinstance(type, sa.BigInteger) else 64


_PARAMETERS: dict[str, tuple[Any, int, bool | None]] = {
    "int2": (int, 16, None),
    "int4": (int, 32, None),
    "int8": (int, 64, None),
    "numeric": (Decimal, 64, None),
    "float4": (float, 64, None),
    "float8": (float, 64, None),
    "bool": (bool, 64, None),
    "bytea": (bytes, 64, None),
    "date": (date, 64, None),
    "time": (time, 64, None),
    "timestamp": (datetime, 64, False),
    "timestamptz": (datetime, 64, True),
    "uuid": (uuid.UUID, 64, None),
}


def part_of_type(name: str, type: str | None) -> Part:
    """Return the converter of a query parameter. ``type`` is the name of its type in PostgreSQL, such as ``int4``.

    A parameter of an unknown type stays a text. For SQLite, pass None as the type: the parameter stays a text, and
    SQLite converts it to the type of the column that it is compared with.
    """
    kind, bits, has_zone = _PARAMETERS.get(type or "", (str, 64, None))
    return Part(name, kind, bits, has_zone, nul=type is None, choices=())


def find_unique(connection: sa.Connection, table: str, schema: str | None) -> list[Unique]:
    """Return all sets of columns that are unique in a table.

    In PostgreSQL, raise ValueError if other tables inherit from the table: a query also returns the rows of those
    tables, but a unique index does not include them.
    """
    if connection.dialect.name == "postgresql":
        return _in_postgresql(connection, table, schema)
    inspector = sa.inspect(connection)
    primary = inspector.get_pk_constraint(table, schema)["constrained_columns"]
    if connection.dialect.name == "sqlite":
        found = _in_sqlite(connection, table, schema)
        # SQLite has no index for an INTEGER PRIMARY KEY, which is the row number: add it to the list.
        return found if any(unique.keys() == set(primary) for unique in found) else [dict.fromkeys(primary), *found]
    names: list[Any] = [primary, *(item["column_names"] for item in inspector.get_unique_constraints(table, schema))]
    for index in inspector.get_indexes(table, schema):
        partial = any(name.endswith("_where") for name in index.get("dialect_options", {}))
        if index["unique"] and not partial and "expressions" not in index:
            names.append(index["column_names"])
    return [dict.fromkeys(columns) for columns in names]


def _in_postgresql(connection: sa.Connection, table: str, schema: str | None) -> list[Unique]:
    heirs, unique = (
        connection.execute(sa.text(query.replace("TABLE", _POSTGRESQL_TABLE)), {"table": table, "schema": schema}).all()
        for query in (_POSTGRESQL_HEIRS, _POSTGRESQL_UNIQUE)
    )
    if heirs:
        msg = f"other tables inherit from table {table!r}, so no key is unique: use sql.rows() with a query"
        raise ValueError(msg)
    return [dict.fromkeys(row.names) for row in unique]


def _in_sqlite(connection: sa.Connection, table: str, schema: str | None) -> list[Unique]:
    indexes: dict[str, dict[str, str | None]] = {}
    for row in connection.execute(sa.text(_SQLITE_UNIQUE), {"table": table, "schema": schema or "main"}):
        indexes.setdefault(row.index_name, {})[row.name] = row.coll
    # In an index on an expression, such as lower(name), a column name is None. Such an index cannot be used as a key.
    return [columns for columns in indexes.values() if None not in columns]
