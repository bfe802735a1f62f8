"""Bytes -> lines, JSON values, records, and characters; and back: the code that several formats share."""
