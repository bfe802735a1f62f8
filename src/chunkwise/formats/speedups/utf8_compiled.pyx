# cython: language_level=3
"""Bytes -> how many of them are whole characters of UTF-8: compiled twin, which makes no text of them.

Must not know what stands in the text.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE


cdef extern from "utf8_bytes.h" nogil:
    const unsigned char* utf8_end(const unsigned char* at, const unsigned char* end)


def whole_bytes(bytes data not None):
    """Return the place behind the last character before which nothing is cut or wrong."""
    cdef const unsigned char* start = <const unsigned char*>PyBytes_AS_STRING(data)
    return utf8_end(start, start + PyBytes_GET_SIZE(data)) - start
