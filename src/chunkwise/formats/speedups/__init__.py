"""The compiled code, and the same in Python."""
