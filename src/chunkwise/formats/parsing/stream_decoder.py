"""Bytes in pieces -> items, counts and errors: the bases of the decoders, with UTF-8, lines and records."""

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
    """Return the size of the complete characters at the start, and the error after them, or ``""``."""
    whole = whole_bytes(data)
    if whole == len(data):
        return whole, ""
    try:
        return whole + codecs.utf_8_decode(data[whole:], "strict", False)[1], ""  # noqa: FBT003 - not the end
    except UnicodeDecodeError as error:
        return whole + error.start, error.reason


class LineSplitter:
    r"""Returns runs of complete lines in linear time, and holds the bytes of the incomplete one.

    `offset` is that of the last run that was returned, and after `rest` of the pending bytes, in the stream.
    Lines end with ``\n``. A ``\r`` before it belongs to the line: in JSON it is white space, other formats remove it.
    """

    def __init__(self, max_bytes: int, limit_name: str) -> None:
        self.offset: int = 0
        self._pending = bytearray()  # one buffer: many small pieces would weigh more than what they hold
        self._max_bytes = max_bytes
        self._limit_name = limit_name
        self._next_offset = 0
        self._too_long: LimitError | None = None

    @classmethod
    def of_items(cls, limits: Limits) -> Self:
        """Return a splitter for lines that are items, with the smaller one of the two limits."""
        name = "max_item_bytes" if limits.max_item_bytes < limits.max_line_bytes else "max_line_bytes"
        return cls(getattr(limits, name), name)

    @property
    def pending_offset(self) -> int:
        """Offset in the stream of the incomplete line."""
        return self._next_offset

    def feed(self, data: bytes, byte_offset: int) -> bytes:
        r"""Return the lines that the data at ``byte_offset`` completes, with the last ``\n``, or ``b""``."""
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
        """Raise LimitError for a line over the limit; call it after the lines before it were used."""
        if self._too_long is None and len(self._pending) > self._max_bytes + 1:  # one more for the "\r" of a line end
            self._too_long = self._error(len(self._pending), self._next_offset)
        if self._too_long is not None:
            raise self._too_long

    def rest(self) -> bytes:
        """Return the bytes after the last line end; raise LimitError if there are more than ``max_bytes``."""
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
        msg = f"line has {size} bytes or more, expected no more than {self._max_bytes} ({self._limit_name})"
        return LimitError(msg, byte_offset=byte_offset)


class StreamDecoder(ABC):
    """Removes the BOM, checks UTF-8, counts, and raises an error after the items before it.

    A format adds `_decode` and `_finish`, which append items to a list and raise at a defect. `MakeDecoder` describes
    the arguments.
    """

    name: str
    resynchronises = False
    """Whether decoding may continue after a defect was raised."""
    checks_utf8 = True
    """Whether to refuse invalid UTF-8 here; False if the format itself replaces or refuses it."""

    def __init__(
        self, path: PathLike = "", *, type: Any = Any, required: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.items_seen: int = 0
        self.bytes_seen: int = 0
        self._parts = parse_path(path)
        self._type = type
        self._limits = limits
        self._found = not (required and self._parts)  # whether the path selected anything, or need not
        self._failure: DecodeError | RemoteError | None = None
        self._held = b""  # the start of a UTF-8 character
        self._bom_pending: bytes | None = b""
        self._unread = b""  # bytes after a defect that is not raised yet
        self._finished = False
        self._complete = False
        self._proven = False  # the bytes include the end that the format shows

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
            raise ValueError("feed() after finish(): use a new decoder for a new stream")
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
        # The new decoder removes this BOM, so bytes at this place that look like one stay part of an item.
        return place._replace(before=BOM + place.before)

    def _checkpoint(self) -> Checkpoint | None:
        """Return the same, with ``before`` lacking the BOM; None in formats without such places."""
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
                raise TruncatedError("the bytes stop inside a UTF-8 character")
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
        """Append to ``out`` every item that the data completes; then raise at a defect."""

    @abstractmethod
    def _finish(self, out: list[Any], *, framed: bool) -> None:
        """Append to ``out`` the items that only the end completes; raise if the stream is not complete."""

    def _without_bom(self, data: bytes) -> bytes:
        # Unicode §23.8: one byte order mark at the start of a stream is not part of the text.
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
        """Decode the data up to its first invalid UTF-8."""
        if not self.checks_utf8:
            self.bytes_seen += len(data)
            self._decode(data, out)
            return
        # An incomplete character is held back, so that the split does not decide whether it ends a number before it.
        start, end = self.bytes_seen - len(self._held), self.bytes_seen + len(data)
        data = self._held + data if self._held else data
        defect = None
        whole, reason = whole_characters(data)
        if reason:
            message = f"invalid UTF-8: {reason} 0x{data[whole]:02x}; send UTF-8"
            defect = DecodeError(message, byte_offset=start + whole)
        self._held = b"" if defect else data[whole:]
        try:
            self.bytes_seen = start + whole  # `_decode` computes offsets from it
            self._decode(data[:whole], out)
        finally:
            self.bytes_seen = end
        if defect is not None:
            raise defect

    def _keep(self, error: DecodeError | RemoteError, out: list[Any]) -> None:
        """Complete the error, and raise it at once if there are no items before it."""
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
    """Decodes records, each of them one JSON text: many in one call if they have no defect."""

    def __init__(self, path: PathLike = "", **options: Any) -> None:
        super().__init__(path, **options)
        self._records_seen = 0
        self._values = ValueDecoder(self._type)
        # For a run of which only '[', '{' and line ends are left: a line with more openers than the depth allows.
        self._deep = re.compile(rb"[\[{]{%d}" % (self._limits.max_depth + 1))

    @property
    def records_seen(self) -> int:
        return self._records_seen

    @property
    def whole_records(self) -> int | None:
        return self._records_seen

    def _decode_many(self, run: bytes, count: int | None = None) -> list[Any] | None:
        r"""Decode records with a ``\n`` between them in one call; None if that is not possible, for any reason.

        ``count`` is the number of records, if they may have line ends inside.
        """
        if self._parts or self._may_be_deep(run):
            return None
        values = self._values.lines(run)
        if values is None or len(values) != (count or len(values)):
            return None
        self._records_seen += len(values)
        return values

    def _decode_one(self, text: bytes, offset: int, out: list[Any]) -> None:
        """Append the items of a record that starts at the offset; raise an error with its place at a defect."""
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
