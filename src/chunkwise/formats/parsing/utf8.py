"""Bytes -> the number of bytes that are complete UTF-8 characters, and the error after them."""

import codecs

from chunkwise.formats.speedups import whole_bytes


def whole_characters(data: bytes) -> tuple[int, str]:
    """Return the size of the complete characters at the start, and the error after them, ``""`` if there is none."""
    whole = whole_bytes(data)
    if whole == len(data):
        return whole, ""
    try:
        return whole + codecs.utf_8_decode(data[whole:], "strict", False)[1], ""  # noqa: FBT003 - not the end
    except UnicodeDecodeError as error:
        return whole + error.start, error.reason
