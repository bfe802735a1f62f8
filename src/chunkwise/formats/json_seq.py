"""JSON text sequences (RFC 7464) <-> items: RS (0x1E) before each JSON text, LF behind it.

Must not know how items arrive or leave. A text that was cut is told from a whole one, and decoding goes on at the next
RS; the end of the stream is not proven by the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chunkwise.errors import DecodeError, TruncatedError
from chunkwise.formats.contract import DEFAULT_LIMITS, Format, Limits, StreamDecoder
from chunkwise.formats.json_document import JsonDecoder
from chunkwise.formats.json_records import JsonRecords
from chunkwise.formats.json_values import encode_lines
from chunkwise.formats.paths import PathLike, parse_path

if TYPE_CHECKING:
    from collections.abc import Sequence

_RS = b"\x1e"
_WHITE = b" \t\r\n"


class JsonSeqEncoder:
    """Items -> RS, JSON text, LF."""

    def __init__(self, *, document: bool = False) -> None:  # noqa: ARG002 - one value is one text
        self._count = 0

    def start(self) -> bytes:
        """See `Encoder.start`."""
        return b""

    def encode(self, batch: Sequence[Any]) -> bytes:
        """See `Encoder.encode`."""
        if not batch:
            return b""
        lines = encode_lines(batch, self._count)
        self._count += len(batch)
        return _RS + lines[:-1].replace(b"\n", b"\n" + _RS) + b"\n"

    def open_item(self) -> bytes:
        """See `Encoder.open_item`."""
        self._count += 1
        return _RS

    def close_item(self) -> bytes:
        """See `Encoder.close_item`."""
        return b"\n"

    def finish(self) -> bytes:
        """See `Encoder.finish`."""
        return b""


class JsonSeqDecoder(StreamDecoder):
    """A sequence in pieces -> items. Behind a defective text it can be fed on: it goes on at the next RS."""

    name = "json-seq"
    resynchronises = True

    def __init__(
        self, path: PathLike = "", *, type: Any = Any, required: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        super().__init__(parse_path(path), required=required, limits=limits)
        self._type = type
        self._records = JsonRecords(self._parts, type, limits)
        self._unread = b""  # behind a defect: what the next call begins with
        self._text: JsonDecoder | None = None  # decodes the text that no RS follows yet; None: skip to the next RS
        self._offset = 0  # where that text starts in the stream
        self._begun = False

    def _decode(self, data: bytes, out: list[Any]) -> None:
        data, self._unread = self._unread + data, b""
        offset = self.bytes_seen - len(data)
        first, *others = data.split(_RS)
        if not self._begun and first.strip(_WHITE):
            msg = f"got {first.strip(_WHITE)[:1]!r} before the first text, expected RS (0x1E)"
            self._begun, self._unread = True, _RS + _RS.join(others) if others else b""
            raise DecodeError(msg, byte_offset=offset)
        self._begun = self._begun or bool(others)
        try:
            self._feed_text(first, out)
            if not others:
                return
            self._end_text(out, framed=False)
            offset += len(first) + 1
            ended, last = others[:-1], others[-1]
            values = self._decode_run(ended)
            if values is None:
                while others[1:]:
                    text = others.pop(0)
                    self._begin_text(offset)
                    self._feed_text(text, out)
                    self._end_text(out, framed=False)
                    offset += len(text) + 1
            else:
                out += values
                offset += sum(map(len, ended)) + len(ended)
            others = []
            self._begin_text(offset)
            self._feed_text(last, out)
        except DecodeError:
            self._text = None
            self._unread = _RS + _RS.join(others) if others else b""
            raise

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        if self._unread:
            self._decode(b"", out)
        self._end_text(out, framed=framed, at_end=True)

    def _decode_run(self, texts: list[bytes]) -> list[Any] | None:
        """Decode whole texts in one call; None if they must be taken one by one."""
        run = b"".join(texts)
        if not run or run.count(b"\n") != len(texts) or not all(text.endswith(b"\n") for text in texts):
            return None
        if max(map(len, texts)) > self._limits.max_item_bytes:
            return None
        return self._records.run(run[:-1])

    def _begin_text(self, offset: int) -> None:
        self._text = JsonDecoder(self._parts or (), type=self._type, limits=self._limits)
        self._offset = offset

    def _feed_text(self, data: bytes, out: list[Any]) -> None:
        if self._text is None or not data:
            return
        try:
            out += self._text.feed(data)
            self._text.feed(b"")
        except DecodeError as error:
            error.byte_offset = self._offset + (error.byte_offset or 0)
            raise

    def _end_text(self, out: list[Any], *, framed: bool, at_end: bool = False) -> None:
        text, self._text = self._text, None
        if text is None or (not text.items_seen and not text.bytes_seen):
            return  # RFC 7464 §2.1: RS after RS is no empty text
        try:
            out += text.finish(framed=framed)
        except TruncatedError as error:
            if at_end:
                raise
            raise DecodeError(f"text was cut short: {error.message}", byte_offset=self._offset) from None
        self._found = self._found or text.found


JSON_SEQ = Format(
    name="json-seq",
    media_types=("application/json-seq",),
    suffixes=(".json-seq", ".jsonseq"),
    encoder=JsonSeqEncoder,
    decoder=JsonSeqDecoder,
    keepalive=b"\n",
)
