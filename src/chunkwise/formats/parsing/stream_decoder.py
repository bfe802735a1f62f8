"""Bytes in chunks -> items: the base classes of the decoders, which handle UTF-8, lines, records, counts and errors."""

import codecs
import re
from abc import ABC, abstractmethod
from typing import Any, NoReturn, Self

from chunkwise.errors import DecodeError, LimitError, PathNotFound, RemoteError, TruncatedError
from chunkwise.formats.contract import DEFAULT_LIMITS, Checkpoint, Limits
from chunkwise.formats.parsing.json_values import ValueDecoder
from chunkwise.formats.paths import PathLike, parse_path
from chunkwise.formats.speedups import Scanner, whole_bytes

BOM = codecs.BOM_UTF8
_NOT_OPENERS = bytes(set(range(256)) - set(b"[{\n"))


def whole_characters(data: bytes) -> tuple[int, str]:
    """Return how many bytes at the start of the data are complete UTF-8 characters, and why the next byte is invalid.

    The reason is ``""`` if no byte is invalid. Then the bytes after the complete characters, if any, begin another one.
    """
    whole = whole_bytes(data)
    if whole == len(data):
        return whole, ""
    try:
        return whole + codecs.utf_8_decode(data[whole:], "strict", False)[1], ""  # noqa: FBT003 - more data may follow
    except UnicodeDecodeError as error:
        return whole + error.start, error.reason


class LineSplitter:
    r"""Chunks -> complete lines. The bytes of an incomplete line are kept until its line end is received.

    Lines end with ``\n``. A ``\r`` before the ``\n`` is part of the line: it is white space in JSON, and the other
    formats remove it. `offset` is the offset in the stream of the lines that `feed` or `rest` returned last. The
    time is proportional to the number of bytes, even if a line is received in many chunks.
    """

    def __init__(self, max_bytes: int, limit_name: str) -> None:
        self.offset: int = 0
        # The incomplete line is kept in one buffer, because a list of many small chunks would need more memory.
        self._pending = bytearray()
        self._max_bytes = max_bytes
        self._limit_name = limit_name
        self._next_offset = 0
        self._too_long: LimitError | None = None

    @classmethod
    def of_items(cls, limits: Limits) -> Self:
        """Return a splitter for lines that are items: both `max_item_bytes` and `max_line_bytes` limit each line."""
        name = "max_item_bytes" if limits.max_item_bytes < limits.max_line_bytes else "max_line_bytes"
        return cls(getattr(limits, name), name)

    @property
    def pending_offset(self) -> int:
        """The offset in the stream of the incomplete line."""
        return self._next_offset

    def feed(self, data: bytes, byte_offset: int) -> bytes:
        r"""Return the lines that the data completes, including the last ``\n``; ``b""`` if it completes none.

        Args:
            data: the next bytes.
            byte_offset: the offset of the data in the stream.
        """
        if not self._pending:
            self._next_offset = byte_offset
        stop = data.rfind(b"\n") + 1
        if not stop:
            self._pending += data
            return b""
        run = bytes(self._pending) + data[:stop] if self._pending else data[:stop]
        self.offset = self._next_offset
        self._next_offset = byte_offset + stop
        self._pending = bytearray(data[stop:])
        if len(run) > self._max_bytes:
            run = self._before_too_long(run)
        return run

    def check(self) -> None:
        """Raise LimitError if a line has too many bytes.

        Before you call this, decode the lines that `feed` returned. They are before the line with too many bytes, so
        their items must be returned before the error is raised.
        """
        # The last byte may be the "\r" of a line end, which does not count as a byte of the line.
        if self._too_long is None and len(self._pending) > self._max_bytes + 1:
            self._too_long = self._error(len(self._pending), self._next_offset)
        if self._too_long is not None:
            raise self._too_long

    def rest(self) -> bytes:
        """Return the bytes after the last line end; raise LimitError if they exceed the limit."""
        self.offset = self._next_offset
        text = bytes(self._pending)
        if len(text.removesuffix(b"\r")) > self._max_bytes:
            raise self._error(len(text), self.offset)
        return text

    def _before_too_long(self, run: bytes) -> bytes:
        start = 0
        while start < len(run):
            stop = run.index(b"\n", start)
            size = stop - start - (run[stop - 1 : stop] == b"\r" and stop > start)
            if size > self._max_bytes:
                self._too_long = self._error(size, self.offset + start)
                return run[:start]
            start = stop + 1
        return run

    def _error(self, size: int, byte_offset: int) -> LimitError:
        msg = f"got a line of at least {size} bytes, expected no more than {self._max_bytes} ({self._limit_name})"
        return LimitError(msg, byte_offset=byte_offset)


