"""JSON text in chunks -> parse events ``(prefix, event, value)``, the same as those of the library ijson.

A `Scanner` checks the grammar, the depth limit and UTF-8 before any byte is passed to ijson. Without these checks, the
C backend of ijson needs gigabytes of memory for tens of KB of ``[``, and replaces lone surrogates with ``?``.
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

# The scanner only has to check bytes, not to select values. So it gets a path that documents normally do not have.
_NOTHING = ("\0",)


class EventsDecoder(StreamDecoder):
    """JSON text in chunks -> the parse events that each chunk completes. Numbers become int or float."""

    name = "json"

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits=limits)
        # An int with more digits than Python accepts makes the C backend of ijson crash, so the scanner refuses it.
        digits = sys.get_int_max_str_digits() or sys.int_info.default_max_str_digits
        self._scanner = Scanner(
            _NOTHING,
            max_depth=limits.max_depth,
            max_string_bytes=limits.max_item_bytes,
            max_path_bytes=_MAX_PATH_BYTES,
            max_number_bytes=min(digits, sys.int_info.default_max_str_digits, limits.max_item_bytes),
        )
        self._window = bytearray()  # the received bytes that ijson has not parsed yet
        self._start = 0  # the offset in the stream of the bytes that ijson has not parsed yet
        self._position = 0  # the number of bytes in `_window` that the scanner has checked
        self._events: Any = ijson.sendable_list()
        self._parser: Any = ijson.parse_coro(self._events)

    def _decode(self, data: bytes, out: list[Any]) -> None:
        start = self.bytes_seen - len(data) - len(self._window)
        # Offsets in the stream include a skipped byte order mark, so the scanner adds its size to all offsets.
        if start > self._start:
            self._scanner.shift(start - self._start)
            self._start = start
        self._window += data
        try:
            self._position = self._scanner.scan(self._window, self._position)
        except DecodeError as error:
            self._parse(bytes(self._window[: max(0, (error.byte_offset or 0) - start)]), out)
            raise
        # A number at the end of the received bytes may continue in the next chunk, so ijson does not parse it yet. If
        # ijson parsed the first digit of the invalid number "01", it would return 0.
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
        except ArithmeticError:  # raised by Decimal, which ijson uses for numbers with a fraction or exponent
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
