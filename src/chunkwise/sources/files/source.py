"""A file in any format -> batches of its items, starting at any item. A thread reads and decodes the file."""

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
_GZIP = b"\x1f\x8b"  # the first bytes of gzip data (RFC 1952 §2.3.1); no UTF-8 text begins with them
# The index is saved each time this many bytes were read, so that most of it is kept if the process is killed.
_SAVE_BYTES = 256 * 2**20


def read_file(
    path: Path, format: Format, select: PathLike = "", *, required: bool = False, max_items: int | None = None
) -> Batches:
    """Return the items of a file as a source.

    Args:
        path: the file.
        format: the format of the file.
        select: which values in the file are the items; written like the ``path`` of `items`.
        required: whether a path that selects nothing is an error.
        max_items: how many items to return at most. The rest of the file is not read.

    Raises:
        OSError: when reading begins: the file cannot be read.
        DecodeError: while reading: the file is not in the format, or is incomplete.
    """
    return _source(_Wanted(path, format, select, required), max_items)


def file_source(
    path: Path, format: str | Format, select: PathLike = "", *, required: bool = False, max_items: int | None = None
) -> Resumable:
    """Return the items of a file as a source that can start at any item, so `respond` can serve ranges of it.

    Starting at an item does not read the file from its beginning: while the file is read, positions in it are recorded,
    one per MiB, and kept in the cache folder (see `chunkwise.sources.files.cache`) until the file changes. Server-sent
    events have no such positions: their file is read from its beginning, and the items before the requested one are
    skipped.

    Args:
        path: the file.
        format: the format of the file: a name from `FORMATS`, or a `Format`.
        select: which values in the file are the items; written like the ``path`` of `items`.
        required: whether a path that selects nothing is an error.
        max_items: how many items to return at most, counted from the first item of the file, wherever the source
            starts.

    Raises:
        OSError: at once or when reading begins: the file cannot be read. While reading, with ``ESTALE``: the file has
            changed since the call, so its ETag is no longer valid. No item of the changed file is returned.
        ValueError: ``path`` is not a regular file.
        UnknownFormat: no format has this name.
        DecodeError: while reading: the file is not in the format, or is incomplete. The offset and the item index of
            the error are counted from the start of the file.
    """
    row = by_name(format)
    if not path.is_file() and path.exists():
        raise ValueError(f"expected a regular file, which can be read from any position, got {path}")
    version = FileVersion.of(path.stat())

    def start(item_index: int) -> Batches:
        rest = None if max_items is None else max(0, max_items - item_index)
        return _source(_Wanted(path, row, select, required, item_index, version), rest)

    return resumable(start, etag=version.etag)


class _Wanted(NamedTuple):
    """The file to read, and which of its items to return."""

    path: Path
    format: Format
    select: PathLike
    required: bool
    first_item: int = 0
    version: FileVersion | None = None  # the version of the file to read; None: any version, and no index is used


def _source(wanted: _Wanted, max_items: int | None) -> Batches:
    source = Batches(_read(wanted))
    return source if max_items is None else first_items(source, max_items)


async def _read(wanted: _Wanted) -> AsyncIterator[list[Any]]:
    # The end of this block closes the generator, which closes the file.
    async with aclosing(batches_in_thread(_lists(wanted), lambda: 4)) as hops:
        async for several in hops:
            for batch in several:
                if batch:
                    yield batch


def _lists(wanted: _Wanted) -> Iterator[list[Any]]:
    """Yield the items in batches.

    While the items before the first requested one are skipped, batches are empty, so that the caller can stop reading.
    """
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
    """Open the file. If a certain version is wanted, raise OSError if the path is no longer a regular file.

    If a certain version is wanted, opening does not block. Otherwise a pipe that has replaced the file could block for
    ever.
    """
    if wanted.version is None:
        return wanted.path.open("rb")
    waits_not = getattr(os, "O_NONBLOCK", 0)
    file = open(wanted.path, "rb", opener=lambda name, flags: os.open(name, flags | waits_not))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _changed(wanted.path)
    return file


def _decoded(
    file: BinaryIO, wanted: _Wanted, index: FileIndex | None, place: Checkpoint, unchanged: "_Unchanged | None"
) -> Generator[list[Any], None, None]:
    """Yield the items after a checkpoint in batches, and add further checkpoints to the index."""
    # If items are before the checkpoint, the path has selected values. So ``required`` is fulfilled, and the decoder
    # must not raise an error if no item follows.
    decoder = wanted.format.decoder(wanted.select, required=wanted.required and not place.item_index)
    noting = None if index is None else _Noting(index, place, file)
    try:
        decoder.feed(place.before)
        # At offset 0, no seek is needed, and the file may be a pipe, which cannot seek.
        if place.byte_offset:
            file.seek(place.byte_offset)
        while data := _block(file, unchanged):
            if data.startswith(_GZIP) and not decoder.bytes_seen:
                message = "the file is compressed with gzip, expected an uncompressed file: decompress it first"
                raise DecodeError(message, format=wanted.format.name, item_index=0, byte_offset=0)
            yield decoder.feed(data)
            # If the data is invalid, the first `feed` returns the items before the invalid bytes. The second call
            # raises the error.
            yield decoder.feed(b"")
            if noting is not None:
                noting.note(decoder)
        # ``framed=True`` means that no bytes are missing: the end of a file proves this.
        yield decoder.finish(framed=True)
        decoder.finish()
    except DecodeError as error:
        raise _placed(error, place) from error.__cause__
    finally:
        if noting is not None:
            noting.keep()


def _block(file: BinaryIO, unchanged: "_Unchanged | None") -> bytes:
    """Return the next bytes of the file, or ``b""`` at its end; raise OSError if the file has changed."""
    data = file.read(_BLOCK_BYTES)
    if unchanged is not None:
        unchanged.check()
    return data


class _Unchanged:
    """Raises OSError if an open file is not the requested version, or changes while it is read."""

    def __init__(self, file: BinaryIO, path: Path, asked: FileVersion) -> None:
        self._file = file
        self._path = path
        status = os.fstat(file.fileno())
        self.version = FileVersion.of(status)
        self._links = status.st_nlink
        if self.version.etag != asked.etag:
            raise _changed(path)

    def check(self) -> None:
        """Raise OSError if the file has changed.

        The modification time alone is not enough, because programs can set it back. So the change time is checked, too.
        """
        status = os.fstat(self._file.fileno())
        version = FileVersion.of(status)
        if version == self.version:
            return
        if version.etag != self.version.etag or not self._was_renamed(status):
            raise _changed(self._path)
        self.version, self._links = version, status.st_nlink

    def _was_renamed(self, status: os.stat_result) -> bool:
        """Whether the file was renamed, deleted or linked, which changes its change time, but not its content."""
        try:
            return status.st_nlink != self._links or not os.path.samestat(status, self._path.stat())
        except OSError:
            return True


def _changed(path: Path) -> OSError:
    return OSError(errno.ESTALE, "the file has changed since file_source() was called", str(path))


class _Noting:
    """Adds checkpoints to an index while a decoder reads, and saves the index from time to time."""

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
    """Change the positions in an error so that they count from the start of the file.

    The decoder has counted them from the checkpoint.
    """
    byte_offset = place.byte_offset - len(place.before)
    if isinstance(error, TruncatedError):
        error.items_seen += place.item_index
        error.bytes_seen += byte_offset
    if error.item_index is not None:
        error.item_index += place.item_index
    if error.byte_offset is not None:
        error.byte_offset += byte_offset
    return error
