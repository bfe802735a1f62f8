"""The bytes of a download -> a file that is renamed when it is complete, and can be continued after a crash.

``out.ndjson.part`` contains the bytes. ``out.ndjson.part.state`` says how many bytes hold how many items. The state is
written after the bytes, so after a crash the file may be longer than its state says. These extra bytes are removed, and
their items are requested again.
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

# The state file is written at most this often. After a crash, items that it does not count are requested again.
_WRITE_STATE_SECONDS = 0.1


class _State(msgspec.Struct):
    """The content of the state file: the request, the size of the data, and the position after its last item."""

    request: dict[str, str]
    position: ResumePoint
    bytes: int


class PartialFile:
    """A file whose name ends in ``.part`` until it is complete. It is then renamed to ``output``.

    An existing file is continued only if it was written for the same ``request``, the arguments of the command.
    ``resumes`` is false for a download that cannot be continued, because it has a path or a range. Each run then starts
    with an empty file.
    """

    def __init__(self, output: Path, request: Mapping[str, object], *, resumes: bool) -> None:
        # If an existing file is not continued, `locked` sets the reason here.
        self.why_again: str | None = None
        self._output = output
        self._resumes = resumes
        # Only digests of the arguments are stored, because the headers may contain a password.
        self._request = {
            name: hashlib.sha256(msgspec.json.encode((name, value))).hexdigest() for name, value in request.items()
        }
        self._part = output.with_name(output.name + ".part")
        self._state_file = self._part.with_name(self._part.name + ".state")
        self._state: _State | None = None
        # `locked` sets this to the open file.
        self._file: BinaryIO
        self._written = monotonic()
        self._grown = False
        # This is the newest state until it is written to the state file, and None after that.
        self._unwritten: _State | None = None

    @property
    def name(self) -> str:
        """The name of the file until it is complete."""
        return self._part.name

    @property
    def position(self) -> ResumePoint | None:
        """The position at which the download continues; None to start from the first item."""
        return self._state.position if self._state is not None else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file and read its state; at the end, remove the file if it is empty.

        Raises:
            OSError: the file cannot be opened, or another process uses it.
        """
        number = os.open(self._part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        # The mode is not "w", which would empty a file that another process is writing.
        with os.fdopen(number, "r+b") as file:
            # If another process renamed the file before this process locked it, the file is now a complete download,
            # which must not be written to.
            if not (_locks(file) and self._is_named(file)):
                raise BlockingIOError(
                    errno.EWOULDBLOCK, "another chunkwise get is writing to this file", str(self._part)
                )
            self._state, self.why_again = self._look(os.fstat(number).st_size)
            self._file = file
            try:
                yield
            finally:
                if not file.closed and self._is_named(file):
                    # An error, such as a full disk, is ignored here, because the download has failed already.
                    with suppress(OSError):
                        self._write_state()
                    if not os.fstat(number).st_size:
                        self._part.unlink()

    def _look(self, size: int) -> tuple[_State | None, str | None]:
        """Return the state if the file can be continued, or the reason why it cannot."""
        if not size:
            return None, None
        if not self._resumes:
            return None, "a download with --path or with a range cannot be continued"
        try:
            state = msgspec.json.decode(self._state_file.read_bytes(), type=_State)
        except (OSError, msgspec.DecodeError):
            state = None
        if state is None or size < state.bytes:
            return None, f"{self._state_file.name} is missing or does not match {self.name}"
        others = [name for name, digest in self._request.items() if state.request.get(name) != digest]
        if others:
            different = "URL" if "URL" in others else " and ".join(others)
            return None, f"{self.name} was written for a different {different}"
        return state, None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Yield the locked file, positioned where the download continues. If the ``with`` block succeeds, rename it."""
        file = self._file
        size = 0 if self._state is None else self._state.bytes
        if self._state is None:
            self._state_file.unlink(missing_ok=True)
        file.truncate(size)
        file.seek(size)
        yield file
        file.flush()
        os.fsync(file.fileno())
        # Windows cannot rename an open file. On other systems it stays open, because closing it would unlock it.
        if sys.platform == "win32":
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
        """Return an encoder whose output continues the existing file: it does not write the start again."""
        like: Any = 0
        if isinstance(encoder, CsvEncoder):
            with self._part.open(encoding="utf-8", newline="") as file:
                like = dict.fromkeys(next(csv.reader(file)), "")
        return _GoingOn(encoder, like)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add to a StreamError's message which file has the items so far, or which file to delete to start again."""
        try:
            yield
        except StreamError as error:
            if self._grown:
                error.message += f"; the items received so far are in {self._part}"
            elif self._state is not None and (isinstance(error, TruncatedError) or getattr(error, "status", 0) == 416):
                error.message += f"; to start from the first item, delete {self._part}"
            raise

    def note(self, size: int, position: ResumePoint | None) -> None:
        """Record in the state that the first ``size`` bytes of the file hold the items before ``position``."""
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
    """Lock a file until it is closed, except on Windows; return False if another process has the lock."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Any other error is ignored: a network file system may have no locks, and the file is then not locked.
            return not isinstance(error, BlockingIOError)
    return True


class Tracked:
    """Remembers the batches that are being written, because a position to resume at depends on the item before it.

    ``first`` is the index of the first item that is written.
    """

    def __init__(self, batches: AsyncIterator[list[Any]], first: int) -> None:
        self._batches = batches
        self._passed: deque[tuple[int, list[Any]]] = deque()
        self._index = first

    async def lists(self) -> AsyncIterator[list[Any]]:
        """Yield the batches; keep each one until `position` no longer needs it."""
        async for batch in self._batches:
            self._index += len(batch)
            self._passed.append((self._index, batch))
            yield batch

    def position(self, items: int, resume_point: Callable[[int, Any], ResumePoint | None]) -> ResumePoint | None:
        """Return where to continue after the first ``items`` items; see `Stream.resume_point`.

        ``items`` must not be less than in an earlier call, because the batches before it are forgotten.
        """
        while self._passed and self._passed[0][0] < items:
            self._passed.popleft()
        if not self._passed:
            return None
        end, batch = self._passed[0]
        return resume_point(items, batch[items - end - 1])


class _GoingOn:
    """An encoder that continues the output of an earlier encoder.

    In some formats, the first item decides how all items are written: in CSV, its keys are the columns. Therefore
    ``like``, an item with the keys of the earlier ones, is encoded first, and its bytes are dropped.
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
        """Return no bytes: the existing output has its start already."""
        return b""
