"""The bytes of a download -> a file that gets its name when it is whole, and can be continued after a crash.

``out.ndjson.part`` has the bytes, ``out.ndjson.part.state`` says how many of them are which items. The state is written
after the bytes, so after a crash the file may have more of them: these are cut off, and requested again.
"""

import csv
import errno
import hashlib
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

import msgspec

from chunkwise import ResumePoint
from chunkwise.errors import StreamError, TruncatedError
from chunkwise.formats.contract import Encoder
from chunkwise.formats.csv_rows import CsvEncoder

_WRITE_STATE_SECONDS = 0.1  # after a crash, the items of so many seconds are requested again


class _State(msgspec.Struct):
    """The content of the state file: the request, and which bytes are which items."""

    request: dict[str, str]
    position: ResumePoint
    bytes: int


class PartialFile:
    """A file that gets its name, ``output``, only when it is whole.

    The file of another ``request``, the words of the command, is not continued. ``resumes`` says whether its items are
    the records that a server counts; otherwise each run begins with an empty file.
    """

    def __init__(self, output: Path, request: Mapping[str, object], *, resumes: bool) -> None:
        self.why_again: str | None = None  # why the existing file is not continued, if there is one
        self._output = output
        self._resumes = resumes
        # Digests only: its headers may hold a password.
        self._request = {
            name: hashlib.sha256(msgspec.json.encode((name, value))).hexdigest() for name, value in request.items()
        }
        self._part = output.with_name(output.name + ".part")
        self._state_file = self._part.with_name(self._part.name + ".state")
        self._state: _State | None = None
        self._file: BinaryIO  # while it is locked
        self._written = monotonic()
        self._grown = False
        self._unwritten: _State | None = None  # in the file, and not yet in its state

    @property
    def name(self) -> str:
        """The name of the file until it is whole."""
        return self._part.name

    @property
    def position(self) -> ResumePoint | None:
        """Where the download continues; None for the beginning."""
        return self._state.position if self._state is not None else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file, and read its state; OSError if it is in use. A file that is empty at the end is removed."""
        number = os.open(self._part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(number, "r+b") as file:  # not emptied: another process may write it
            # Another process may have renamed it before it was locked here.
            if not (_locks(file) and self._is_named(file)):
                raise BlockingIOError(errno.EWOULDBLOCK, "another chunkwise get writes this file", str(self._part))
            self._state, self.why_again = self._look(os.fstat(number).st_size)
            self._file = file
            try:
                yield
            finally:
                if not file.closed and self._is_named(file):
                    with suppress(OSError):  # a full disk, which has ended the download already
                        self._write_state()
                    if not os.fstat(number).st_size:
                        self._part.unlink()

    def _look(self, size: int) -> tuple[_State | None, str | None]:
        """Return the state if the file can be continued, or why it cannot."""
        if not size:
            return None, None
        if not self._resumes:
            return None, "it cannot go on with items that --path or a Range selects"
        try:
            state = msgspec.json.decode(self._state_file.read_bytes(), type=_State)
        except (OSError, msgspec.DecodeError):
            state = None
        if state is None or size < state.bytes:
            return None, f"{self.name} has no state that fits it"
        others = [name for name, digest in self._request.items() if state.request.get(name) != digest]
        if others:
            return None, f"{self.name} is of another {others[0] if 'URL' in others else ' and '.join(others)}"
        return state, None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Yield the locked file, at the position where to continue, and give it its name if the body ends well."""
        file = self._file
        size = 0 if self._state is None else self._state.bytes
        if self._state is None:
            self._state_file.unlink(missing_ok=True)
        file.truncate(size)
        file.seek(size)
        yield file
        file.flush()
        os.fsync(file.fileno())
        if sys.platform == "win32":  # an open file cannot be renamed there; elsewhere it stays locked until it is
            file.close()
        self._part.replace(self._output)
        self._unwritten = None
        self._state_file.unlink(missing_ok=True)

    def _is_named(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._part.stat())
        except FileNotFoundError:
            return False

    def goes_on(self, encoder: Encoder) -> Encoder:
        """Return an encoder that continues the file."""
        like: Any = 0
        if isinstance(encoder, CsvEncoder):
            with self._part.open(encoding="utf-8", newline="") as file:
                like = dict.fromkeys(next(csv.reader(file)), "")
        return _GoingOn(encoder, like)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add to an error where the items are, or, if the file cannot be continued, how to begin again."""
        try:
            yield
        except StreamError as error:
            if self._grown:
                error.message += f"; the items so far are in {self._part}"
            elif self._state is not None and (isinstance(error, TruncatedError) or getattr(error, "status", 0) == 416):
                error.message += f"; to begin again, delete {self._part}"
            raise

    def note(self, size: int, position: ResumePoint | None) -> None:
        """Note that so many bytes, which are written, are the items up to a position."""
        self._grown = True
        if not self._resumes or position is None:
            return
        self._unwritten = _State(self._request, position, size)
        if monotonic() - self._written >= _WRITE_STATE_SECONDS:
            self._write_state()

    def _write_state(self) -> None:
        if self._unwritten is None:
            return
        new = self._state_file.with_name(self._state_file.name + ".new")
        try:
            new.write_bytes(msgspec.json.encode(self._unwritten))
        except OSError:
            new.unlink(missing_ok=True)
            raise
        new.replace(self._state_file)
        self._unwritten = None
        self._written = monotonic()


def _locks(file: BinaryIO) -> bool:
    """Lock a file as long as it is open, where the system can do that; return False if another process has the lock."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # other errors are from network file systems without locks
            return not isinstance(error, BlockingIOError)
    return True


class Tracked:
    """Batches that are being written: the item before any position is known. ``first`` is the first item's index."""

    def __init__(self, batches: AsyncIterator[list[Any]], first: int) -> None:
        self._batches = batches
        self._passed: deque[tuple[int, list[Any]]] = deque()
        self._index = first

    async def lists(self) -> AsyncIterator[list[Any]]:
        """Yield the batches."""
        async for batch in self._batches:
            self._index += len(batch)
            self._passed.append((self._index, batch))
            yield batch

    def position(self, items: int, resume_point: Callable[[int, Any], ResumePoint | None]) -> ResumePoint | None:
        """Return where to continue after so many items, which must not become fewer; see `Stream.resume_point`."""
        while self._passed and self._passed[0][0] < items:
            self._passed.popleft()
        if not self._passed:
            return None
        end, batch = self._passed[0]
        return resume_point(items, batch[items - end - 1])


class _GoingOn:
    """An encoder that continues the output of another one.

    It begins with an item ``like`` those of the other, for formats in which the first item decides how all are written.
    """

    def __init__(self, encoder: Encoder, like: Any) -> None:
        encoder.start()
        encoder.encode([like])
        self.encode = encoder.encode
        self.open_item = encoder.open_item
        self.close_item = encoder.close_item
        self.finish = encoder.finish
        self.fail = encoder.fail

    def start(self) -> bytes:
        """Return nothing: the other encoder has returned it."""
        return b""
