"""Read a `Script` from the fuzzer's bytes: choices for the fuzz target, where to split the stream, and the stream.

    byte 0      choices for the target, as bits (`decoders.FRAMED` and others)
    byte 1      the path, as an index into `decoders._PATHS`
    byte 2      the decoder's limits; 0 for the defaults
    byte 3      the number of splits, up to 15
    2 per split its position, modulo the length of the stream
    the rest    the stream

If the input is shorter than four bytes, the missing bytes are zeros.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from chunkwise.formats.contract import DEFAULT_LIMITS, Limits

_HEAD_BYTES = 4
_MAX_CUTS = 15


class Script(NamedTuple):
    """The choices for a fuzz target, and the stream in pieces and as a whole."""

    choices: int
    path: int
    limits: Limits
    pieces: list[bytes]
    data: bytes


def script_of(raw: bytes) -> Script:
    """Return the script that the fuzzer's bytes describe, in the layout that the docstring of the module shows."""
    choices, path, limits, count = raw[:_HEAD_BYTES].ljust(_HEAD_BYTES, b"\0")
    count = min(count, _MAX_CUTS)
    data = raw[_HEAD_BYTES + 2 * count :]
    drawn = [int.from_bytes(raw[at : at + 2], "big") for at in range(_HEAD_BYTES, _HEAD_BYTES + 2 * count, 2)]
    cuts = sorted(place % (len(data) + 1) for place in drawn)
    pieces = [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]
    return Script(choices, path, _limits(limits), pieces, data)


def _limits(byte: int) -> Limits:
    if byte == 0:
        return DEFAULT_LIMITS
    return Limits(max_depth=1 + byte % 5, max_item_bytes=1 + byte % 64, max_line_bytes=8 + byte // 4)
