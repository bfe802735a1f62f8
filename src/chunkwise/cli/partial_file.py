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
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

import msgspec

from chunkwise.errors import RemoteError, TruncatedError
from chunkwise.formats.contract import Encoder
from chunkwise.formats.csv_rows import CsvEncoder
from chunkwise.transports.position import Position, Start, position_behind

_WRITE_STATE_SECONDS = 0.1  # of what came since, a crash lets no more come twice


class _State(msgspec.Struct):
    """What stands in the state file: of which request, and how far it came."""

    request: str
    position: Position
    bytes: int


class PartialFile:
    """A file with the name that it has only when it is whole.

    Args:
        output: that name.
        request: what it is the answer to: a file of another request is not gone on with.
        resumes: whether its items are the records that a server counts; otherwise it is begun again each time.
    """

    def __init__(self, output: Path, request: object, *, resumes: bool) -> None:
        self._output = output
        self._resumes = resumes
        # Not as it is: its headers may hold a password.
        self._request = hashlib.sha256(msgspec.json.encode(request)).hexdigest()
        self._part = output.with_name(output.name + ".part")
        self._state_file = self._part.with_name(self._part.name + ".state")
        self._state = self._read_state()
        self._written = monotonic()
        self._grown = False

    @property
    def name(self) -> str:
        """The name of what is not whole yet."""
        return self._part.name

    @property
    def position(self) -> Position | None:
        """Where the download goes on; None for the beginning."""
        return self._state.position if self._state is not None else None

    def _read_state(self) -> _State | None:
        if not self._resumes:
            return None
        try:
            state = msgspec.json.decode(self._state_file.read_bytes(), type=_State)
            known = state.request == self._request and self._part.stat().st_size >= state.bytes
        except (OSError, msgspec.DecodeError):
            return None
        return state if known else None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Give the file, at the place where to go on; name it as a whole one when the body has ended well.

        Raises:
            OSError: it cannot be written, or another process writes it.
        """
        with self._locked() as file:
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
            self._state_file.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """Give the file, which no other process that asks for the lock as well will write meanwhile."""
        told = BlockingIOError(errno.EWOULDBLOCK, "another chunkwise get writes this file", str(self._part))
        new = os.O_CREAT if self._state is None else 0
        try:
            number = os.open(self._part, os.O_RDWR | new | getattr(os, "O_BINARY", 0), 0o666)
        except FileNotFoundError:
            if new:
                raise
            raise told from None
        with os.fdopen(number, "r+b") as file:  # not emptied: it may be another's
            # Its lock may be free, and yet another may have renamed it before it was locked, or have written it since
            # the state was read by which the rest was asked for.
            if not (_locks(file) and self._is_named(file) and self._read_state() == self._state):
                raise told
            yield file

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
        """Say, where it cannot be gone on with, how to begin again."""
        try:
            yield
        except (TruncatedError, RemoteError) as error:
            if self._state is not None and not self._grown and getattr(error, "status", 416) == 416:
                error.message += f"; to begin again, delete {self._part}"
            raise

    def note(self, size: int, position: Position | None) -> None:
        """Note that so many bytes of the file, which are written, are the items up to a position."""
        self._grown = True
        if not self._resumes or position is None or monotonic() - self._written < _WRITE_STATE_SECONDS:
            return
        state = _State(self._request, position, size)
        new = self._state_file.with_name(self._state_file.name + ".new")
        new.write_bytes(msgspec.json.encode(state))
        new.replace(self._state_file)
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

    def position(self, items: int, start: Start | None) -> Position | None:
        """Return where a stream goes on behind so many items, which never get fewer; see `position_behind`."""
        while self._passed and self._passed[0][0] < items:
            self._passed.popleft()
        if start is None or not self._passed:
            return None
        end, batch = self._passed[0]
        return position_behind(items, batch[items - end - 1], start)


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
