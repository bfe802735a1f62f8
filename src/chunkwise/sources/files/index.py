"""The checkpoints of a file -> the position at which to start reading when item N is requested.

Checkpoints are recorded while a file is read; decoding can start at each of them. An index has at most `_MAX_PLACES`
checkpoints. When it has more, it drops every second one and doubles the distance between new ones.
"""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from chunkwise.formats.contract import Checkpoint
from chunkwise.formats.paths import PathLike, parse_path

START = Checkpoint(0, 0, b"")

_VERSION = 1  # the version of the format of index files
# The smallest distance between checkpoints, in bytes. For files of more than 4 GiB it is doubled, once or repeatedly.
_SPACING_BYTES = 2**20
_MAX_PLACES = 4096
_MAX_BEFORES = 16
_MAX_BEFORE_BYTES = 64 * 1024
_DIGEST_BYTES = 16


class FileVersion(NamedTuple):
    """The size and times of a file. They change when its content changes."""

    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Self:
        """Return the version of a file from the result of ``os.stat``."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    @property
    def etag(self) -> str:
        """The ETag of the file, the same as in a `FileResponse` of aiohttp."""
        return f"{self.modified_ns:x}-{self.size:x}"


class IndexKey(NamedTuple):
    """The file and the format that an index belongs to, and the path (``select``) of the items in the file."""

    file: bytes
    format: str
    select: tuple[str, ...] | None

    @classmethod
    def of(cls, file: Path, format: str, select: PathLike) -> Self:
        """Return the key for a file, the name of a format, and the path that selects the items."""
        return cls(os.fsencode(file.absolute()), format, parse_path(select))

    @property
    def name(self) -> str:
        """The name of the index file in the cache folder."""
        return hashlib.blake2b(msgspec.msgpack.encode(self), digest_size=20).hexdigest()


class _Written(msgspec.Struct, array_like=True):
    """The content of an index file in the cache."""

    version: int
    key: IndexKey
    file_version: FileVersion
    spacing_bytes: int
    # The distinct values of `Checkpoint.before`. They are bytes that prepare a decoder to start at a checkpoint.
    befores: list[bytes]
    # For each checkpoint: its byte offset, its item index, and the index of its `Checkpoint.before` in ``befores``.
    places: list[tuple[int, int, int]]


class FileIndex:
    """The checkpoints of one version of a file, in ascending order."""

    def __init__(self, key: IndexKey, version: FileVersion) -> None:
        self.key = key
        self.version = version
        self._spacing_bytes = _SPACING_BYTES
        self._places: list[Checkpoint] = []
        # The distinct values of `Checkpoint.before`, numbered from 0. They are bytes that prepare a decoder to start at
        # a checkpoint.
        self._befores: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def end(self) -> int:
        """The byte offset of the last checkpoint; 0 for an empty index."""
        return self._places[-1].byte_offset if self._places else 0

    def place_before(self, item_index: int) -> Checkpoint:
        """Return the last checkpoint that is not after the given item; `START` if there is none."""
        found = bisect_right(self._places, item_index, key=lambda place: place.item_index)
        return self._places[found - 1] if found else START

    def wants(self, byte_offset: int) -> bool:
        """Whether a checkpoint at the given offset would be added, because it is far enough after the last one."""
        return byte_offset - self.end >= self._spacing_bytes

    def add(self, place: Checkpoint) -> None:
        """Add a checkpoint.

        It is ignored if it is too close to the last one. It is also ignored if `Checkpoint.before`, the bytes that
        prepare a decoder to start at it, would make the index too large.
        """
        if not self.wants(place.byte_offset):
            return
        if place.before not in self._befores:
            if len(self._befores) == _MAX_BEFORES or len(place.before) > _MAX_BEFORE_BYTES:
                return
            self._befores[place.before] = len(self._befores)
        self._places.append(place)
        if len(self._places) > _MAX_PLACES:
            self._places = self._places[1::2]
            self._spacing_bytes *= 2

    def to_bytes(self) -> bytes:
        """Return the index as the bytes of an index file."""
        places = [(place.byte_offset, place.item_index, self._befores[place.before]) for place in self._places]
        written = _Written(_VERSION, self.key, self.version, self._spacing_bytes, list(self._befores), places)
        data = msgspec.msgpack.encode(written)
        return _digest(data) + data

    @classmethod
    def from_bytes(cls, data: bytes, key: IndexKey, version: FileVersion) -> Self | None:
        """Return the index from the bytes of an index file; None if they are damaged or for another key or version."""
        digest, data = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if digest != _digest(data):
            return None
        try:
            written = msgspec.msgpack.decode(data, type=_Written)
            about = (written.version, written.key, written.file_version)
            if about != (_VERSION, key, version) or not _is_sound(written):
                return None
            index = cls(key, version)
            index._spacing_bytes = written.spacing_bytes
            index._befores = {before: number for number, before in enumerate(written.befores)}
            index._places = [
                Checkpoint(offset, item_index, written.befores[number]) for offset, item_index, number in written.places
            ]
        except msgspec.MsgspecError:
            return None
        return index


def _is_sound(written: _Written) -> bool:
    """Whether the content of an index file is valid: its checkpoints are in ascending order and within the file."""
    size, befores, places = written.file_version.size, written.befores, written.places
    return (
        1 <= written.spacing_bytes <= max(size, _SPACING_BYTES)
        and len(set(befores)) == len(befores) <= _MAX_BEFORES
        and all(len(before) <= _MAX_BEFORE_BYTES for before in befores)
        and len(places) <= _MAX_PLACES
        and all(0 <= number < len(befores) for _, _, number in places)
        and _rises([offset for offset, _, _ in places], 1, size)
        # An item has at least one byte, so an item index that exceeds the size of the file is wrong.
        and _rises([item_index for _, item_index, _ in places], 0, size)
    )


def _rises(numbers: Sequence[int], first: int, last: int) -> bool:
    return all(low <= high for low, high in pairwise([first, *numbers, last]))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
