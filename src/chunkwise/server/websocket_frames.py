"""Messages of text -> the frames in which a server sends them (RFC 6455 §5.2), many in one piece.

Must not know when they are sent. aiohttp's own writer makes a system call for each message, which for small items is
nearly all that they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

_TEXT = 0x81  # FIN and the opcode 1: a whole message of text, without a mask as from any server


def text_frames(messages: Sequence[bytes]) -> bytes:
    """Return the frames of some messages, one each."""
    sizes = list(map(len, messages))
    if max(sizes, default=0) < 126:
        return b"\x81%c%b" * len(sizes) % tuple(chain.from_iterable(zip(sizes, messages, strict=True)))
    return b"".join(chain.from_iterable(zip(map(_head, sizes), messages, strict=True)))


def frame_bytes(payload_bytes: int) -> int:
    """Return how long the frame of a payload is."""
    return len(_head(payload_bytes)) + payload_bytes


def _head(size: int) -> bytes:
    if size < 126:
        return bytes((_TEXT, size))
    if size < 1 << 16:
        return bytes((_TEXT, 126)) + size.to_bytes(2)
    return bytes((_TEXT, 127)) + size.to_bytes(8)
