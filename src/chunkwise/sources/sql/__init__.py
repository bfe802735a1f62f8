"""A query or a table of a database -> a source of its rows. Needs the extra ``sql``."""

from chunkwise.sources.sql.table_pages import rows, table

__all__ = ["rows", "table"]
