# cython: language_level=3
"""An async iterable -> its items in a level's list, and a stop each time that there are enough: in C.

Must not know what is made of the items. It is the compiled twin of `gathering_pure`, whose docstrings hold here, too.
"""

from cpython.time cimport monotonic

from chunkwise.flow.gathering_pure import enough
from chunkwise.sources.closing import closing


async def gather_items(source, level):
    cdef list items = level.items
    cdef Py_ssize_t left
    cdef double latest
    left, latest = level.room()
    async with closing(source) as iterator:
        async for item in iterator:
            items.append(item)
            left -= 1
            if left <= 0 or monotonic() >= latest:
                await enough()
                left, latest = level.room()
