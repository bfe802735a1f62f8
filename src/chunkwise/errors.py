"""Errors that leave chunkwise: one tree, nothing else.

::

    StreamError
    ├── EncodeError(TypeError)        the source gave an item that the format cannot hold
    ├── DecodeError(ValueError)       the bytes are not the format: got, expected, where
    │   ├── TruncatedError(EOFError)  they stopped before the end
    │   └── LimitError                an item, a depth, a line or what is decompressed is over its limit
    ├── RemoteError                   the other side said that it failed; carries its problem (RFC 9457)
    ├── StalledError(TimeoutError)    nothing arrived for longer than allowed
    ├── PathNotFound(LookupError)     a required path selected nothing
    └── UnknownFormat(LookupError)    no format has that name, media type or suffix
"""

from collections.abc import Mapping
from typing import Any

__all__ = [
    "DecodeError",
    "EncodeError",
    "LimitError",
    "PathNotFound",
    "RemoteError",
    "StalledError",
    "StreamError",
    "TruncatedError",
    "UnknownFormat",
]


class StreamError(Exception):
    """Root of all errors of chunkwise.

    Attributes:
        message: what went wrong: got, expected, what to do.
        format: name of the format (``"json"``), where known.
        item_index: index of the item concerned, counted from 0; as many items arrived whole before it.
        byte_offset: offset in the stream's bytes, counted from 0 (after decompression), where known.
    """

    def __init__(
        self, message: str, *, format: str | None = None, item_index: int | None = None, byte_offset: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.format = format
        self.item_index = item_index
        self.byte_offset = byte_offset

    def __str__(self) -> str:
        place = [
            f"{name} {value}"
            for name, value in (("format", self.format), ("item", self.item_index), ("byte", self.byte_offset))
            if value is not None
        ]
        return f"{self.message} ({', '.join(place)})" if place else self.message


class EncodeError(StreamError, TypeError):
    """The source gave an item that the format cannot hold."""


class DecodeError(StreamError, ValueError):
    """The bytes are not what the format allows. The items before the place were delivered."""


class TruncatedError(DecodeError, EOFError):
    """The bytes stopped before the stream was complete.

    Attributes:
        items_seen: number of items that arrived whole, all of them delivered.
        bytes_seen: number of bytes that arrived.
    """

    def __init__(self, message: str, *, items_seen: int = 0, bytes_seen: int = 0, format: str | None = None) -> None:
        super().__init__(message, format=format)
        self.items_seen = items_seen
        self.bytes_seen = bytes_seen

    def __str__(self) -> str:
        came = f"{self.items_seen} items and {self.bytes_seen} bytes came"
        return f"{self.message} (format {self.format}, {came})" if self.format else f"{self.message} ({came})"


class LimitError(DecodeError):
    """An item, a nesting depth, a line or what a compressed stream becomes is over its limit."""


class RemoteError(StreamError):
    """The other side said that it failed: by the status of its answer, or by a record in a stream that had begun.

    Attributes:
        status: the HTTP status of the answer, or of the problem.
        problem: its problem details (RFC 9457) as a dict; empty where it sent none.
        retry_after_seconds: how long to wait before asking again (``Retry-After``), if it said so.
    """

    retry_after_seconds: float | None = None

    def __init__(self, message: str, *, status: int, problem: Mapping[str, Any] | None = None) -> None:
        self.problem: dict[str, Any] = dict(problem or {})
        index = self.problem.get("item")
        super().__init__(message, item_index=index if type(index) is int else None)
        self.status = status


class StalledError(StreamError, TimeoutError):
    """Nothing arrived for longer than allowed. The items before were delivered: ``item_index`` counts them."""


class PathNotFound(StreamError, LookupError):
    """The path was required and selected nothing in a complete stream."""


class UnknownFormat(StreamError, LookupError):
    """No format has that name, media type or file suffix."""
