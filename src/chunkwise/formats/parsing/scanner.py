"""JSON bytes -> the start and the end of each value at a path, after checking that all text between them is JSON.

The caller keeps the received bytes that are still needed, and passes them as ``window``. The scanner can stop at any
byte and continue there later, so it reads each byte once, although the window grows. It matches a small array or object
with one regular expression, which is the fastest way in Python. The package `speedups` has a compiled scanner with the
same results.
"""

import re
import sys

from chunkwise.errors import DecodeError
from chunkwise.formats.parsing.json_states import (
    ARRAY,
    CLOSERS,
    COLON,
    COMMA_OR_END,
    END,
    IN_KEY,
    IN_NUMBER,
    IN_STRING,
    KEY,
    KEY_OR_END,
    LITERALS,
    OBJECT,
    UNFRAMED_NUMBER,
    VALUE,
    VALUE_OR_END,
    Window,
    name_of,
    not_a_literal,
    not_a_number,
    not_in_a_string,
    too_deep,
    too_long,
    unexpected,
    why_incomplete,
)

# The grammar of RFC 8259 §2-§7 as byte patterns. A possessive group (*+) never backtracks, so it needs no memory for
# each repetition. Up to Python 3.11.4, possessive groups have a bug (gh-106052): "1.," would match as a number. So the
# groups are greedy on those versions. They match the same text, because the byte after a group cannot begin another
# repetition. A greedy group needs up to 1 KB of memory per repetition, so a match reads at most 2048 bytes.
_TURNS, _MATCHED_BYTES = (b"*+", 2**62) if re.fullmatch(rb"(?:ab?c)*+a", b"aca") else (b"*", 2048)
_WS = rb"[ \t\n\r]*+"
_HEX = rb"[0-9a-fA-F]"
_ESCAPE = (
    rb'\\(?:["\\/bfnrt]|u(?:[0-9abcefABCEF]' + _HEX + rb"{3}|[dD][0-7]" + _HEX + rb"{2}"
    rb"|[dD][89abAB]" + _HEX + rb"{2}\\u[dD][c-fC-F]" + _HEX + rb"{2}))"  # an escaped surrogate is valid only in a pair
)
_BODY = rb'(?:[^"\\\x00-\x1f]++|' + _ESCAPE + rb")" + _TURNS
_STRING = rb'"' + _BODY + rb'"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_SCALAR = rb"(?:" + _STRING + rb"|" + _NUMBER + rb"|true|false|null)"


def _container(value: bytes) -> bytes:
    """Return the pattern of an array or object whose values match the given pattern."""
    array = rb"\[" + _WS + rb"(?:" + value + _WS + rb"(?:," + _WS + rb"(?!\])|(?=\])))" + _TURNS + rb"\]"
    member = _STRING + _WS + rb":" + _WS + value + _WS
    return rb"(?:" + array + rb"|\{" + _WS + rb"(?:" + member + rb"(?:," + _WS + rb'(?=")|(?=\})))' + _TURNS + rb"\})"


_SMALL_DEPTH = 2
_small = re.compile(_container(rb"(?:" + _SCALAR + rb"|" + _container(_SCALAR) + rb")"))
_ws = re.compile(_WS)
_string = re.compile(_STRING)
_body = re.compile(_BODY)
_number = re.compile(_NUMBER)
_number_bytes = re.compile(rb"[-+.0-9eE]*+")
_escape = re.compile(_ESCAPE)
_ESCAPE_BYTES = 12  # the number of bytes of the longest escape, a pair of surrogates
# The start of an escape, such as "\u00e", is valid if the last bytes of one of these escapes complete it. For example,
# the last "0" of "\u0000" completes it to the valid escape "\u00e0".
_WHOLE_ESCAPES = (rb"\n", rb"\u0000", rb"\uD800\uDC00")


