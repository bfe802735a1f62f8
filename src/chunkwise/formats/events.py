"""JSON text in pieces -> ``(prefix, event, value)``, as ijson gives them.

Must not know how bytes arrive. The grammar, the depth limit and UTF-8 are checked by our scanner before ijson sees a
byte: its C backend takes gigabytes of memory for a few hundred KB of ``[``, and turns lone surrogates into ``?``.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from math import isfinite
from typing import Any

import ijson

from chunkwise.errors import DecodeError, TruncatedError
from chunkwise.formats.contract import DEFAULT_LIMITS, Limits, StreamDecoder
from chunkwise.formats.scanner import Scanner

Event = tuple[str, str, Any]
"""``(prefix, event, value)``: ``("users.item", "start_map", None)``."""

_NOTHING = ("\0",)  # no document needs to have this path: all of it is walked, nothing is selected


class EventsDecoder(StreamDecoder):
    """JSON text in pieces -> the events that the data completes. Numbers are as `json.loads` gives them."""

    name = "json"

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(None, limits=limits)
        # An int of more digits than Python takes ends ijson's C backend, and the process, with a segmentation fault.
        digits = sys.get_int_max_str_digits() or sys.int_info.default_max_str_digits
        self._scanner = Scanner(
            _NOTHING,
            max_depth=limits.max_depth,
            max_string_bytes=limits.max_item_bytes,
            max_number_bytes=min(digits, sys.int_info.default_max_str_digits, limits.max_item_bytes),
        )
        self._window = bytearray()
        self._position = 0  # how far the window was checked, and passed on
        self._events: Any = ijson.sendable_list()
        self._parser: Any = ijson.parse_coro(self._events)

    def _decode(self, data: bytes, out: list[Any]) -> None:
        start = self.bytes_seen - len(data) - len(self._window)
        self._window += data
        checked = self._position
        try:
            self._position = self._scanner.scan(self._window, checked)
        except DecodeError as error:
            self._parse(bytes(self._window[checked : max(checked, (error.byte_offset or 0) - start)]), out)
            raise
        self._parse(bytes(self._window[checked : self._position]), out)
        keep = self._scanner.keep_from
        keep = self._position if keep < 0 else keep
        del self._window[:keep]
        self._position -= keep
        self._scanner.shift(keep)

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        if self._scanner.in_root_number and not framed:
            msg = "the JSON text stops in a number at its root: more digits could follow, nothing proves the end"
            raise TruncatedError(msg)
        why = self._scanner.finish(self._window)
        if why:
            raise TruncatedError(why)
        self._parse(b"", out, close=True)

    def _parse(self, data: bytes, out: list[Any], *, close: bool = False) -> None:
        failure: Exception | None = None
        try:
            if data:
                self._parser.send(data)
            if close:
                self._parser.close()
        except (ijson.JSONError, ArithmeticError, ValueError) as error:  # a number that Decimal cannot hold, say
            failure = error
        for prefix, event, value in self._events:
            number = value
            if isinstance(value, Decimal):
                number = float(value)
                if not isfinite(number):
                    msg = f"number {value} is out of the range of a float"
                    raise DecodeError(msg)
            out.append((prefix, event, number))
        del self._events[:]
        if failure is not None:
            raise DecodeError(f"not JSON: {failure}") from failure
