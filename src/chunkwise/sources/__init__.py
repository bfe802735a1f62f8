"""Data -> items: iterables, lists, files and databases as sources for `respond`, `body` and the rest of the library."""