def _body_end(window: Window, position: int, matched_bytes: int = _MATCHED_BYTES) -> int:
    """Return where the valid part of a string ends; the string is already checked up to ``position``.

    The end is the closing quote, an invalid byte, an incomplete escape, or the end of the received bytes.
    """
    while True:
        limit = position + matched_bytes
        match = _body.match(window, position, limit)
        position = match.end() if match else position
        # If the match ends just before the limit, the limit may have cut an escape. So match again from there.
        if position <= limit - _ESCAPE_BYTES:
            return position


class Scanner:
    """Finds the start and the end of the values at a path, in JSON text that is received in chunks.

    If ``proves_values`` is False, the compiled scanner does not check selected arrays and objects: it only counts their
    brackets. This is enough if the caller decodes the values with a decoder that checks them.

    The class has many attributes, because scanning can stop at any byte and continue there later.
    """

    def __init__(
        self,
        parts: tuple[str, ...] | None,  # the path; None selects all elements of a root array, or another root itself
        *,
        max_depth: int,  # the most arrays and objects nested inside each other
        max_string_bytes: int | None = None,  # the most bytes of a string or name, without quotes
        max_name_bytes: int | None = None,  # the most bytes, with quotes, of a name that is compared with the path
        max_number_bytes: int | None = None,  # the most bytes of a number
        max_path_bytes: int | None = None,  # the most bytes in total of all member names around a value
        proves_values: bool = True,  # noqa: ARG002 - this scanner checks every value
    ) -> None:
        self.spans: list[tuple[int, int]] = []  # where each complete selected value starts and ends in the kept bytes
        self.longest: int = 0  # the size in bytes of the longest complete selected value
        # Whether the path exists. A path that selects all elements or members also exists in an empty array or object.
        self.found: bool = False
        self.bytes_walked: int = 0  # the number of bytes read, including those that a failed match may have read
        self._parts = parts
        self._max_depth = max_depth
        self._max_string_bytes = max_string_bytes
        self._max_name_bytes = max_name_bytes
        self._max_number_bytes = max_number_bytes
        self._max_path_bytes = max_path_bytes
        self._name_bytes = 0  # the size of the name of the current object member
        self._path_bytes = [0]  # the size of all member names around each open array or object
        bounds = [most for most in (max_string_bytes, max_number_bytes) if most is not None]
        # An array or object of at most this size cannot contain a string or number that exceeds its limit.
        self._small_bytes = min(bounds, default=sys.maxsize)
        self._string_start = 0  # where the last string or name starts in the kept bytes
        self._names = [b'"%b"' % part.encode() for part in parts or ()]
        self._base = 0  # the offset in the stream of the first byte that the caller keeps
        self._state = VALUE
        self._stack = bytearray()  # '[' or '{' for each open array or object
        self._resume_at = 0  # the position in the kept bytes at which an incomplete string continues
        self._on_path = 0  # the number of open arrays and objects that are on the path, counted from the root
        self._member_matches = False  # whether the name of the current object member is on the path
        self._value_start = -1  # where the incomplete selected value starts in the kept bytes; -1 without such a value
        self._value_depth = 0
        # The offset in the stream of the last complete selected value, and the brackets that are open around it.
        self._last_ended: tuple[int, bytes] | None = None
        # Where an incomplete number, or an incomplete name to compare with the path, starts in the kept bytes; or -1.
        self._token_start = -1
        # The offset in the stream of the array that contains the last complete selected value; -1 if no array does.
        self._last_array = -1
        self._contiguous = True  # whether all complete selected values are consecutive elements of one array
        self._array_start = -1  # the offset in the stream of the last array or object on the path that was opened
        # The smallest depth at which a regular expression is tried for arrays and objects. It failed at smaller depths.
        self._try_small_from = 0
        self._failed_bytes_left = 0  # how many more bytes may be read by regular expressions that do not match

    @property
    def complete(self) -> bool:
        """Whether a complete document was scanned."""
        return self._state == END

    @property
    def keep_from(self) -> int:
        """The position of the first byte that the caller must keep; -1 if it can drop all scanned bytes.

        It must keep an incomplete selected value, an incomplete number, or an incomplete name to compare with the path.
        """
        starts = [start for start in (self._value_start, self._token_start) if start >= 0]
        return min(starts, default=-1)

    @property
    def last_begun(self) -> tuple[int, bytes, bool] | None:
        """The last selected value: its offset in the stream, the brackets around it, and whether it is incomplete."""
        if self._value_start >= 0:
            return self._base + self._value_start, bytes(self._stack[: self._value_depth]), True
        return self._last_ended and (*self._last_ended, False)

    @property
    def count(self) -> int:
        """The number of complete selected values."""
        return len(self.spans)

    def array(self, window: Window) -> bytes:
        """Return the complete selected values that were found since the last `clear` as one JSON array."""
        if not self.spans:
            return b"[]"
        with memoryview(window) as view:
            if self._contiguous:
                # The values are consecutive elements of one array: only commas and white space are between them.
                return b"".join([b"[", view[self.spans[0][0] : self.spans[-1][1]], b"]"])
            return b"[%b]" % b",".join([view[start:end] for start, end in self.spans])

    def clear(self) -> None:
        """Forget the complete selected values, after the caller has decoded them."""
        self.spans = []
        self.longest = 0

    def shift(self, count: int) -> None:
        """Adjust all positions after the caller has dropped the first ``count`` bytes that it had kept."""
        self._base += count
        if self._value_start >= 0:
            self._value_start -= count
        if self._token_start >= 0:
            self._token_start -= count
        self._string_start -= count

    def scan(self, window: Window, position: int) -> int:
        """Scan from ``position`` on; return where to continue: the end, or the start of an incomplete token."""
        self._try_small_from = 0
        end = len(window)
        # Up to Python 3.11.4 a match reads at most 2048 bytes, so it fails for each larger array or object. To limit
        # the lost time, no more matches are tried when failed ones have read as many bytes as this call has to scan.
        self._failed_bytes_left = end - position if _TURNS == b"*" else sys.maxsize
        while position < end:
            state = self._state
            if state in (IN_STRING, IN_KEY):
                after = self._walk_string(window, position)
                if after is None:
                    return self._resume_at
                position = after
                continue
            if state == IN_NUMBER:
                match = _number_bytes.match(window, position)
                stop = match.end() if match else position
                self.bytes_walked += stop - position
                position = stop
                self._check_size("number", position - self._token_start, self._max_number_bytes, self._token_start)
                if position < end:
                    self._end_number(window, position)
                continue
            match = _ws.match(window, position)
            stop = match.end() if match else position
            self.bytes_walked += stop - position + 1
            position = stop
            if position == end:
                break
            after = self._step(window, position, window[position])
            if after < 0:
                return position
            position = after
        return position

    def finish(self, window: Window, *, framed: bool) -> str:
        """End the document after the last byte; return why the document is incomplete, or ``""`` if it is complete.

        ``framed`` says whether the transport proves that all bytes were received. If it does not, a document that is a
        single number counts as incomplete, because more digits could follow.
        """
        if self._state == IN_NUMBER and not self._stack:
            if not framed:
                return UNFRAMED_NUMBER
            self._end_number(window, len(window))
        return why_incomplete(self._state, self._stack[-1] if self._stack else 0, len(self._stack))

    def _step(self, window: Window, position: int, byte: int) -> int:
        """Read one token; return the position after the token, or -1 if the token is incomplete."""
        state = self._state
        if state <= VALUE_OR_END:
            if state == VALUE_OR_END and byte == CLOSERS[ARRAY]:
                return self._close(position)
            return self._begin_value(window, position, byte)
        if state == COMMA_OR_END:
            if byte == ord(","):
                self._state = VALUE if self._stack[-1] == ARRAY else KEY
                return position + 1
            if byte == CLOSERS[self._stack[-1]]:
                return self._close(position)
            raise self._unexpected(byte, position)
        if state == COLON and byte == ord(":"):
            self._state = VALUE
            return position + 1
        if state in (KEY, KEY_OR_END) and byte == ord('"'):
            return self._begin_key(window, position)
        if state == KEY_OR_END and byte == CLOSERS[OBJECT]:
            return self._close(position)
        raise self._unexpected(byte, position)

    def _begin_value(self, window: Window, position: int, byte: int) -> int:
        depth = len(self._stack)
        if self._parts is None:
            # Without a path, the elements of a root array are selected. Any other root is selected itself.
            self._parts, self._names = (("item",), [b'"item"']) if byte == ARRAY else ((), [])
        on_path = depth == self._on_path and (
            depth == 0 or (self._parts[depth - 1] == "item" if self._stack[-1] == ARRAY else self._member_matches)
        )
        selected = on_path and depth == len(self._parts)
        if selected:
            self._value_start, self._value_depth = position, depth
            self.found = True
        if byte in CLOSERS:
            may_match = self._failed_bytes_left > 0 and self._try_small_from <= depth <= self._max_depth - _SMALL_DEPTH
            if may_match and (not on_path or selected):
                stop = min(len(window), position + _MATCHED_BYTES)
                match = _small.match(window, position, stop)
                self.bytes_walked += (match.end() if match else stop) - position
                if match and self._is_in_bounds(match.end() - position):
                    self._end_value(match.end())
                    return match.end()
                self._try_small_from = depth + 1
                self._failed_bytes_left -= stop - position
            return self._open(position, byte, enter=on_path and not selected)
        if byte == ord('"'):
            return self._begin_string(window, position)
        if byte in LITERALS:
            word = LITERALS[byte]
            text = bytes(window[position : position + len(word)])
            if text == word:
                self.bytes_walked += len(word)
                self._end_value(position + len(word))
                return position + len(word)
            if word.startswith(text):
                return -1
            raise not_a_literal(text, word, self._base + position)
        if byte == ord("-") or ord("0") <= byte <= ord("9"):
            self._state, self._token_start = IN_NUMBER, position
            return position
        raise self._unexpected(byte, position)

    def _is_in_bounds(self, size: int) -> bool:
        """Return whether an array or object of this size is too small for a string, number or path over its limit."""
        path_bytes = self._max_path_bytes
        return size <= self._small_bytes and (path_bytes is None or self._names_bytes() + size <= path_bytes)

    def _names_bytes(self) -> int:
        """Return the number of bytes in the names of all members around the current value."""
        return self._path_bytes[-1] + (self._name_bytes if self._stack and self._stack[-1] == OBJECT else 0)

    def _open(self, position: int, byte: int, *, enter: bool) -> int:
        names = self._names_bytes()
        self._path_bytes.append(names)
        self._check_size("path to the value", names, self._max_path_bytes, position)
        self._stack.append(byte)
        if len(self._stack) > self._max_depth:
            raise too_deep(len(self._stack), self._max_depth, self._base + position)
        if enter:
            self._on_path += 1
            self._array_start = self._base + position
            # A path that selects all values of an array or object exists even if the array or object is empty.
            every = "item" if byte == ARRAY else "*"
            if self._parts and len(self._parts) == self._on_path and self._parts[-1] == every:
                self.found = True
        self._state = VALUE_OR_END if byte == ARRAY else KEY_OR_END
        return position + 1

    def _close(self, position: int) -> int:
        del self._stack[-1], self._path_bytes[-1]
        self._on_path = min(self._on_path, len(self._stack))
        self._end_value(position + 1)
        return position + 1

    def _end_value(self, end: int) -> None:
        depth = len(self._stack)
        if self._value_start >= 0 and depth == self._value_depth:
            array = self._array_start if depth and self._stack[-1] == ARRAY else -1
            self._contiguous = not self.spans or (self._contiguous and array == self._last_array >= 0)
            self._last_array = array
            self.spans.append((self._value_start, end))
            self._last_ended = (self._base + self._value_start, bytes(self._stack))
            self.longest = max(self.longest, end - self._value_start)
            self._value_start = -1
        self._state = COMMA_OR_END if depth else END

    def _begin_key(self, window: Window, position: int) -> int:
        wanted = len(self._stack) == self._on_path
        match = _string.match(window, position, position + _MATCHED_BYTES)
        self.bytes_walked += (match.end() if match else position + 1) - position
        self._string_start = position
        if match is None:
            self._state = IN_KEY
            self._token_start = position if wanted else -1
            return position + 1
        self._check_string(match.end() - 1)
        if wanted:
            self._match_member(window, position, match.end())
        self._state = COLON
        return match.end()

    def _match_member(self, window: Window, start: int, end: int) -> None:
        self._check_size("name", end - start, self._max_name_bytes, start)
        raw = bytes(window[start:end])
        parts = self._parts or ()
        index = self._on_path - 1
        if b"\\" in raw:
            raw = name_of(raw)
        self._member_matches = index < len(parts) and (parts[index] == "*" or raw == self._names[index])

    def _begin_string(self, window: Window, position: int) -> int:
        match = _string.match(window, position, position + _MATCHED_BYTES)
        self.bytes_walked += (match.end() if match else position + 1) - position
        self._string_start = position
        if match is None:
            self._state = IN_STRING
            return position + 1
        self._check_string(match.end() - 1)
        self._end_value(match.end())
        return match.end()

    def _walk_string(self, window: Window, position: int) -> int | None:
        """Continue inside a string; return the position after the string, or None if the string is incomplete.

        `_resume_at` is then the position at which to continue when more bytes were received.
        """
        stop = _body_end(window, position)
        self.bytes_walked += stop - position + 1
        self._resume_at = stop
        self._check_string(stop)
        if stop == len(window):
            return None
        byte = window[stop]
        if byte == ord("\\"):
            self._check_escape(bytes(window[stop : stop + _ESCAPE_BYTES]), stop)
            return None
        if byte != ord('"'):
            raise not_in_a_string(bytes(window[stop : stop + 1]), self._base + stop)
        if self._state == IN_KEY:
            if self._token_start >= 0:
                self._match_member(window, self._token_start, stop + 1)
                self._token_start = -1
            self._state = COLON
        else:
            self._end_value(stop + 1)
        return stop + 1

    def _check_string(self, end: int) -> None:
        self._name_bytes = end - self._string_start - 1
        self._check_size("string", end - self._string_start - 1, self._max_string_bytes, self._string_start)

    def _check_size(self, what: str, size: int, most: int | None, position: int) -> None:
        if most is not None and size > most:
            raise too_long(what, size, most, self._base + position)

    def _check_escape(self, text: bytes, position: int) -> None:
        r"""Raise unless the text is the start of an escape, such as ``\n``, ``\u00e9`` or ``\ud83d\ude00``."""
        if not any(_escape.fullmatch(text + whole[len(text) :]) for whole in _WHOLE_ESCAPES):
            raise not_in_a_string(text, self._base + position)

    def _end_number(self, window: Window, end: int) -> None:
        token = bytes(window[self._token_start : end])
        self.bytes_walked += len(token)
        if _number.fullmatch(token) is None:
            raise not_a_number(token, self._base + self._token_start)
        self._token_start = -1
        self._end_value(end)

    def _unexpected(self, byte: int, position: int) -> DecodeError:
        # No value can begin with this byte. So the position is not the start of a selected value.
        if self._value_start == position:
            self._value_start = -1
        return unexpected(self._state, self._stack[-1] if self._stack else 0, byte, self._base + position)
