# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled versions of the functions and classes in `fallback`, with the same results and errors.

The docstrings of `fallback` and `parsing.scanner` document them. Python code handles what is rare in streams: errors,
names with escapes, and events of several lines.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetObject
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.string cimport memchr, memcmp, memcpy

# The included .pxi files have no imports: tests/package/test_import_directions.py reads only the imports in this file.
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


cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

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

cdef extern from "encoded_bytes.h" nogil:
    bint holds_null_bytes(Bytes at, Bytes end)
    Py_ssize_t line_end_bytes(Bytes at, Bytes end)

cdef extern from "utf8_bytes.h" nogil:
    Bytes utf8_end(Bytes at, Bytes end)


include "scanner_walk.pxi"
include "scanner.pxi"
include "events.pxi"
include "items.pxi"


def holds_null(bytes data not None):
    cdef Bytes start = <Bytes>PyBytes_AS_STRING(data)
    return holds_null_bytes(start, start + PyBytes_GET_SIZE(data))


def line_ends(bytes data not None):
    cdef Bytes start = <Bytes>PyBytes_AS_STRING(data)
    return line_end_bytes(start, start + PyBytes_GET_SIZE(data))


def whole_bytes(bytes data not None):
    cdef Bytes start = <Bytes>PyBytes_AS_STRING(data)
    return utf8_end(start, start + PyBytes_GET_SIZE(data)) - start