class StreamDecoder(ABC):
    """Skips a byte order mark, checks UTF-8 and counts items.

    If the data contains items and then an error, `feed` or `finish` returns the items, and the next call raises the
    error. A format implements `_decode` and `_finish`, which append items to a list and raise an error at invalid
    bytes. `MakeDecoder` documents the arguments.
    """

    name: str
    resynchronises = False
    """Whether the decoder continues with the next record after it has raised an error."""
    checks_utf8 = True
    """Whether this class raises for invalid UTF-8; False if the format handles it."""

    def __init__(
        self, path: PathLike = "", *, type: Any = Any, required: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.items_seen: int = 0
        self.bytes_seen: int = 0
        self._parts = parse_path(path)
        self._type = type
        self._limits = limits
        self._found = not (required and self._parts)  # False if the path is required and was not found yet
        self._failure: DecodeError | RemoteError | None = None
        self._held = b""  # the first bytes of an incomplete UTF-8 character
        # The first bytes of the stream, while they may be an incomplete byte order mark; None after that.
        self._bom_pending: bytes | None = b""
        # If `feed` raises the error of an earlier call, it keeps its data here, and the next call decodes the data.
        self._unread = b""
        self._finished = False
        self._complete = False
        self._proven = False  # whether the received bytes prove that the stream is complete

    @property
    def records_seen(self) -> int:
        return 0

    @property
    def whole_records(self) -> int | None:
        return None

    @property
    def proves_end(self) -> bool:
        return self._complete and self._proven

    def feed(self, data: bytes) -> list[Any]:
        out: list[Any] = []
        if self._failure is not None:
            if self.resynchronises:
                self._unread += data
            self._raise(self._failure)
        if self._finished:
            raise ValueError("feed() was called after finish(): create a new decoder for each stream")
        if self._unread:
            data, self._unread = self._unread + data, b""
        try:
            if self._bom_pending is not None:
                data = self._without_bom(data)
            self._decode_valid(data, out)
        except (DecodeError, RemoteError) as error:
            self._keep(error, out)
        self.items_seen += len(out)
        return out

    def checkpoint(self) -> Checkpoint | None:
        if self._failure is not None or self._finished or not self.items_seen:
            return None
        place = self._checkpoint()
        if place is None or not place.item_index:
            return None
        # A byte order mark is added, because a new decoder skips one U+FEFF at its start. Without this mark, it would
        # skip a U+FEFF that begins an item and is part of the item.
        return place._replace(before=BOM + place.before)

    def _checkpoint(self) -> Checkpoint | None:
        """Return the last position from which a new decoder can read; None if there is no such position."""
        return None

    def finish(self, *, framed: bool = False) -> list[Any]:
        out: list[Any] = []
        if self._failure is not None:
            self._raise(self._failure)
        if self._complete:
            return out
        self._finished = True
        data, self._unread = (self._bom_pending or b"") + self._unread, b""
        self._bom_pending = None
        try:
            if self.checks_utf8 and (data or self._held):
                self.bytes_seen += len(data)
                raise TruncatedError("the stream ended inside a UTF-8 character")
            if data:
                self._decode_valid(data, out)
            self._finish(out, framed=framed)
        except DecodeError as error:
            self._keep(error, out)
        self.items_seen += len(out)
        if not (self._found or self.items_seen):
            raise PathNotFound(f"path {'.'.join(self._parts or ())!r} was not found in the stream", format=self.name)
        self._complete = self._failure is None
        return out

    @abstractmethod
    def _decode(self, data: bytes, out: list[Any]) -> None:
        """Append to ``out`` every item that the data completes; then raise an error if invalid bytes follow."""

    @abstractmethod
    def _finish(self, out: list[Any], *, framed: bool) -> None:
        """Append to ``out`` the items that only the end of the stream completes, such as a line without a line end.

        If the stream is incomplete, raise TruncatedError.
        """

    def _without_bom(self, data: bytes) -> bytes:
        # One byte order mark at the start of a stream is removed: it is not part of the text (Unicode §23.8).
        start = (self._bom_pending or b"") + data
        if BOM.startswith(start):
            if start == BOM:
                self._bom_pending = None
                self.bytes_seen += len(BOM)
            else:
                self._bom_pending = start
            return b""
        self._bom_pending = None
        if start.startswith(BOM):
            self.bytes_seen += len(BOM)
            return start[len(BOM) :]
        return start

    def _decode_valid(self, data: bytes, out: list[Any]) -> None:
        """Decode the data up to the first byte that is not valid UTF-8."""
        if not self.checks_utf8:
            self.bytes_seen += len(data)
            self._decode(data, out)
            return
        # The bytes of an incomplete character are kept until its other bytes are received. If they were decoded now, a
        # number directly before them would be returned as an item. But if the same bytes are in one chunk and the
        # character is invalid, the number is not returned. The items must not depend on the sizes of the chunks.
        start, end = self.bytes_seen - len(self._held), self.bytes_seen + len(data)
        data = self._held + data if self._held else data
        defect = None
        whole, reason = whole_characters(data)
        if reason:
            message = f"invalid UTF-8: got byte 0x{data[whole]:02x} ({reason})"
            defect = DecodeError(message, byte_offset=start + whole)
        self._held = b"" if defect else data[whole:]
        try:
            # `_decode` computes offsets from `bytes_seen`, which must be the offset after the bytes that it gets.
            self.bytes_seen = start + whole
            self._decode(data[:whole], out)
        finally:
            self.bytes_seen = end
        if defect is not None:
            raise defect

    def _keep(self, error: DecodeError | RemoteError, out: list[Any]) -> None:
        """Raise the error if ``out`` is empty; otherwise store the error.

        In the second case, this call of `feed` or `finish` returns ``out``, and the next call raises the error.
        """
        error.format = self.name
        count = self.items_seen + len(out)
        if isinstance(error, TruncatedError):
            error.items_seen, error.bytes_seen = count, self.bytes_seen
        else:
            error.item_index = count
        self._failure = error
        if not out:
            self._raise(error)

    def _raise(self, error: DecodeError | RemoteError) -> NoReturn:
        if self.resynchronises and not isinstance(error, (TruncatedError, LimitError)):
            self._failure = None
        raise error


class RecordDecoder(StreamDecoder):
    """Decodes records of one JSON text each; valid records are decoded many at a time."""

    def __init__(self, path: PathLike = "", **options: Any) -> None:
        super().__init__(path, **options)
        self._records_seen = 0
        self._values = ValueDecoder(self._type)
        # This pattern finds a line with more than `max_depth` opening brackets, after all bytes except opening brackets
        # and line feeds were removed from the data.
        self._deep = re.compile(rb"[\[{]{%d}" % (self._limits.max_depth + 1))

    @property
    def records_seen(self) -> int:
        return self._records_seen

    @property
    def whole_records(self) -> int | None:
        return self._records_seen

    def _decode_many(self, run: bytes, count: int | None = None) -> list[Any] | None:
        r"""Decode many records, with a ``\n`` between them, at once; return None if they must be decoded one by one.

        This is the case if a record is invalid or may be nested too deeply, or if the decoder has a path. If you
        pass ``count``, None is also returned if the number of records differs. Pass it if a record may contain line
        ends: each of its lines could be decoded as a record.
        """
        if self._parts or self._may_be_deep(run):
            return None
        values = self._values.lines(run)
        if values is None or len(values) != (count or len(values)):
            return None
        self._records_seen += len(values)
        return values

    def _decode_one(self, text: bytes, offset: int, out: list[Any]) -> None:
        """Append the items of one record to ``out``; ``offset`` is the offset of the record in the stream."""
        if self._parts or self._may_be_deep(text):
            self._select(text, offset, out)
        else:
            out.append(self._values.one(text, offset))
        self._records_seen += 1

    def _may_be_deep(self, run: bytes) -> bool:
        return self._deep.search(run.translate(None, _NOT_OPENERS)) is not None

    def _select(self, text: bytes, offset: int, out: list[Any]) -> None:
        scanner = Scanner(self._parts or (), max_depth=self._limits.max_depth)
        scanner.shift(offset)
        try:
            scanner.scan(text, 0)
            if why := scanner.finish(text, framed=True):
                raise DecodeError(why, byte_offset=offset)
        finally:
            self._found = self._found or scanner.found
            for start, end in scanner.spans:
                out.append(self._values.one(text[start:end], offset + start))
