# cython: language_level=3, boundscheck=False, wraparound=False
"""Windows of JSON bytes -> the spans of the selected values, and proof that the text between them is JSON: in C.

Must not know how values are decoded, nor where bytes come from. It is the compiled twin of `scanner_pure`, whose
docstrings hold here, too. Each byte is walked once, token by token; what no stream has often (defects, names with
escapes) is left to Python.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memchr, memcmp, memcpy

from chunkwise.formats.parsing.json_states import (
    LITERALS,
    UNFRAMED_NUMBER,
    name_of,
    not_a_literal,
    not_a_number,
    not_in_a_string,
    too_deep,
    too_long,
    unexpected,
    why_incomplete,
)


cdef extern from "json_bytes.h" nogil:
    ctypedef const unsigned char* Bytes
    bint is_white(unsigned char byte)
    bint is_digit(unsigned char byte)
    bint is_of_number(unsigned char byte)
    int literal_bytes(Bytes at, Bytes end)
    int escape_bytes(Bytes at, Bytes end)
    Bytes string_end(Bytes at, Bytes end, int* escapes)
    Bytes number_end(Bytes at, Bytes end)
    Bytes number_bytes_end(Bytes at, Bytes end)

cdef extern from "json_blocks.h" nogil:
    Bytes balanced_end(Bytes at, Bytes end, Py_ssize_t most)
    Bytes proven_end(Bytes at, Bytes end, Py_ssize_t most)


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX


cdef enum:  # as in json_states
    VALUE, VALUE_OR_END, KEY_OR_END, KEY, COLON, COMMA_OR_END, END, IN_STRING, IN_KEY, IN_NUMBER

cdef struct Span:
    Py_ssize_t start
    Py_ssize_t end

cdef struct Container:
    Py_ssize_t path_bytes  # of the names of all members that are open
    unsigned char opener

cdef struct Part:
    Bytes name  # in its quotes
    Py_ssize_t size
    bint is_item
    bint is_any
    unsigned char opener  # of the container in which the last value lay on this part


cdef Py_ssize_t _most(object most):
    return PY_SSIZE_T_MAX if most is None or most > PY_SSIZE_T_MAX else most


cdef Bytes _start_of(object window) except NULL:
    if isinstance(window, bytes):
        return <Bytes>PyBytes_AS_STRING(window)
    if isinstance(window, bytearray):
        return <Bytes>PyByteArray_AS_STRING(window)
    raise TypeError(f"a window is bytes or a bytearray, got {type(window).__name__}")


cdef class Scanner:
    """Finds where the values at a path start and end, window by window; see `scanner_pure.Scanner`."""

    cdef readonly bint found
    cdef readonly Py_ssize_t bytes_walked, count, longest
    cdef Span* _spans
    cdef Container* _stack
    cdef Part* _parts
    cdef list _names
    cdef Py_ssize_t _spans_size, _stack_size, _part_count, _depth, _on_path, _value_depth
    cdef Py_ssize_t _max_depth, _max_string_bytes, _max_name_bytes, _max_number_bytes, _max_path_bytes
    cdef Py_ssize_t _base, _string_start, _value_start, _token_start, _last_start, _last_array
    cdef Py_ssize_t _array_start, _name_bytes
    cdef int _state
    cdef Py_ssize_t _small_bytes
    cdef bint _contiguous, _member_matches, _root_is_open, _proves_values

    def __cinit__(self):
        self._spans = NULL
        self._stack = NULL
        self._parts = NULL

    def __init__(
        self,
        parts,
        *,
        max_depth,
        max_string_bytes=None,
        max_name_bytes=None,
        max_number_bytes=None,
        max_path_bytes=None,
        proves_values=True,
    ):
        self._max_depth = _most(max_depth)
        self._max_string_bytes = _most(max_string_bytes)
        self._max_name_bytes = _most(max_name_bytes)
        self._max_number_bytes = _most(max_number_bytes)
        self._max_path_bytes = _most(max_path_bytes)
        self._value_start = self._token_start = self._value_depth = self._last_start = -1
        self._last_array = self._array_start = -1
        self._small_bytes = min(self._max_string_bytes, self._max_name_bytes, self._max_number_bytes)
        self._proves_values = proves_values
        self._contiguous = True
        self._root_is_open = parts is None
        self._set_parts(parts or ())
        self._stack = <Container*>self._grown(self._stack, &self._stack_size, sizeof(Container))
        self._stack[0] = Container(0, 0)

    def __dealloc__(self):
        PyMem_Free(self._spans)
        PyMem_Free(self._stack)
        PyMem_Free(self._parts)

    cdef int _set_parts(self, parts) except -1:
        self._names = [b'"%b"' % part.encode() for part in parts]
        self._part_count = len(self._names)
        self._parts = <Part*>PyMem_Realloc(self._parts, max(1, self._part_count) * sizeof(Part))
        if self._parts is NULL:
            raise MemoryError
        for index, name in enumerate(self._names):
            self._parts[index] = Part(
                <Bytes>PyBytes_AS_STRING(name), len(name), name == b'"item"', name == b'"*"', 0
            )
        return 0

    cdef void* _grown(self, void* old, Py_ssize_t* size, size_t each) except NULL:
        cdef Py_ssize_t wanted = size[0] * 2 if size[0] else 64
        cdef void* new = PyMem_Realloc(old, wanted * each)
        if new is NULL:
            raise MemoryError
        size[0] = wanted
        return new

    @property
    def spans(self):
        return [(self._spans[index].start, self._spans[index].end) for index in range(self.count)]

    @property
    def complete(self):
        return self._state == END

    @property
    def keep_from(self):
        if self._value_start >= 0 and self._token_start >= 0:
            return min(self._value_start, self._token_start)
        return max(self._value_start, self._token_start, -1)

    @property
    def last_begun(self):
        cdef Py_ssize_t index
        if self._value_start >= 0:
            openers = bytes([self._stack[index + 1].opener for index in range(self._part_count)])
            return self._base + self._value_start, openers, True
        if self._last_start < 0:
            return None
        return self._last_start, bytes([self._parts[index].opener for index in range(self._part_count)]), False

    def array(self, window):
        cdef Bytes start = _start_of(window)
        cdef Py_ssize_t index, size, total
        cdef bytes text
        cdef char* to
        if not self.count:
            return b"[]"
        if self._contiguous:  # only commas and white space stand between them
            total = self._spans[self.count - 1].end - self._spans[0].start
        else:
            total = self.count - 1
            for index in range(self.count):
                total += self._spans[index].end - self._spans[index].start
        text = PyBytes_FromStringAndSize(NULL, total + 2)
        to = PyBytes_AS_STRING(text)
        to[0], to[total + 1] = b"[", b"]"
        to += 1
        if self._contiguous:
            memcpy(to, start + self._spans[0].start, total)
            return text
        for index in range(self.count):
            if index:
                to[0] = b","
                to += 1
            size = self._spans[index].end - self._spans[index].start
            memcpy(to, start + self._spans[index].start, size)
            to += size
        return text

    def clear(self):
        self.count = self.longest = 0

    def shift(self, Py_ssize_t count):
        self._base += count
        if self._value_start >= 0:
            self._value_start -= count
        if self._token_start >= 0:
            self._token_start -= count
        self._string_start -= count

    def scan(self, window, Py_ssize_t position):
        cdef Bytes start = _start_of(window)
        cdef Bytes end = start + len(window)
        cdef Bytes at = start + position
        cdef Bytes stop = at
        if at >= end:
            return position
        if self._state == IN_NUMBER:
            stop = self._go_on_in_number(start, at, end)
        elif self._state in (IN_STRING, IN_KEY):
            stop = self._go_on_in_string(start, at, end)
        if self._state < IN_STRING:
            stop = self._walk(start, stop, end)
        self.bytes_walked += stop - at
        return stop - start

    def finish(self, window, *, framed):
        cdef Bytes start = _start_of(window)
        if self._state == IN_NUMBER and not self._depth:
            if not framed:
                return UNFRAMED_NUMBER
            self._end_number(start, start + len(window))
        opener = self._stack[self._depth].opener if self._depth else 0
        return why_incomplete(self._state, opener, self._depth)

    cdef Bytes _walk(self, Bytes window, Bytes at, Bytes end) except NULL:
        """Take one token after the other, up to the end or to one that is cut, and return where."""
        # One function and in locals, since this is the hot loop: a call a token would cost as much as the token, and
        # a write through a pointer could, for all the compiler knows, have changed any field.
        cdef int state = self._state
        cdef Py_ssize_t depth = self._depth
        cdef Py_ssize_t on_path = self._on_path
        cdef Py_ssize_t value_depth = self._value_depth
        cdef unsigned char opener = self._stack[depth].opener
        cdef unsigned char byte
        cdef bint enter
        cdef int escapes = 0
        cdef Py_ssize_t size
        cdef bint refused = False
        cdef Bytes stop
        # What is walked in one go, and turns out to be cut or wrong, is walked again: not more than twice a window.
        cdef int tries = 2 if self._max_path_bytes == PY_SSIZE_T_MAX else 0
        while at < end:
            byte = at[0]
            if is_white(byte):
                at += 1
                continue
            if state == KEY or (state == KEY_OR_END and byte == b'"'):
                if byte != b'"':
                    refused = True
                    break
                escapes = 0
                stop = string_end(at + 1, end, &escapes)
                if stop == end or stop[0] != b'"' or stop - at - 1 > self._max_string_bytes:
                    self._string_start = at - window
                    self._token_start = at - window if depth == on_path else -1
                    state = IN_KEY
                    at = stop
                    break
                self._name_bytes = stop - at - 1
                if depth == on_path:
                    self._match_member(window, at, stop + 1 - at, on_path - 1, escapes)
                at = stop + 1
                state = COLON
                if at == end or at[0] != b":":
                    continue
                at += 1
                state = VALUE
                if at == end or is_white(at[0]):
                    continue
                byte = at[0]
            if state <= VALUE_OR_END and not (byte == b"]" and state == VALUE_OR_END):
                enter = False
                if depth == on_path and self._lies_on_path(byte, depth, opener):
                    enter = depth < self._part_count
                    if not enter:
                        self._value_start = at - window
                        value_depth = depth
                        self.found = True
                if byte == b'"':
                    stop = string_end(at + 1, end, &escapes)
                    if stop == end or stop[0] != b'"' or stop - at - 1 > self._max_string_bytes:
                        self._string_start = at - window
                        state = IN_STRING
                        at = stop
                        break
                    at = stop + 1
                elif byte == b"-" or is_digit(byte):
                    stop = number_end(at, end)
                    if stop is NULL or stop == end or is_of_number(stop[0]) or stop - at > self._max_number_bytes:
                        self._token_start = at - window
                        state = IN_NUMBER
                        break
                    at = stop
                elif byte == b"{" or byte == b"[":
                    if not enter and tries:
                        if depth == value_depth and not self._proves_values:
                            stop = balanced_end(at, end, self._max_depth - depth)
                        else:
                            stop = proven_end(at, end, self._max_depth - depth)
                        if stop is not NULL and stop - at <= self._small_bytes:
                            at = stop
                            if depth == value_depth:
                                self._add(at - window, opener)
                                value_depth = -1
                            state = COMMA_OR_END if depth else END
                            continue
                        tries -= 1
                        self.bytes_walked += end - at
                    self._open(at - window, byte, depth, on_path, enter)
                    depth += 1
                    on_path += enter
                    opener = byte
                    state = VALUE_OR_END if byte == b"[" else KEY_OR_END
                    at += 1
                    continue
                else:
                    size = literal_bytes(at, end)
                    if size <= 0:  # cut, or none
                        refused = size < 0
                        break
                    at += size
            elif byte == b"," and state == COMMA_OR_END:
                at += 1
                state = VALUE if opener == b"[" else KEY
                continue
            elif state != COLON and state != END and byte == opener + 2:  # as "[" and "]", "{" and "}" are in ASCII
                depth -= 1
                opener = self._stack[depth].opener
                on_path = min(on_path, depth)
                at += 1
            elif state == COLON and byte == b":":
                at += 1
                state = VALUE
                continue
            else:
                refused = True
                break
            # A value has ended.
            if depth == value_depth:
                self._add(at - window, opener)
                value_depth = -1
            state = COMMA_OR_END if depth else END
            if at < end and at[0] == b"," and depth:
                at += 1
                state = VALUE if opener == b"[" else KEY
        self._state, self._depth, self._on_path, self._value_depth = state, depth, on_path, value_depth
        if refused:
            self._refuse(window, at, end)
        elif state == IN_NUMBER:
            return self._go_on_in_number(window, at, end)
        elif state >= IN_STRING:
            self._check_string(window, at, end)
        return at

    cdef inline bint _lies_on_path(self, unsigned char byte, Py_ssize_t depth, unsigned char opener) except -1:
        if depth:
            return self._parts[depth - 1].is_item if opener == b"[" else self._member_matches
        if self._root_is_open:  # RFC 8259 §2: the root is any value; of an array the elements are wanted
            self._root_is_open = False
            self._set_parts(("item",) if byte == b"[" else ())
        return True

    cdef inline int _match_member(
        self, Bytes window, Bytes name, Py_ssize_t size, Py_ssize_t index, bint escapes
    ) except -1:
        cdef Part* part = self._parts + index
        if escapes or size > self._max_name_bytes:
            return self._match_odd_member(window, name, size, index)
        self._member_matches = index < self._part_count and (
            part.is_any or (size == part.size and memcmp(name, part.name, size) == 0)
        )
        return 0

    cdef int _match_odd_member(self, Bytes window, Bytes name, Py_ssize_t size, Py_ssize_t index) except -1:
        self._check_size("name", size, self._max_name_bytes, name - window)
        plain = name_of(name[:size]) if memchr(name, b"\\", size) is not NULL else name[:size]
        self._member_matches = index < self._part_count and (self._parts[index].is_any or plain == self._names[index])
        return 0

    cdef int _open(
        self, Py_ssize_t position, unsigned char opener, Py_ssize_t depth, Py_ssize_t on_path, bint enter
    ) except -1:
        cdef Py_ssize_t names = self._stack[depth].path_bytes
        cdef Part* part
        if self._stack[depth].opener == b"{":
            names += self._name_bytes
        if names > self._max_path_bytes:
            self._check_size("path to the value", names, self._max_path_bytes, position)
        if depth >= self._max_depth:
            raise too_deep(depth + 1, self._max_depth, self._base + position)
        if depth + 1 == self._stack_size:
            self._stack = <Container*>self._grown(self._stack, &self._stack_size, sizeof(Container))
        self._stack[depth + 1].path_bytes = names
        self._stack[depth + 1].opener = opener
        if enter:
            self._array_start = self._base + position
            part = self._parts + on_path
            if on_path + 1 == self._part_count and (part.is_item if opener == b"[" else part.is_any):
                self.found = True  # all that it holds is wanted, also if that is nothing
        return 0

    cdef int _add(self, Py_ssize_t end, unsigned char opener) except -1:
        """Note that the selected value ends here."""
        cdef Py_ssize_t array = self._array_start if opener == b"[" else -1
        cdef Py_ssize_t index
        if self.count == self._spans_size:
            self._spans = <Span*>self._grown(self._spans, &self._spans_size, sizeof(Span))
        self._contiguous = self.count == 0 or (self._contiguous and array == self._last_array and array >= 0)
        self._last_array = array
        self._last_start = self._base + self._value_start
        for index in range(self._part_count):
            self._parts[index].opener = self._stack[index + 1].opener
        self._spans[self.count] = Span(self._value_start, end)
        self.count += 1
        self.longest = max(self.longest, end - self._value_start)
        self._value_start = -1
        return 0

    cdef int _end_value(self, Py_ssize_t end) except -1:
        """End a value outside of `_walk`."""
        if self._depth == self._value_depth:
            self._add(end, self._stack[self._depth].opener)
            self._value_depth = -1
        self._state = COMMA_OR_END if self._depth else END
        return 0

    cdef Bytes _go_on_in_string(self, Bytes window, Bytes at, Bytes end) except NULL:
        cdef int escapes = 0
        cdef Py_ssize_t name = self._token_start
        cdef Bytes stop = string_end(at, end, &escapes)
        self._check_string(window, stop, end)
        if stop == end or stop[0] != b'"':
            return stop
        if self._state == IN_STRING:
            self._end_value(stop + 1 - window)
            return stop + 1
        if name >= 0:
            self._match_odd_member(window, window + name, stop + 1 - window - name, self._on_path - 1)
            self._token_start = -1
        self._state = COLON
        return stop + 1

    cdef int _check_string(self, Bytes window, Bytes stop, Bytes end) except -1:
        """Raise for a string that is too long, or cannot go on at ``stop``."""
        self._name_bytes = stop - window - self._string_start - 1
        self._check_size("string", self._name_bytes, self._max_string_bytes, self._string_start)
        if stop < end and stop[0] != b'"' and (stop[0] != b"\\" or escape_bytes(stop, end) < 0):
            raise not_in_a_string(stop[: min(end - stop, 12)], self._base + (stop - window))
        return 0

    cdef Bytes _go_on_in_number(self, Bytes window, Bytes at, Bytes end) except NULL:
        cdef Bytes stop = number_bytes_end(at, end)
        self._check_size("number", stop - window - self._token_start, self._max_number_bytes, self._token_start)
        if stop < end:
            self._end_number(window, stop)
        return stop

    cdef int _end_number(self, Bytes window, Bytes stop) except -1:
        cdef Bytes start = window + self._token_start
        self.bytes_walked += stop - start
        if number_end(start, stop) != stop:
            raise not_a_number(start[: stop - start], self._base + self._token_start)
        self._token_start = -1
        self._end_value(stop - window)
        return 0

    cdef int _check_size(self, what, Py_ssize_t size, Py_ssize_t most, Py_ssize_t position) except -1:
        if size > most:
            raise too_long(what, size, most, self._base + position)
        return 0

    cdef int _refuse(self, Bytes window, Bytes at, Bytes end) except -1:
        offset = self._base + (at - window)
        if self._state <= VALUE_OR_END and at[0] in LITERALS:
            word = LITERALS[at[0]]
            raise not_a_literal(at[: min(end - at, <Py_ssize_t>len(word))], word, offset)
        if self._value_start == at - window:  # where a value could have begun, none did
            self._value_start = self._value_depth = -1
        raise unexpected(self._state, self._stack[self._depth].opener, at[0], offset)
