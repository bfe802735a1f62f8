"""The file of a download that is not whole yet, and beside it what is needed to go on with it after a crash.

Must not know how items come.

``out.ndjson.part`` holds what came, ``out.ndjson.part.state`` how many bytes of it are which items. It is written
behind the bytes, so that after a crash the file may have more than it says: what is more is cut off, and comes again.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

import msgspec

from chunkwise.client.resume_point import key_of, position_behind
from chunkwise.errors import StreamError, TruncatedError
from chunkwise.formats.contract import Encoder
from chunkwise.formats.csv_rows import CsvEncoder
from chunkwise.transports.range_headers import RangeInfo, ResumePoint

_WRITE_STATE_SECONDS = 0.1  # of what came since, a crash lets no more come twice


class _State(msgspec.Struct):
    """What stands in the state file: of which request, and how far it came."""

    request: dict[str, str]
    position: ResumePoint
    bytes: int


class PartialFile:
    """A file with the name that it has only when it is whole.

    Args:
        output: that name.
        request: what it is the answer to, by the names that its user has for that: a file of another request is not
            gone on with.
        resumes: whether its items are the records that a server counts; otherwise it is begun again each time.

    Attributes:
        why_again: why what is there is not gone on with; None if it is, or nothing is there.
    """

    def __init__(self, output: Path, request: Mapping[str, object], *, resumes: bool) -> None:
        self.why_again: str | None = None
        self._output = output
        self._resumes = resumes
        # Not as it is: its headers may hold a password.
        self._request = {
            name: hashlib.sha256(msgspec.json.encode((name, value))).hexdigest() for name, value in request.items()
        }
        self._part = output.with_name(output.name + ".part")
        self._state_file = self._part.with_name(self._part.name + ".state")
        self._state: _State | None = None
        self._file: BinaryIO  # while it is locked
        self._written = monotonic()
        self._grown = False
        self._unwritten: _State | None = None  # what stands in the file, and not yet in its state

    @property
    def name(self) -> str:
        """The name of what is not whole yet."""
        return self._part.name

    @property
    def position(self) -> ResumePoint | None:
        """Where the download goes on; None for the beginning."""
        return self._state.position if self._state is not None else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all others that ask for the lock from the file, and see what is in it.

        A file that nothing was written to is taken away at the end.

        Raises:
            OSError: it cannot be written, or another process writes it.
        """
        number = os.open(self._part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(number, "r+b") as file:  # not emptied: it may be another's
            # Its lock may be free, and yet another may have renamed it before it was locked.
            if not (_locks(file) and self._is_named(file)):
                raise BlockingIOError(errno.EWOULDBLOCK, "another chunkwise get writes this file", str(self._part))
            self._state, self.why_again = self._look(os.fstat(number).st_size)
            self._file = file
            try:
                yield
            finally:
                if not file.closed and self._is_named(file):
                    with suppress(OSError):  # a disk that is full has ended the download as well
                        self._write_state()
                    if not os.fstat(number).st_size:
                        self._part.unlink()

    def _look(self, size: int) -> tuple[_State | None, str | None]:
        """Return the state if the file can be gone on with, or why it cannot."""
        if not size:
            return None, None
        if not self._resumes:
            return None, "it cannot go on with what --path or a Range selects"
        try:
            state = msgspec.json.decode(self._state_file.read_bytes(), type=_State)
        except (OSError, msgspec.DecodeError):
            state = None
        if state is None or size < state.bytes:
            return None, f"nothing tells how far {self.name} came"
        others = [name for name, digest in self._request.items() if state.request.get(name) != digest]
        if others:
            return None, f"{self.name} is of another {others[0] if 'URL' in others else ' and '.join(others)}"
        return state, None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Give the file that is locked, at the place where to go on; name it as a whole one when the body ended well.

        Raises:
            OSError: it cannot be written.
        """
        file = self._file
        size = 0 if self._state is None else self._state.bytes
        if self._state is None:
            self._state_file.unlink(missing_ok=True)
        file.truncate(size)
        file.seek(size)
        yield file
        file.flush()
        os.fsync(file.fileno())
        if sys.platform == "win32":  # where what is open cannot be renamed; else the lock is held until it is done
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
        """Let an encoder go on with what another has begun in the file."""
        like: Any = 0
        if isinstance(encoder, CsvEncoder):
            with self._part.open(encoding="utf-8", newline="") as file:
                like = dict.fromkeys(next(csv.reader(file)), "")
        return _GoingOn(encoder, like)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say where is what came, or where it cannot be gone on with, how to begin again."""
        try:
            yield
        except StreamError as error:
            if self._grown:
                error.message += f"; what came is in {self._part}"
            elif self._state is not None and (isinstance(error, TruncatedError) or getattr(error, "status", 0) == 416):
                error.message += f"; to begin again, delete {self._part}"
            raise

    def note(self, size: int, position: ResumePoint | None) -> None:
        """Note that so many bytes of the file, which are written, are the items up to a position."""
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
    """Lock a file for as long as it is open, where that can be done at all; return whether no other process has it."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # any other is of a network's file system without locks
            return not isinstance(error, BlockingIOError)
    return True


class Tracked:
    """Batches on their way, each with the index behind its last item: so that the item before any place is known.

    Args:
        batches: the batches.
        first: the index of the first item.
    """

    def __init__(self, batches: AsyncIterator[list[Any]], first: int) -> None:
        self._batches = batches
        self._passed: deque[tuple[int, list[Any]]] = deque()
        self._index = first

    async def lists(self) -> AsyncIterator[list[Any]]:
        """Give the batches."""
        async for batch in self._batches:
            self._index += len(batch)
            self._passed.append((self._index, batch))
            yield batch

    def position(self, items: int, start: RangeInfo | None) -> ResumePoint | None:
        """Return where a stream goes on behind so many items, which never get fewer; see `position_behind`."""
        while self._passed and self._passed[0][0] < items:
            self._passed.popleft()
        if start is None or not self._passed:
            return None
        end, batch = self._passed[0]
        return position_behind(items, key_of(batch[items - end - 1], start.key), start)


class _GoingOn:
    """An encoder that goes on with what another has begun.

    Args:
        encoder: a new one.
        like: an item such as the other has written, if how items are written depends on the first.
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
        """Return nothing: it has begun."""
        return b""
