"""Indexes of files <-> the cache folder, where other processes find them.

The folder is ``$CHUNKWISE_CACHE/file-indexes``. If ``$CHUNKWISE_CACHE`` is not set, it is
``$XDG_CACHE_HOME/chunkwise/file-indexes``, and if that is not set either, ``~/.cache/chunkwise/file-indexes`` (XDG Base
Directory Specification). If ``$CHUNKWISE_CACHE`` is set but empty, indexes are not saved. If an index cannot be loaded
or saved, no error is raised, because a new one can be built.
"""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from chunkwise.sources.files.index import FileIndex, FileVersion, IndexKey

CACHE_VARIABLE = "CHUNKWISE_CACHE"
"""The environment variable with the path of the cache folder."""

# Only indexes are in this subfolder, so that `_prune` deletes no other files.
_OWN = "file-indexes"
_MAX_FILES = 256
_MAX_BYTES = 4 * 2**20  # how many bytes of a file are read at most; every index is smaller


def load(key: IndexKey, version: FileVersion) -> FileIndex:
    """Return the index of a version of a file from the cache; return an empty index if the cache has none."""
    folder = _folder()
    if folder is not None:
        with suppress(OSError):
            file = folder / key.name
            index = FileIndex.from_bytes(_content(file), key, version)
            if index is not None:
                # The new time shows that this index was used, because `_prune` deletes the files with the oldest times.
                os.utime(file)
                return index
    return FileIndex(key, version)


def save(index: FileIndex) -> None:
    """Save an index, unless the cache has a longer one; if there are too many, delete the least recently used."""
    folder = _folder()
    if folder is None or not len(index) or load(index.key, index.version).end >= index.end:
        return
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        written = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(index.to_bytes())
            written.replace(folder / index.key.name)  # atomic: readers see the old or the new index
        finally:
            written.unlink(missing_ok=True)
        _prune(folder)


def _content(file: Path) -> bytes:
    """Return the bytes of a regular file; return ``b""`` for a pipe or a device, which might block or have no end."""
    waits_not = getattr(os, "O_NONBLOCK", 0)
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | waits_not)) as opened:
        status = os.fstat(opened.fileno())
        return opened.read(_MAX_BYTES) if stat.S_ISREG(status.st_mode) else b""


def _folder() -> Path | None:
    given = os.environ.get(CACHE_VARIABLE)
    if given is not None:
        return Path(given) / _OWN if given else None
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # the XDG specification says to ignore relative paths
        try:
            caches = Path.home() / ".cache"
        except RuntimeError:
            return None
    return caches / "chunkwise" / _OWN


def _prune(folder: Path) -> None:
    """Keep only the newest `_MAX_FILES` files. This also deletes temporary files of processes that were killed."""
    aged = sorted(((file.stat().st_mtime_ns, file) for file in folder.iterdir()), reverse=True)
    for _, file in aged[_MAX_FILES:]:
        with suppress(OSError):
            file.unlink()
