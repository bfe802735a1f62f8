"""Indexes of files <-> the cache folder, where they outlive the process.

They are in ``file-indexes`` in ``$CHUNKWISE_CACHE`` (if that is empty, they are not kept), or else in
``$XDG_CACHE_HOME/chunkwise``, or else in ``~/.cache/chunkwise`` (XDG Base Directory Specification). A failure here only
costs time and raises nothing: an index can be made again.
"""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from chunkwise.sources.files.index import FileIndex, FileVersion, IndexKey

CACHE_VARIABLE = "CHUNKWISE_CACHE"
"""The environment variable that names the folder."""

_OWN = "file-indexes"  # only indexes are in there, so the oldest files may be deleted
_MAX_FILES = 256
_MAX_BYTES = 4 * 2**20  # more than the largest index has


def load(key: IndexKey, version: FileVersion) -> FileIndex:
    """Return the index of a file's version: the one in the cache, or an empty one."""
    folder = _folder()
    if folder is not None:
        with suppress(OSError):
            file = folder / key.name
            index = FileIndex.from_bytes(_content(file), key, version)
            if index is not None:
                os.utime(file)  # used last, deleted last
                return index
    return FileIndex(key, version)


def save(index: FileIndex) -> None:
    """Keep an index unless a longer one is kept already; delete the least recently used ones."""
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
            written.replace(folder / index.key.name)  # atomic: readers see the old one or the new one
        finally:
            written.unlink(missing_ok=True)
        _prune(folder)


def _content(file: Path) -> bytes:
    """Return the bytes of a file; none if it is a pipe or a device, which might block or have no end."""
    waits_not = getattr(os, "O_NONBLOCK", 0)
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | waits_not)) as opened:
        status = os.fstat(opened.fileno())
        return opened.read(_MAX_BYTES) if stat.S_ISREG(status.st_mode) else b""


def _folder() -> Path | None:
    given = os.environ.get(CACHE_VARIABLE)
    if given is not None:
        return Path(given) / _OWN if given else None
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # "All paths must be absolute ... relative paths should be considered invalid"
        try:
            caches = Path.home() / ".cache"
        except RuntimeError:
            return None
    return caches / "chunkwise" / _OWN


def _prune(folder: Path) -> None:
    """Delete the oldest files over the limit, including those that a killed process has left."""
    aged = sorted(((file.stat().st_mtime_ns, file) for file in folder.iterdir()), reverse=True)
    for _, file in aged[_MAX_FILES:]:
        with suppress(OSError):
            file.unlink()
