"""Bytes <-> lines, JSON values, records and characters: the code that several formats share."""
