r"""Bytes in pieces -> runs of complete lines, with a limit for a line, in linear time.

Lines end with ``\n``. A ``\r`` before it belongs to the line (in JSON it is white space, other formats remove it).
"""

from typing import Self

from chunkwise.errors import LimitError
from chunkwise.formats.contract import Limits


class LineSplitter:
    """Returns complete lines, and holds the bytes of the incomplete one.

    `offset` is that of the last run that was returned, and after `rest` of the pending bytes, in the stream.
    """

    def __init__(self, max_bytes: int, limit_name: str) -> None:
        self.offset: int = 0
        self._pending = bytearray()  # one buffer: many small pieces would weigh more than what they hold
        self._max_bytes = max_bytes
        self._limit_name = limit_name
        self._next_offset = 0
        self._too_long: LimitError | None = None

    @classmethod
    def of_items(cls, limits: Limits) -> Self:
        """Return a splitter for lines that are items, with the smaller one of the two limits."""
        name = "max_item_bytes" if limits.max_item_bytes < limits.max_line_bytes else "max_line_bytes"
        return cls(getattr(limits, name), name)

    @property
    def pending_offset(self) -> int:
        """Offset in the stream of the incomplete line."""
        return self._next_offset

    def feed(self, data: bytes, byte_offset: int) -> bytes:
        r"""Return the lines that the data at ``byte_offset`` completes, with the last ``\n``, or ``b""``."""
        if not self._pending:
            self._next_offset = byte_offset
        stop = data.rfind(b"\n") + 1
        if not stop:
            self._pending += data
            return b""
        run = bytes(self._pending) + data[:stop] if self._pending else data[:stop]
        self.offset = self._next_offset
        self._next_offset = byte_offset + stop
        self._pending = bytearray(data[stop:])
        if len(run) > self._max_bytes:
            run = self._before_too_long(run)
        return run

    def check(self) -> None:
        """Raise LimitError for a line over the limit; call it after the lines before it were used."""
        if self._too_long is None and len(self._pending) > self._max_bytes + 1:  # one more for the "\r" of a line end
            self._too_long = self._error(len(self._pending), self._next_offset)
        if self._too_long is not None:
            raise self._too_long

    def rest(self) -> bytes:
        """Return the bytes after the last line end; raise LimitError if there are more than ``max_bytes``."""
        self.offset = self._next_offset
        text = bytes(self._pending)
        if len(text.removesuffix(b"\r")) > self._max_bytes:
            raise self._error(len(text), self.offset)
        return text

    def _before_too_long(self, run: bytes) -> bytes:
        start = 0
        while start < len(run):
            stop = run.index(b"\n", start)
            size = stop - start - (run[stop - 1 : stop] == b"\r" and stop > start)
            if size > self._max_bytes:
                self._too_long = self._error(size, self.offset + start)
                return run[:start]
            start = stop + 1
        return run

    def _error(self, size: int, byte_offset: int) -> LimitError:
        msg = f"line has {size} bytes or more, expected no more than {self._max_bytes} ({self._limit_name})"
        return LimitError(msg, byte_offset=byte_offset)
