# Batches -> their items, one by one, for `async for`; an async iterator -> its items, collected in a list.
#
# An async generator needs some 90 ns for each item, mostly to raise a StopIteration that contains the item. An object
# with `am_send`, such as a coroutine, can pass a value to `await` without an exception, in a third of that time.

async def gather_items(iterator, level, enough, now):
    cdef list items = level.items
    cdef Py_ssize_t left
    cdef double latest
    left, latest = level.room()
    async for item in iterator:
        items.append(item)
        left -= 1
        if left <= 0 or <double>now() >= latest:
            await enough()
            left, latest = level.room()


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
        """Return an awaitable for the next item: this object itself, while the batch has items."""
        # This object is returned only once until it is awaited: a caller that requests several items before it awaits
        # them must get a different item each time.
        if self._is_asked or self._next >= len(self._batch):
            return self._take_later()
        self._is_asked = True
        return self

    def __await__(self):
        return self

    def __iter__(self):  # for `yield from`, which asyncio uses to wrap awaitables
        return self

    def __next__(self):
        raise StopIteration(self._take())

    def remaining(self):
        return len(self._batch) - self._next

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
            raise RuntimeError("no item is left: await the result of __anext__() before you take the rest of the batch")
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
    # `await` calls this function from Python 3.12 on. A `raise` statement would take twice as long,
    # because it makes a traceback.
    PyErr_SetObject(StopIteration, StopIteration((<Items>items)._take()))
    return NULL


give_without_stop_iteration(<PyTypeObject*>Items, _give, _stop)
