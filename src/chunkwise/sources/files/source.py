"""A file in any format -> batches of its items, from any item on, read and decoded in a thread.

Must not know transports, nor which format is asked for.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from chunkwise.errors import DecodeError, TruncatedError
from chunkwise.formats import Format, by_name
from chunkwise.formats.contract import Checkpoint, Decoder
from chunkwise.formats.paths import PathLike
from chunkwise.sources.batches import Batches
from chunkwise.sources.files.cache import load, save
from chunkwise.sources.files.index import START, FileIndex, FileVersion, IndexKey
from chunkwise.sources.resumable import Resumable, first_items, resumable
from chunkwise.sources.threads import batches_in_thread

__all__ = ["file_source", "read_file"]

_BLOCK_BYTES = 64 * 1024
_GZIP = b"\x1f\x8b"  # RFC 1952 §2.3.1; no UTF-8 begins so
_SAVE_BYTES = 256 * 2**20  # read between two times that an index is kept: who is killed has so much to read again


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
    return _source(_Wanted(path, format, select, required), max_items)


def file_source(
    path: Path, format: str | Format, select: PathLike = "", *, required: bool = False, max_items: int | None = None
) -> Resumable:
    """Return the items of a file as a source that starts at any of them: `respond` gives its clients the rest.

    To start at an item, the file is not read from its beginning: places in it are noted while it is read, a MiB apart,
    and kept in the cache folder (see `index_cache`) for as long as size and times of the file stay what they are. In
    formats without such places (server-sent events) it is read from its beginning, and what is not wanted thrown away.

    Args:
        path: the file.
        format: its format, or its name.
        select: which values are the items, as the ``path`` of `items`.
        required: see `items`.
        max_items: how many items there are at most, from the first of the file on, wherever it is started.

    Raises:
        OSError: at once, or when reading begins: the file cannot be read. While reading, with ``ESTALE``: it is not
            the file any more that it was at the call, whose version the ETag names; no item is of what it is now.
        ValueError: it is no regular file.
        UnknownFormat: there is no such format.
        DecodeError: while reading: the file is not of the format, or stops early. Offsets and items are the file's.
    """
    row = by_name(format)
    if not path.is_file() and path.exists():
        raise ValueError(f"{path}: expected a regular file, which can be read again from anywhere")
    version = FileVersion.of(path.stat())

    def start(item_index: int) -> Batches:
        rest = None if max_items is None else max(0, max_items - item_index)
        return _source(_Wanted(path, row, select, required, item_index, version), rest)

    return resumable(start, etag=version.etag)


class _Wanted(NamedTuple):
    """What is to be read.

    Attributes:
        version: that the file must have; None if it does not matter, and no index is kept either.
    """

    path: Path
    format: Format
    select: PathLike
    required: bool
    first_item: int = 0
    version: FileVersion | None = None


def _source(wanted: _Wanted, max_items: int | None) -> Batches:
    source = Batches(_read(wanted))
    return source if max_items is None else first_items(source, max_items)


async def _read(wanted: _Wanted) -> AsyncIterator[list[Any]]:
    async with aclosing(batches_in_thread(_lists(wanted), lambda: 4)) as hops:  # which closes the file
        async for several in hops:
            for batch in several:
                if batch:
                    yield batch


def _lists(wanted: _Wanted) -> Iterator[list[Any]]:
    """Give the batches of what is wanted; empty ones too, so that whoever leaves is noticed on a long way."""
    with _opened(wanted) as file:
        index = unchanged = None
        if wanted.version is not None:
            unchanged = _Unchanged(file, wanted.path, wanted.version)
            index = load(IndexKey.of(wanted.path, wanted.format.name, wanted.select), unchanged.version)
        place = START if index is None else index.place_before(wanted.first_item)
        skip = wanted.first_item - place.item_index
        with closing(_decoded(file, wanted, index, place, unchanged)) as batches:
            for batch in batches:
                passed = min(skip, len(batch))
                skip -= passed
                yield batch[passed:] if passed else batch


def _opened(wanted: _Wanted) -> BinaryIO:
    """Open the file; one that must have a version can only be a regular one, and is not waited for if it is a pipe."""
    if wanted.version is None:
        return wanted.path.open("rb")
    waits_not = getattr(os, "O_NONBLOCK", 0)
    file = open(wanted.path, "rb", opener=lambda name, flags: os.open(name, flags | waits_not))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _changed(wanted.path)
    return file


def _decoded(
    file: BinaryIO, wanted: _Wanted, index: FileIndex | None, place: Checkpoint, unchanged: _Unchanged | None
) -> Generator[list[Any], None, None]:
    """Give the batches of all items behind a place, and note further ones."""
    # Behind an item there is nothing left that would have to be found.
    decoder = wanted.format.decoder(wanted.select, required=wanted.required and not place.item_index)
    noting = None if index is None else _Noting(index, place, file)
    try:
        decoder.feed(place.before)
        if place.byte_offset:  # else it may be a pipe
            file.seek(place.byte_offset)
        while data := _block(file, unchanged):
            if data.startswith(_GZIP) and not decoder.bytes_seen:
                msg = "the file is compressed with gzip, which is not undone here: decompress it first"
                raise DecodeError(msg, format=wanted.format.name, item_index=0, byte_offset=0)
            yield decoder.feed(data)
            yield decoder.feed(b"")  # raises for a defect behind the items
            if noting is not None:
                noting.note(decoder)
        yield decoder.finish(framed=True)  # a regular file has a length: what it holds is all
        decoder.finish()
    except DecodeError as error:
        raise _placed(error, place) from error.__cause__
    finally:
        if noting is not None:
            noting.keep()


def _block(file: BinaryIO, unchanged: _Unchanged | None) -> bytes:
    """Return the next bytes.

    Raises:
        OSError: the file is not any more what it was, and these bytes may be of what it is now.
    """
    data = file.read(_BLOCK_BYTES)
    if unchanged is not None:
        unchanged.check()
    return data


class _Unchanged:
    """Sees to it that a file stays what it was while it is read.

    Args:
        file: the open file.
        path: where it was found.
        asked: the version that its items were asked for of: what its ETag tells of it must be the same.

    Raises:
        OSError: the file is not any more what it was.
    """

    def __init__(self, file: BinaryIO, path: Path, asked: FileVersion) -> None:
        self._file = file
        self._path = path
        status = os.fstat(file.fileno())
        self.version = FileVersion.of(status)
        self._links = status.st_nlink
        if self.version.etag != asked.etag:
            raise _changed(path)

    def check(self) -> None:
        """Raise if it is not any more what it was: as for its size and both its times, of which one can be set back."""
        status = os.fstat(self._file.fileno())
        version = FileVersion.of(status)
        if version == self.version:
            return
        if version.etag != self.version.etag or not self._was_renamed(status):
            raise _changed(self._path)
        self.version, self._links = version, status.st_nlink

    def _was_renamed(self, status: os.stat_result) -> bool:
        """Whether it lost or got a name, if only because another file has taken its place: that is a change, too."""
        try:
            return status.st_nlink != self._links or not os.path.samestat(status, self._path.stat())
        except OSError:
            return True


def _changed(path: Path) -> OSError:
    return OSError(errno.ESTALE, "the file has changed since its items were asked for", str(path))


class _Noting:
    """Notes places while a decoder reads on from one."""

    def __init__(self, index: FileIndex, place: Checkpoint, file: BinaryIO) -> None:
        self._index = index
        self._place = place
        self._file = file
        self._kept_end = index.end
        self._keep_at = place.byte_offset + _SAVE_BYTES

    def note(self, decoder: Decoder) -> None:
        place = self._place
        skipped = place.byte_offset - len(place.before)
        read_to = skipped + decoder.bytes_seen
        if not self._index.wants(read_to):
            return
        if found := decoder.checkpoint():
            offset, item_index, before = found
            self._index.add(Checkpoint(skipped + offset, place.item_index + item_index, before))
        if read_to >= self._keep_at:
            self._keep_at = read_to + _SAVE_BYTES
            self.keep()

    def keep(self) -> None:
        index = self._index
        if index.end > self._kept_end and FileVersion.of(os.fstat(self._file.fileno())) == index.version:
            self._kept_end = index.end
            save(index)


def _placed(error: DecodeError, place: Checkpoint) -> DecodeError:
    """Let an error of a decoder that began at a place speak of the whole file."""
    byte_offset = place.byte_offset - len(place.before)
    if isinstance(error, TruncatedError):
        error.items_seen += place.item_index
        error.bytes_seen += byte_offset
    if error.item_index is not None:
        error.item_index += place.item_index
    if error.byte_offset is not None:
        error.byte_offset += byte_offset
    return error
