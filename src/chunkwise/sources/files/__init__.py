"""A file in any format -> a source of its items that can start at any item."""

from chunkwise.sources.files.source import file_source, read_file

__all__ = ["file_source", "read_file"]
