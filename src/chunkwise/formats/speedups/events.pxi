# Server-sent events -> the data of each event, as one run of lines. The function returns None if an event has several
# data lines, a retry field or too much data; then `formats.sse` reads the events line by line.

def event_texts(bytes run not None, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t max_bytes):
    cdef const char* at = PyBytes_AS_STRING(run) + start
    cdef const char* end = PyBytes_AS_STRING(run) + stop
    cdef const char* line_end
    cdef const char* colon
    cdef const char* value
    cdef const char* last_id = NULL
    cdef Py_ssize_t last_id_size = 0, size, name_size, count = 0
    cdef bytes texts = PyBytes_FromStringAndSize(NULL, stop - start)
    cdef char* begin = PyBytes_AS_STRING(texts)
    cdef char* to = begin
    cdef char* text = NULL  # the start of the data of the current event; NULL before its data line
    while at < end:
        line_end = <const char*>memchr(at, b"\n", end - at)
        if line_end is at:  # a blank line ends the event
            if text is not NULL:
                to[0] = b"\n"
                to += 1
                count += 1
                text = NULL
            at += 1
            continue
        colon = <const char*>memchr(at, b":", line_end - at)
        name_size = (line_end if colon is NULL else colon) - at
        value = line_end if colon is NULL else colon + 1
        if value < line_end and value[0] == b" ":
            value += 1
        size = line_end - value
        if name_size == 4 and memcmp(at, b"data", 4) == 0:
            if text is not NULL or size > max_bytes:
                return None
            text = to
            memcpy(to, value, size)
            to += size
        elif name_size == 2 and memcmp(at, b"id", 2) == 0:
            if size == 0 or memchr(value, 0, size) is NULL:  # ignore an id with NUL (WHATWG HTML §9.2.6)
                last_id, last_id_size = value, size
        elif name_size == 5 and memcmp(at, b"retry", 5) == 0:
            return None
        at = line_end + 1
    return texts[: max(0, to - begin - 1)], count, None if last_id is NULL else last_id[:last_id_size]
