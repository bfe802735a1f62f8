"""A table of a database -> the columns by which its rows are told apart, as the database compares them.

Must not know what order is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

Unique = Mapping[str, str | None]
"""Columns that are unique together, where none of them is NULL -> by which collation; None for the column's own."""

# An index that is not valid has not been looked through: its rows may be equal. One that compares otherwise than the
# column does lets rows be equal for the column, unless those are equal whose bytes are.
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


def find_unique(connection: sa.Connection, table: str, schema: str | None) -> list[Unique]:
    """Return every set of columns that is unique in a table.

    Raises:
        ValueError: nothing is unique in the table, since it has the rows of others, too.
    """
    if connection.dialect.name == "postgresql":
        return _in_postgresql(connection, table, schema)
    inspector = sa.inspect(connection)
    primary = inspector.get_pk_constraint(table, schema)["constrained_columns"]
    if connection.dialect.name == "sqlite":
        found = _in_sqlite(connection, table, schema)
        # A number that is the row's own has no index.
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
        msg = f"table {table!r} has also the rows of tables that inherit from it, and no key is unique: read a query"
        raise ValueError(msg)
    return [dict.fromkeys(row.names) for row in unique]


def _in_sqlite(connection: sa.Connection, table: str, schema: str | None) -> list[Unique]:
    indexes: dict[str, dict[str, str | None]] = {}
    for row in connection.execute(sa.text(_SQLITE_UNIQUE), {"table": table, "schema": schema or "main"}):
        indexes.setdefault(row.index_name, {})[row.name] = row.coll
    return [columns for columns in indexes.values() if None not in columns]  # which an expression is
