"""JSON text (RFC 8259) <-> items: the elements of an array, one document, or the values at a path.

The grammar proves the end of a stream: a JSON text that was cut is not valid JSON. The one exception is a document that
is a single number: if ``123`` is cut after ``12``, it is still valid. A stream of items is never a single number.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from chunkwise.errors import DecodeError, EncodeError, LimitError, TruncatedError
from chunkwise.formats.contract import Checkpoint, Format
from chunkwise.formats.parsing.json_values import ValueDecoder, encode_array, encode_value
from chunkwise.formats.parsing.stream_decoder import StreamDecoder
from chunkwise.formats.paths import PathLike
from chunkwise.formats.speedups import Scanner


class JsonEncoder:
    """Items -> one JSON array. If ``document`` is True: one item -> its JSON text, without an array."""

    def __init__(self, *, document: bool = False, **_not_needed: object) -> None:
        self._document = document
        self._count = 0

    def start(self) -> bytes:
        return b"" if self._document else b"["

    def encode(self, batch: Sequence[Any]) -> bytes:
        inside = encode_array(batch, self._count)[1:-1]
        data = self._separator(len(batch)) + inside
        self._count += len(batch)
        return data

    def open_item(self) -> bytes:
        data = self._separator(1)
        self._count += 1
        return data

    def close_item(self) -> bytes:
        return b""

    def finish(self) -> bytes:
        if self._document and self._count != 1:
            raise EncodeError(f"a JSON document must be one value, got {self._count} values", item_index=self._count)
        return b"" if self._document else b"]"

    def fail(self, problem: Mapping[str, Any]) -> bytes:  # noqa: ARG002 - the incomplete JSON text shows the failure
        return b""

    def _separator(self, count: int) -> bytes:
        if self._document and self._count + count > 1:
            raise EncodeError(f"a JSON document must be one value, got {self._count + count} values", item_index=1)
        return b"," if self._count and count else b""


class JsonDecoder(StreamDecoder):
    """JSON text in chunks -> the values at a path."""

    name = "json"

    def __init__(self, path: PathLike = "", **options: Any) -> None:
        super().__init__(path, **options)
        self._values = ValueDecoder(self._type)
        # The scanner does not check the selected values: msgspec decodes them, and refuses everything that is not JSON.
        self._scanner = self._new_scanner(self._parts, proves_values=False)
        self._window: bytes | bytearray = b""  # the received bytes that are not decoded yet
        self._dropped = 0  # the number of received bytes that are no longer kept in `_window`
        self._position = 0  # the number of bytes in `_window` that the scanner has read

    def _new_scanner(self, parts: tuple[str, ...] | None, *, proves_values: bool) -> Scanner:
        most = self._limits.max_item_bytes
        return Scanner(
            parts,
            max_depth=self._limits.max_depth,
            max_name_bytes=most,
            max_number_bytes=most,
            proves_values=proves_values,
        )

    @property
    def found(self) -> bool:
        """Whether the path exists in the document.

        A path that selects all elements or members also exists if the array or object is empty.
        """
        return self._scanner.found

    @property
    def whole_records(self) -> int | None:
        """The number of complete elements of the root array; None if the path selects other values."""
        return self.items_seen if self._parts in (None, ("item",)) else None

    @property
    def complete(self) -> bool:
        """Whether a complete and valid document was received."""
        return self._scanner.complete and self._failure is None

    @property
    def bytes_walked(self) -> int:
        """The number of bytes that the scanner has read. Tests use it to check how much work the scanner does."""
        return self._scanner.bytes_walked

    def _checkpoint(self) -> Checkpoint | None:
        # The checkpoint is the start of a selected value. To read from there, a new decoder needs only the brackets of
        # the arrays and objects around the value, and the names on the path.
        offset, openers, is_open = self._scanner.last_begun or (0, b"", False)
        if not openers:
            # No value is selected yet, or the selected value is the whole document: then there is no checkpoint.
            return None
        parts = ("item",) if self._parts is None else self._parts
        before = b"".join(
            b"[" if opener == ord("[") else b"{%b:" % encode_value(part)
            for opener, part in zip(openers, parts, strict=True)
        )
        return Checkpoint(offset, self.items_seen - (not is_open), before)

    def _decode(self, data: bytes, out: list[Any]) -> None:
        # Offsets in the stream include a skipped byte order mark, so the scanner adds its size to all offsets.
        if not self._window and (skipped := self.bytes_seen - len(data) - self._dropped):
            self._dropped += skipped
            self._scanner.shift(skipped)
        self._append(data)
        try:
            self._position = self._scanner.scan(self._window, self._position)
        finally:
            # Decode the complete values even if the scanner has raised an error: they are before the invalid bytes.
            self._take(out)
            self._check_held()
        keep = self._scanner.keep_from
        self._drop(keep if keep >= 0 else self._position)

    def _check_held(self) -> None:
        """Raise an error if the incomplete item already has more than ``max_item_bytes`` bytes."""
        keep, end = self._scanner.keep_from, len(self._window)
        if keep >= 0 and end - keep > self._limits.max_item_bytes:
            raise self._too_long(keep, end)

    def _append(self, data: bytes) -> None:
        # If all earlier bytes are decoded, the new bytes are used without a copy. So most bytes are never copied.
        if not self._window:
            self._window = data
        elif isinstance(self._window, bytearray):
            self._window += data
        else:
            self._window = bytearray(b"").join((self._window, data))

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        self._proven = not self._scanner.finish(self._window, framed=False)
        why = self._scanner.finish(self._window, framed=framed)
        self._take(out)
        if why:
            raise TruncatedError(why)
        self._found = self._found or self._scanner.found

    def _take(self, out: list[Any]) -> None:
        """Decode all complete selected values in one call; if this fails, decode them one by one to find the error."""
        scanner = self._scanner
        if not scanner.count:
            return
        self._found = True
        try:
            fits = scanner.longest <= self._limits.max_item_bytes
            values = self._values.array(scanner.array(self._window)) if fits else None
            if values is None:
                self._take_each(out)
            else:
                out += values
        finally:
            scanner.clear()

    def _take_each(self, out: list[Any]) -> None:
        """Decode the complete selected values one by one, up to the first error."""
        for start, end in self._scanner.spans:
            if end - start > self._limits.max_item_bytes:
                raise self._too_long(start, end)
            try:
                out.append(self._values.one(bytes(self._window[start:end]), self._dropped + start))
            except DecodeError:
                if (defect := self._defect(start, end)) is not None:
                    raise defect from None
                raise

    def _defect(self, start: int, end: int) -> DecodeError | None:
        """Return the error for the first invalid byte in the JSON text of a value; None if no byte is invalid."""
        if self._refusal(start, end) is None:
            return None
        # The error message may show bytes after the value. The first scan did not read them, so scan again with all
        # bytes received.
        return self._refusal(start, len(self._window))

    def _refusal(self, start: int, end: int) -> DecodeError | None:
        begun = self._scanner.last_begun
        # Opening brackets before the value give it the same depth as in the stream, for the depth limit.
        around = b"[" * (len(begun[1]) if begun else 0)
        scanner = self._new_scanner((), proves_values=True)
        scanner.shift(self._dropped + start - len(around))
        try:
            scanner.scan(around + self._window[start:end], 0)
        except DecodeError as error:
            return error
        return None

    def _too_long(self, start: int, end: int) -> DecodeError:
        """Return the error for an item with more than ``max_item_bytes`` bytes.

        If the item has invalid JSON before this limit, the error is the one for the invalid JSON. With smaller chunks,
        the decoder would find the invalid JSON first, and the result must not depend on the size of the chunks.
        """
        most = self._limits.max_item_bytes
        if (defect := self._defect(start, start + most + 1)) is not None:
            return defect
        # If the item has invalid JSON after the limit, its end is unknown. So the message gives the smallest possible
        # size: one byte more than the limit.
        size = most + 1 if self._defect(start, end) else end - start
        msg = f"got an item of at least {size} bytes, expected no more than {most} (max_item_bytes)"
        return LimitError(msg, byte_offset=self._dropped + start)

    def _drop(self, count: int) -> None:
        if count == len(self._window):
            self._window = b""
        elif isinstance(self._window, bytearray):
            del self._window[:count]
        elif count:
            self._window = self._window[count:]
        self._dropped += count
        self._position -= count
        self._scanner.shift(count)


JSON = Format(
    name="json",
    media_types=("application/json", "text/json"),
    suffixes=(".json", ".geojson"),
    encoder=JsonEncoder,
    decoder=JsonDecoder,
    proves_end=True,
    keepalive=b" ",
    keepalive_by_default=True,
)
