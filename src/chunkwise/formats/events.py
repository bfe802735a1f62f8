"""JSON text in chunks -> events ``(prefix, event, value)``, the same as those of ijson.

The scanner checks the grammar, the depth limit and UTF-8 before any byte is passed to ijson. Without these checks, the
C backend of ijson needs gigabytes of memory for some ten KB of ``[``, and replaces lone surrogates with ``?``.
"""

import sys
from decimal import Decimal
from math import isfinite
from typing import Any

import ijson

from chunkwise.errors import DecodeError, LimitError, TruncatedError
from chunkwise.formats.contract import DEFAULT_LIMITS, Limits
from chunkwise.formats.parsing.stream_decoder import StreamDecoder
from chunkwise.formats.speedups import Scanner

Event = tuple[str, str, Any]
"""``(prefix, event, value)``, such as ``("users.item", "start_map", None)``."""

_MAX_PATH_BYTES = 4 * 1024
"""The most bytes of a prefix. The limit is low, because ijson builds a prefix for each member, even of six bytes."""

_NOTHING = ("\0",)  # a path that no document has: the scanner checks all bytes and selects nothing


class EventsDecoder(StreamDecoder):
    """JSON text in chunks -> the events that each chunk completes. Numbers have the same types as in `json.loads`."""

    name = "json"

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits=limits)
        # An int with more digits than Python accepts crashes the C backend of ijson, and with it the process.
        digits = sys.get_int_max_str_digits() or sys.int_info.default_max_str_digits
        self._scanner = Scanner(
            _NOTHING,
            max_depth=limits.max_depth,
            max_string_bytes=limits.max_item_bytes,
            max_path_bytes=_MAX_PATH_BYTES,
            max_number_bytes=min(digits, sys.int_info.default_max_str_digits, limits.max_item_bytes),
        )
        self._window = bytearray()  # the received bytes that ijson has not parsed yet
        self._start = 0  # where the window begins, in bytes from the start of the stream
        self._position = 0  # the end of the checked part of the window
        self._events: Any = ijson.sendable_list()
        self._parser: Any = ijson.parse_coro(self._events)

    def _decode(self, data: bytes, out: list[Any]) -> None:
        start = self.bytes_seen - len(data) - len(self._window)
        if start > self._start:  # a byte order mark was skipped
            self._scanner.shift(start - self._start)
            self._start = start
        self._window += data
        try:
            self._position = self._scanner.scan(self._window, self._position)
        except DecodeError as error:
            self._parse(bytes(self._window[: max(0, (error.byte_offset or 0) - start)]), out)
            raise
        # A number at the end of the window may continue, so it is not parsed yet. Otherwise, if the invalid "01" is
        # split after the 0, ijson would return the 0 as a number.
        ready = self._scanner.keep_from
        ready = self._position if ready < 0 else ready
        self._parse(bytes(self._window[:ready]), out)
        del self._window[:ready]
        self._position -= ready
        self._scanner.shift(ready)
        self._start += ready

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        self._proven = not self._scanner.finish(self._window, framed=False)
        why = self._scanner.finish(self._window, framed=framed)
        if why:
            raise TruncatedError(why)
        self._parse(bytes(self._window), out, close=True)

    def _parse(self, data: bytes, out: list[Any], *, close: bool = False) -> None:
        failure: DecodeError | None = None
        try:
            if data:
                self._parser.send(data)
            if close:
                self._parser.close()
        except ArithmeticError:  # raised by Decimal, to which ijson converts each number that is not an int
            failure = LimitError("a number has an exponent of about 18 digits or more, which no Decimal can hold")
        for prefix, event, value in self._events:
            number = value
            if isinstance(value, Decimal):
                number = float(value)
                if not isfinite(number):
                    raise DecodeError(f"number {value} is outside the range of a float")
            out.append((prefix, event, number))
        del self._events[:]
        if failure is not None:
            raise failure
