"""CSV (RFC 4180) <-> items: each row is a dict whose keys are the column names in the header.

The decoder reads all values as strings; its argument ``type`` converts them, for example to numbers. CSV cannot prove
that a stream is complete: a stream that was cut between two rows looks complete.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from chunkwise.errors import DecodeError, EncodeError, LimitError, TruncatedError
from chunkwise.formats.contract import Checkpoint, Format
from chunkwise.formats.parsing.json_values import LivePart, encode_value
from chunkwise.formats.parsing.record_encoder import RecordEncoder
from chunkwise.formats.parsing.stream_decoder import StreamDecoder
from chunkwise.formats.paths import PathLike

_field = re.compile(r'(?:"([^"]*+(?:""[^"]*+)*)"|([^",\r\n]*+))(,|\r?\n)')
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_EXPECTED_FIELD = "expected a field without quotes and line ends, or a quoted field in which quotes are doubled"
_AS_THEY_ARE = frozenset((str, int, type(None)))  # csv.writer writes these types correctly without a conversion
_LIVE = "a CSV row cannot contain an iterator or an awaitable: pass the finished value"


class CsvEncoder(RecordEncoder):
    """Dicts -> CSV rows. The keys of the first item become the header; later items may have no other keys.

    None becomes an empty field, True and False become ``true`` and ``false``, and any other value that is neither text
    nor a number becomes its JSON text, because fields in RFC 4180 are text. Structs, dataclasses and attrs objects are
    accepted as rows.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._columns: list[str] = []

    def _encode(self, batch: Sequence[Any]) -> bytes:
        data = self._encode_alike(batch)
        return self._encode_each(batch) if data is None else data

    def _encode_alike(self, batch: Sequence[Any]) -> bytes | None:
        """Encode all rows in one call; return None if this is impossible, for example if a row lacks a column."""
        names = self._columns
        try:
            kinds = set(map(type, batch))
            rows = batch if kinds == {dict} else msgspec.to_builtins(list(batch)) if dict not in kinds else []
            if len(names) < 2 or set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(names)}:
                return None
            columns = zip(*map(itemgetter(*names), rows), strict=True)
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\r\n").writerows(zip(*map(_column, columns), strict=True))
            return text.getvalue().encode()
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return None

    def _encode_each(self, batch: Sequence[Any]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        columns = self._columns
        for index, item in enumerate(batch, self._count):
            try:
                row = item if type(item) is dict else msgspec.to_builtins(item)
                if not columns:
                    columns = self._header(row)
                    writer.writerow(columns)
                writer.writerow(_cells(row, columns))
            except RecursionError:
                raise EncodeError("the item is nested too deeply or contains itself", item_index=index) from None
            except (TypeError, ValueError, OverflowError) as error:
                message = error.message if isinstance(error, EncodeError) else str(error)
                raise EncodeError(message, item_index=index) from error
        try:
            data = text.getvalue().encode()
        except UnicodeEncodeError:
            raise self._bad_text(batch, columns) from None
        self._columns = columns
        return data

    def _header(self, row: Any) -> list[str]:
        if not isinstance(row, dict) or not row:
            raise TypeError(f"a CSV row must be a dict with at least one key, got {row!r:.40}")
        if not all(type(name) is str for name in row):
            raise TypeError(f"the keys of a CSV row must be strings, got {list(row)!r:.80}")
        return list(row)

    def _bad_text(self, batch: Sequence[Any], columns: list[str]) -> EncodeError:
        """Return the error for the first row of the batch that contains text that UTF-8 cannot encode."""
        rows = (item if type(item) is dict else msgspec.to_builtins(item) for item in batch)
        texts = ("".join(map(str, [*columns, *_cells(row, columns)])) for row in rows)
        index = next(index for index, text in enumerate(texts, self._count) if _SURROGATE.search(text))
        return EncodeError("a string contains a lone surrogate, which UTF-8 cannot encode", item_index=index)

    def open_item(self) -> bytes:
        raise EncodeError(_LIVE, item_index=self._count)


def _cells(row: Any, columns: list[str]) -> list[Any]:
    if not isinstance(row, dict):
        raise TypeError(f"a CSV row must be a dict, got {type(row).__name__}")
    cells = [_cell(row.get(name)) for name in columns]
    if len(row) > len(columns) or not row.keys() <= set(columns):
        extra = sorted(str(name) for name in row.keys() - set(columns))
        raise ValueError(f"got columns {', '.join(extra)}, expected only those of the first row: {', '.join(columns)}")
    return cells


def _column(cells: tuple[Any, ...]) -> Iterable[Any]:
    """Return the cells of a column as values that csv.writer writes correctly."""
    kinds = set(map(type, cells))
    if kinds <= _AS_THEY_ARE or (kinds == {float} and all(map(math.isfinite, cells))):
        return cells
    return map(_cell, cells)


def _cell(value: Any) -> Any:
    if type(value) is str or type(value) is int:
        return value
    if value is None:
        return ""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("got NaN or Infinity, expected a finite number")
        return repr(float(value))
    try:
        text = encode_value(value).decode()
    except LivePart:
        raise TypeError(_LIVE) from None
    # The JSON text of some values, such as dates, is a string. The cell gets the string without its quotes.
    return msgspec.json.decode(text) if text.startswith('"') else text


class CsvDecoder(StreamDecoder):
    """CSV in chunks -> one dict of strings for each row."""

    name = "csv"

    def __init__(self, path: PathLike = "", **options: Any) -> None:
        super().__init__(path, **options)
        if self._parts and len(self._parts) > 1:
            raise TypeError(
                f"path must be the name of one column in CSV, got {path!r}; write a name with a dot as a tuple ('a.b',)"
            )
        self._list_type: Any = list.__class_getitem__(self._type)
        self._max_row_bytes = min(self._limits.max_item_bytes, self._limits.max_line_bytes)
        self._header: list[str] | None = None
        # The incomplete row is kept in one buffer, because a list of many small chunks would need more memory.
        self._pending = bytearray()
        self._offset = 0  # the offset of the incomplete row in the stream
        self._quoted = False  # whether the bytes received so far end inside a quoted field
        # Whether a quote at the start of a chunk is allowed depends on the byte before it. So the last byte is kept.
        self._last = b""

    def _checkpoint(self) -> Checkpoint:
        names = ",".join('"{}"'.format(name.replace('"', '""')) for name in self._header or ())
        return Checkpoint(self._offset, self.items_seen, f"{names}\r\n".encode())

    def _decode(self, data: bytes, out: list[Any]) -> None:
        if not self._pending:
            self._offset = self.bytes_seen - len(data)
        stop, stray = self._last_row_end(data)
        if stop:
            run = bytes(self._pending) + data[:stop]
            offset = self._offset
            self._pending = bytearray(data[stop:])
            self._offset += len(run)
            self._take(run, offset, out)
        else:
            self._pending += data
        # The limit for a row does not include its line end, which has at most two bytes (CR LF).
        self._check_size(len(self._pending) - 2, self._offset)
        if stray >= 0:
            message = f"got a quote in a field that does not begin with a quote, {_EXPECTED_FIELD}"
            raise DecodeError(message, byte_offset=self.bytes_seen - len(data) + stray)

    def _last_row_end(self, data: bytes) -> tuple[int, int]:
        """Return where the last complete row in the data ends, and the position of a misplaced quote.

        The end is 0 if the data completes no row. The position is -1 if no quote is misplaced.
        """
        # A line end inside quotes is data. A doubled quote needs no special case: the first quote ends the quoted part,
        # and the second quote begins the next one.
        stop, start, quoted = 0, 0, self._quoted
        while (quote := data.find(b'"', start)) >= 0:
            if not quoted:
                stop = data.rfind(b"\n", start, quote) + 1 or stop
                before = data[quote - 1 : quote] if quote else self._last
                if before not in (b"", b",", b"\n", b'"'):
                    return stop, quote
            quoted = not quoted
            start = quote + 1
        if not quoted:
            stop = data.rfind(b"\n", start) + 1 or stop
        self._quoted, self._last = quoted, data[-1:] or self._last
        return stop, -1

    def _take(self, run: bytes, offset: int, out: list[Any]) -> None:
        text = run.decode()
        if '"' not in text and len(run) <= self._max_row_bytes:
            plain = text.replace("\r\n", "\n")
            rows = [line.split(",") for line in plain[:-1].split("\n") if line]
            if "\r" not in plain and self._take_rows(rows, out):
                return
        position = 0
        while position < len(text):
            fields, end = _next_row(text, position, offset)
            size = len(text[position:end].rstrip("\r\n").encode())
            self._check_size(size, offset)
            if fields is not None:
                self._take_row(fields, offset, out)
            offset += len(text[position:end].encode())
            position = end

    def _take_rows(self, rows: list[list[str]], out: list[Any]) -> bool:
        """Append the items of all rows in one call; return False and append nothing if this is impossible.

        It is impossible if the first row is the header, if a row is invalid, or if the decoder has a path.
        """
        header = self._header
        if header is None or self._parts or any(len(row) != len(header) for row in rows):
            return False
        items: list[Any] = [dict(zip(header, row, strict=True)) for row in rows]
        if self._type is not Any:
            try:
                items = msgspec.convert(items, self._list_type, strict=False)
            except msgspec.ValidationError:
                return False
        out += items
        return True

    def _take_row(self, fields: list[str], offset: int, out: list[Any]) -> None:
        if self._header is None:
            if len(set(fields)) < len(fields):
                twice = next(name for name, count in Counter(fields).items() if count > 1)
                message = f"the header has two columns named {twice!r}, expected unique names"
                raise DecodeError(message, byte_offset=offset)
            self._header = fields
            self._found = self._found or (self._parts or ("",))[0] in ("*", *fields)
            return
        if len(fields) != len(self._header):
            msg = f"got a row of {len(fields)} fields, expected {len(self._header)} as in the header"
            raise DecodeError(msg, byte_offset=offset)
        row = dict(zip(self._header, fields, strict=True))
        items: list[Any] = [row]
        if self._parts:
            items = [value for name, value in row.items() if self._parts[0] in ("*", name)]
        for item in items:
            try:
                out.append(item if self._type is Any else msgspec.convert(item, self._type, strict=False))
            except msgspec.ValidationError as error:
                raise DecodeError(str(error), byte_offset=offset) from None

    def _check_size(self, size: int, offset: int) -> None:
        if size > self._max_row_bytes:
            msg = f"got a row of at least {size} bytes, expected no more than {self._max_row_bytes} (max_item_bytes)"
            raise LimitError(msg, byte_offset=offset)

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        rest = bytes(self._pending)
        if self._quoted:
            raise TruncatedError("the stream ended inside a quoted field")
        if rest.strip(b"\r") and not framed:
            raise TruncatedError("the stream ended inside a row: expected a line end after the last row")
        if rest:
            self._take(rest.removesuffix(b"\r") + b"\n", self._offset, out)


def _next_row(text: str, position: int, offset: int) -> tuple[list[str] | None, int]:
    """Return the fields of the row at ``position`` (None for a blank line), and where the next row begins."""
    fields, start = [], position
    while True:
        match = _field.match(text, position)
        if match is None:
            break
        quoted, plain, end = match.groups()
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        position = match.end()
        if end != ",":
            return (None if text[start:position] in ("\n", "\r\n") else fields), position
    msg = f"got {text[position : position + 40]!r} in field {len(fields) + 1} of the row, {_EXPECTED_FIELD}"
    raise DecodeError(msg, byte_offset=offset + len(text[start:position].encode()))


CSV = Format(
    name="csv",
    media_types=("text/csv",),
    parameters="charset=utf-8; header=present",
    suffixes=(".csv",),
    encoder=CsvEncoder,
    decoder=CsvDecoder,
    documents=False,
)
