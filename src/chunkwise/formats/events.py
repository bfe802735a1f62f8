"""JSON text in pieces -> ``(prefix, event, value)``, as ijson gives them.

Our scanner checks the grammar, the depth limit and UTF-8 before ijson gets a byte: for a few ten KB of ``[``, its C
backend takes gigabytes of memory, and it turns lone surrogates into ``?``.
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
"""``(prefix, event, value)``: ``("users.item", "start_map", None)``."""

_MAX_PATH_BYTES = 4 * 1024
"""The limit of a prefix: ijson keeps one for each depth, and makes one for each member (``"a":0,``, six bytes)."""

_NOTHING = ("\0",)  # a path that no document has: all of it is scanned, and nothing is selected


class EventsDecoder(StreamDecoder):
    """JSON text in pieces -> the events that the data completes. Numbers have the types of `json.loads`."""

    name = "json"

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits=limits)
        # An int with more digits than Python accepts crashes ijson's C backend, and the process.
        digits = sys.get_int_max_str_digits() or sys.int_info.default_max_str_digits
        self._scanner = Scanner(
            _NOTHING,
            max_depth=limits.max_depth,
            max_string_bytes=limits.max_item_bytes,
            max_path_bytes=_MAX_PATH_BYTES,
            max_number_bytes=min(digits, sys.int_info.default_max_str_digits, limits.max_item_bytes),
        )
        self._window = bytearray()
        self._start = 0  # offset of the window in the stream
        self._position = 0  # the end of the checked part of the window
        self._events: Any = ijson.sendable_list()
        self._parser: Any = ijson.parse_coro(self._events)

    def _decode(self, data: bytes, out: list[Any]) -> None:
        start = self.bytes_seen - len(data) - len(self._window)
        if start > self._start:  # a BOM
            self._scanner.shift(start - self._start)
            self._start = start
        self._window += data
        try:
            self._position = self._scanner.scan(self._window, self._position)
        except DecodeError as error:
            self._parse(bytes(self._window[: max(0, (error.byte_offset or 0) - start)]), out)
            raise
        # A number that may continue is held back: of "01", ijson would return the 0.
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
        except ArithmeticError:  # from a Decimal, which ijson makes of each number that is not an int
            failure = LimitError("a number has an exponent that no Decimal holds, as of more than 18 digits")
        for prefix, event, value in self._events:
            number = value
            if isinstance(value, Decimal):
                number = float(value)
                if not isfinite(number):
                    raise DecodeError(f"number {value} is out of the range of a float")
            out.append((prefix, event, number))
        del self._events[:]
        if failure is not None:
            raise failure
