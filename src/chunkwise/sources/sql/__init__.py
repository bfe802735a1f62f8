"""A statement or a table of a database -> a source of its rows. Needs SQLAlchemy, which the extra ``sql`` installs.

`rows` reads a statement with one cursor in one transaction, and holds a connection until its stream ends. `table` reads
a table in pages, each in a transaction of its own: a slow client holds no connection, and a stream can be resumed.
"""

try:
    from chunkwise.sources.sql.query import rows
    from chunkwise.sources.sql.table_pages import table
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "SQL sources need the extra 'sql': pip install 'chunkwise[sql]'", name=_missing.name
    ) from _missing

__all__ = ["rows", "table"]
