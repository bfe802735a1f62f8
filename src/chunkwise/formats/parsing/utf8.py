"""Bytes -> how many of them are whole characters of UTF-8, and what is wrong behind those.

Must not know what stands in the text.
"""

from __future__ import annotations

import codecs

from chunkwise.formats.speedups import whole_bytes


def whole_characters(data: bytes) -> tuple[int, str]:
    """Return the bytes of the whole characters at the start, and why the next is none, or ``""`` if it is only cut."""
    whole = whole_bytes(data)
    if whole == len(data):
        return whole, ""
    try:
        return whole + codecs.utf_8_decode(data[whole:], "strict", False)[1], ""  # noqa: FBT003 - not the end
    except UnicodeDecodeError as error:
        return whole + error.start, error.reason
