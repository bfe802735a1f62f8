"""A query or a table of a database -> a source of its rows. Needs SQLAlchemy, which the extra ``sql`` installs.

`rows` runs a query with one cursor in one transaction, and uses a connection until the stream ends. `table` reads a
table in pages, each in its own transaction, so it uses no connection between pages, even if the client is slow. The
pages are in the order of a unique key, so a stream of `table` can be resumed after any row.
"""

try:
    from chunkwise.sources.sql.query import rows
    from chunkwise.sources.sql.table_pages import table
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "SQL sources need the extra 'sql': pip install 'chunkwise[sql]'", name=_missing.name
    ) from _missing

__all__ = ["rows", "table"]
