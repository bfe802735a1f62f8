# cython: language_level=3
"""JSON that the engine has encoded -> what has to be looked for in it: in C; the compiled twin of `encoded_pure`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE


cdef extern from "encoded_bytes.h" nogil:
    ctypedef const unsigned char* Bytes
    bint holds_null_bytes(Bytes at, Bytes end)
    Py_ssize_t line_end_bytes(Bytes at, Bytes end)


def holds_null(bytes data not None):
    cdef Bytes start = <Bytes>PyBytes_AS_STRING(data)
    return holds_null_bytes(start, start + PyBytes_GET_SIZE(data))


def line_ends(bytes data not None):
    cdef Bytes start = <Bytes>PyBytes_AS_STRING(data)
    return line_end_bytes(start, start + PyBytes_GET_SIZE(data))
