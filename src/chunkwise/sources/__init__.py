"""Iterables, lists, files and database tables -> sources of items, for `respond`, `body` and documents."""
