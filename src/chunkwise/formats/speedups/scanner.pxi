# JSON bytes in windows -> the start and the end of each selected value. All bytes between these values are checked too.

cdef Py_ssize_t _most(object most):
    return PY_SSIZE_T_MAX if most is None or most > PY_SSIZE_T_MAX else most


cdef Bytes _start_of(object window) except NULL:
    if isinstance(window, bytes):
        return <Bytes>PyBytes_AS_STRING(window)
    if isinstance(window, bytearray):
        return <Bytes>PyByteArray_AS_STRING(window)
    raise TypeError(f"window must be bytes or a bytearray, got {type(window).__name__}")


cdef class Scanner(Walk):
    """Finds the start and the end of the values at a path, window by window; see `parsing.scanner.Scanner`."""

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
        # If only commas and white space are between the selected values, all of it is copied in one call.
        if self._contiguous:
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
