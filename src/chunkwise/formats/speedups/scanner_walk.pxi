# JSON bytes -> the start and the end of each selected value, found token by token.
# `Scanner` in scanner.pxi passes the bytes.

cdef enum:  # the same states as in json_states.py; a test compares them
    VALUE, VALUE_OR_END, KEY_OR_END, KEY, COLON, COMMA_OR_END, END, IN_STRING, IN_KEY, IN_NUMBER

cdef enum:
    ARRAY = 0x5B  # [
    OBJECT = 0x7B  # {


cdef inline unsigned char closer_of(unsigned char opener) noexcept:
    return opener + 2  # ASCII: "[" and "]", "{" and "}"


STATES = {
    "VALUE": VALUE,
    "VALUE_OR_END": VALUE_OR_END,
    "KEY_OR_END": KEY_OR_END,
    "KEY": KEY,
    "COLON": COLON,
    "COMMA_OR_END": COMMA_OR_END,
    "END": END,
    "IN_STRING": IN_STRING,
    "IN_KEY": IN_KEY,
    "IN_NUMBER": IN_NUMBER,
}
CLOSERS = {ARRAY: closer_of(ARRAY), OBJECT: closer_of(OBJECT)}

cdef struct Span:
    Py_ssize_t start
    Py_ssize_t end

cdef struct Container:
    Py_ssize_t path_bytes  # the number of bytes of the names of all members that have begun and not ended
    unsigned char opener

cdef struct Part:
    Bytes name  # the name in quotes
    Py_ssize_t size
    bint is_item
    bint is_any
    unsigned char opener  # the open bracket of the array or object that contains the value that this part selected last


cdef class Walk:
    """Scans one window and keeps the state between windows. All state is in one class for fast access to its fields."""

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

    def __dealloc__(self):
        PyMem_Free(self._spans)
        PyMem_Free(self._stack)
        PyMem_Free(self._parts)

    cdef Bytes _walk(self, Bytes window, Bytes at, Bytes end) except NULL:
        """Scan token by token; return the end of the window, or the start of an incomplete token."""
        # This is the hot loop. It is one long function, because a call for each token would double the time. The state
        # is in local variables, because the compiler has to reload fields after each write through a pointer.
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
        # A container that cannot be skipped at once is scanned again token by token: at most twice in each window.
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
            if state <= VALUE_OR_END and not (byte == closer_of(ARRAY) and state == VALUE_OR_END):
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
                elif byte == OBJECT or byte == ARRAY:
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
                    state = VALUE_OR_END if byte == ARRAY else KEY_OR_END
                    at += 1
                    continue
                else:
                    size = literal_bytes(at, end)
                    if size <= 0:  # the window ends inside the literal, or the bytes are not a literal
                        refused = size < 0
                        break
                    at += size
            elif byte == b"," and state == COMMA_OR_END:
                at += 1
                state = VALUE if opener == ARRAY else KEY
                continue
            elif state != COLON and state != END and byte == closer_of(opener):
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
            # At this point of the loop a value has ended.
            if depth == value_depth:
                self._add(at - window, opener)
                value_depth = -1
            state = COMMA_OR_END if depth else END
            if at < end and at[0] == b"," and depth:
                at += 1
                state = VALUE if opener == ARRAY else KEY
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
            return self._parts[depth - 1].is_item if opener == ARRAY else self._member_matches
        if self._root_is_open:  # RFC 8259 §2: the root is any value; if it is an array, select its elements
            self._root_is_open = False
            self._set_parts(("item",) if byte == ARRAY else ())
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
        if self._stack[depth].opener == OBJECT:
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
            if on_path + 1 == self._part_count and (part.is_item if opener == ARRAY else part.is_any):
                # A path that selects all values of an array or object is found even if there are no values.
                self.found = True
        return 0

    cdef int _add(self, Py_ssize_t end, unsigned char opener) except -1:
        """Add the span of the selected value that ends at ``end``."""
        cdef Py_ssize_t array = self._array_start if opener == ARRAY else -1
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
        """End a value. For speed, `_walk` does the same without calling this method."""
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
        """Raise an error if a string is too long, or if the byte at ``stop`` is not allowed in it."""
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
        # If a selected value was expected here, it has not begun, because no value can begin with this byte.
        if self._value_start == at - window:
            self._value_start = self._value_depth = -1
        raise unexpected(self._state, self._stack[self._depth].opener, at[0], offset)

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
