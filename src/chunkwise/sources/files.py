"""A file in any format -> batches of its items, read and decoded in a thread.

Must not know transports, nor which format is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from chunkwise.formats import Format
from chunkwise.formats.paths import PathLike
from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import first_items
from chunkwise.sources.threads import batches_in_thread

_BLOCK_BYTES = 64 * 1024


def read_file(
    path: Path, format: Format, select: PathLike = "", *, required: bool = False, max_items: int | None = None
) -> Batches:
    """Return the items of a file as a source.

    Args:
        path: the file.
        format: its format.
        select: which values are the items, as the ``path`` of `items`.
        required: see `items`.
        max_items: how many items to give at most; the rest of the file is then not read.

    Raises:
        OSError: when reading begins: the file cannot be read.
        DecodeError: while reading: the file is not of the format, or stops early.
    """
    source = Batches(_read(path, format, select, required))
    return source if max_items is None else first_items(source, max_items)


async def _read(path: Path, format: Format, select: PathLike, required: bool) -> AsyncIterator[list[Any]]:
    decoder = format.decoder(select, required=required)

    def lists() -> Iterator[list[Any]]:
        with path.open("rb") as file:
            while data := file.read(_BLOCK_BYTES):
                yield decoder.feed(data)
                yield decoder.feed(b"")  # raises for a defect behind the items
        yield decoder.finish(framed=True)  # a regular file has a length: what it holds is all
        decoder.finish()

    async with aclosing(batches_in_thread(lists(), lambda: 4)) as hops:  # which closes the file
        async for several in hops:
            for batch in several:
                if batch:
                    yield batch
