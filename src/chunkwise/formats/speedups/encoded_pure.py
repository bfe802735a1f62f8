"""JSON that the engine has encoded -> what has to be looked for in it: pure twin.

Must not know why.
"""

from __future__ import annotations

import re

_null = re.compile(b"null")  # found in half the time that ``in`` takes
_white = re.compile(b"\n[\0- ]")


def holds_null(data: bytes) -> bool:
    """Say whether "null" stands anywhere, inside a string or not."""
    return _null.search(data) is not None


def line_ends(data: bytes) -> int:
    """Count the bytes that could end a line: LF and CR; -1 if a line is empty, or begins with white space."""
    if (data[:1] <= b" " and data) or _white.search(data):
        return -1
    return data.count(b"\n") + data.count(b"\r")
