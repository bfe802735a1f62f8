# cython: language_level=3, boundscheck=False, wraparound=False
"""Lists -> what stands in them, one by one, by ``async for``: in C.

Must not know where the lists come from. It is the compiled twin of `items_pure`, whose docstrings hold here, too. An
async generator takes some 90 ns to give an item, much of it for a StopIteration that carries it; `await` also takes
values without one (``am_send``, as coroutines have it), and that is a third of it.
"""

from cpython.exc cimport PyErr_SetObject
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF


cdef extern from *:
    """
    static void give_without_stop_iteration(PyTypeObject *type, sendfunc give, iternextfunc stop) {
        type->tp_as_async->am_send = give;
        type->tp_iternext = stop;
    #ifdef Py_TPFLAGS_HAVE_AM_SEND
        type->tp_flags |= Py_TPFLAGS_HAVE_AM_SEND;
    #endif
    }
    """
    ctypedef enum PySendResult:
        PYGEN_RETURN, PYGEN_ERROR
    ctypedef PySendResult (*sendfunc)(object, object, PyObject**) except PYGEN_ERROR
    ctypedef PyObject* (*iternextfunc)(object) except? NULL
    ctypedef struct PyTypeObject
    void give_without_stop_iteration(PyTypeObject* type, sendfunc give, iternextfunc stop)


cdef class Items:
    cdef object _batches
    cdef list _batch
    cdef Py_ssize_t _next
    cdef bint _is_asked

    def __init__(self, batches):
        self._batches = batches
        self._batch = []

    def __aiter__(self):
        return self

    def __anext__(self):
        """Return what gives the next item when it is awaited: this object itself, as long as the list has one."""
        # Only once until it was awaited: who asks for several items first must not have one and the same for all.
        if self._is_asked or self._next >= len(self._batch):
            return self._take_later()
        self._is_asked = True
        return self

    def __await__(self):
        return self

    def __iter__(self):  # what __await__ returns has to be an iterator for `yield from`, which asyncio's wrappers use
        return self

    def __next__(self):
        raise StopIteration(self._take())

    def rest(self):
        rest = self._batch[self._next :]
        self._batch, self._next = [], 0
        return rest

    async def _take_later(self):
        while self._next >= len(self._batch):
            self._batch, self._next = await self._batches.__anext__(), 0
        return self._take()

    cdef object _take(self):
        if self._next >= len(self._batch):
            raise RuntimeError("an item was asked for, and all were given before it was awaited")
        self._is_asked = False
        self._next += 1
        return self._batch[self._next - 1]


cdef PySendResult _give(object items, object sent, PyObject** result) except PYGEN_ERROR:
    result[0] = NULL
    item = (<Items>items)._take()
    Py_INCREF(item)
    result[0] = <PyObject*>item
    return PYGEN_RETURN


cdef PyObject* _stop(object items) except? NULL:
    # From Python 3.12 on, `await` takes this way. By hand, since `raise` would make a traceback, and take twice as long.
    PyErr_SetObject(StopIteration, StopIteration((<Items>items)._take()))
    return NULL


give_without_stop_iteration(<PyTypeObject*>Items, _give, _stop)
