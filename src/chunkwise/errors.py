"""The exceptions that chunkwise raises for streams: one tree, with `StreamError` as its root.

::

    StreamError
    ├── EncodeError(TypeError)        the format cannot represent an item of the source
    ├── DecodeError(ValueError)       the received bytes are not valid in the format
    │   ├── TruncatedError(EOFError)  the bytes ended before the stream was complete
    │   └── LimitError                an item, the nesting, a line or the decompressed data exceeds its limit
    ├── RemoteError                   the sender reported that it failed; has its problem details (RFC 9457)
    ├── StalledError(TimeoutError)    the other side sent or read nothing for longer than allowed
    ├── PathNotFound(LookupError)     the stream is complete, but has no value at a required path
    └── UnknownFormat(LookupError)    no format has that name, media type or suffix
"""

import re
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


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 item`` or ``2 items``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class StreamError(Exception):
    """The base class of all errors of chunkwise.

    Attributes:
        message: what was received, what was expected, and what you can do about it.
        format: the name of the format, such as ``"json"``; None if it is unknown.
        item_index: the index of the item that has the error, from 0. It is also the number of complete items before it.
            None if it is unknown.
        byte_offset: the offset of the error in the bytes of the stream, from 0, after decompression; None if it is
            unknown.
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
    """An item cannot be encoded in the format of the stream. For example, JSON cannot represent NaN."""


class DecodeError(StreamError, ValueError):
    """The bytes are not valid in the format. The items before the invalid bytes were delivered."""


class TruncatedError(DecodeError, EOFError):
    """The bytes ended before the stream was complete.

    Attributes:
        items_seen: the number of complete items received. All of them were delivered.
        bytes_seen: the number of bytes received, after decompression.
    """

    def __init__(self, message: str, *, items_seen: int = 0, bytes_seen: int = 0, format: str | None = None) -> None:
        super().__init__(message, format=format)
        self.items_seen = items_seen
        self.bytes_seen = bytes_seen

    def __str__(self) -> str:
        received = f"{counted(self.items_seen, 'item')} and {counted(self.bytes_seen, 'byte')} received"
        return f"{self.message} (format {self.format}, {received})" if self.format else f"{self.message} ({received})"


class LimitError(DecodeError):
    """An item, the nesting depth, a line or the decompressed data exceeds its limit."""


class RemoteError(StreamError):
    """The sender reported an error: by the status of its response, or in a record at the end of its stream.

    Attributes:
        status: the HTTP status of the response, or the status in the problem details.
        problem: the problem details (RFC 9457) as a dict; empty if the sender sent none.
        retry_after_seconds: how many seconds to wait before the next request, from the ``Retry-After`` header; None
            if the response has no such header.
    """

    retry_after_seconds: float | None = None

    def __init__(self, message: str, *, status: int, problem: Mapping[str, Any] | None = None) -> None:
        self.problem: dict[str, Any] = dict(problem or {})
        index = self.problem.get("item")
        super().__init__(message, item_index=index if type(index) is int else None)
        self.status = status

    def __str__(self) -> str:
        # If the sender's message already contains the index of the item, such as "item 3", do not append the index.
        named = re.search(rf"\bitem {self.item_index}\b", self.message)
        return self.message if named else super().__str__()


class StalledError(StreamError, TimeoutError):
    """The other side sent nothing, or read nothing of an upload, for longer than allowed.

    If the error was raised while items were received, ``item_index`` is the number of items before the error.
    """


class PathNotFound(StreamError, LookupError):
    """The stream is complete, but the path with which it is read exists nowhere in it, and ``required`` is True."""


class UnknownFormat(StreamError, LookupError):
    """No format has the given name, media type or file suffix."""
