"""JSON text sequences (RFC 7464) <-> items: an RS byte (0x1E) before each JSON text, a line feed after it.

The decoder detects a JSON text that was cut, and continues at the next RS. Without an end record, the format cannot
prove the end of a stream.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

from chunkwise.errors import DecodeError, TruncatedError
from chunkwise.formats.contract import STREAM_END, Checkpoint, EndRecordMarks, Format
from chunkwise.formats.json_document import JsonDecoder
from chunkwise.formats.parsing.json_values import encode_lines
from chunkwise.formats.parsing.record_encoder import RecordEncoder
from chunkwise.formats.parsing.stream_decoder import RecordDecoder, whole_characters
from chunkwise.formats.paths import PathLike

_RS = b"\x1e"
_WHITE = b" \t\r\n"
# The space after the RS marks the end record: the JSON text of an item never begins with a space.
_END_RECORD = EndRecordMarks(before=_RS + f' {{"{STREAM_END}":'.encode(), after=b"}\n")


class JsonSeqEncoder(RecordEncoder):
    """Items -> an RS byte (0x1E), the JSON text and a line feed for each item."""

    before = _RS
    end_record: EndRecordMarks | None = _END_RECORD

    def _encode(self, batch: Sequence[Any]) -> bytes:
        if not batch:
            return b""
        lines = encode_lines(batch, self._count)
        return _RS + lines[:-1].replace(b"\n", b"\n" + _RS) + b"\n"


class _SequenceText(JsonDecoder):
    """One JSON text of a sequence in chunks -> the values at a path. The text cannot begin with a byte order mark.

    Only white space ends a number, ``true``, ``false`` or ``null`` (RFC 7464 §2.4). So ``true`` is incomplete until
    white space follows it.
    """

    def __init__(self, path: PathLike, **options: Any) -> None:
        super().__init__(path, **options)
        self._bom_pending = None
        self._begun = False
        self._word = b""  # the received bytes, if they could be the start of ``true``, ``false`` or ``null``

    def _decode(self, data: bytes, out: list[Any]) -> None:
        if not self._begun:
            data, self._word = self._word + data, b""
            text = data.lstrip(_WHITE)
            if text[:1] in (b"t", b"f", b"n") and len(text) <= len(b"false") and text.isalpha():
                self._word = data
                return
            self._begun = bool(text)
        super()._decode(data, out)

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        if self._word:
            if not framed:
                word = self._word.strip().decode()
                raise TruncatedError(f"the JSON text ended after {word!r}, expected white space after it")
            super()._decode(self._word, out)
        super()._finish(out, framed=framed)


class JsonSeqDecoder(RecordDecoder):
    """A JSON text sequence in chunks -> items. After an invalid text, decoding continues at the next RS byte (0x1E)."""

    name = "json-seq"
    resynchronises = True
    checks_utf8 = False  # each JSON text is checked separately, so that invalid UTF-8 affects only one text

    def __init__(self, path: PathLike = "", **options: Any) -> None:
        super().__init__(path, **options)
        self._waiting: deque[bytes] = deque()  # the JSON texts to be decoded; the last one may be incomplete
        self._next_offset = 0  # the offset in the stream of the next JSON text to be decoded
        # The decoder of the incomplete text. None before the first RS, and from an invalid text to the next RS.
        self._text: _SequenceText | None = None
        self._offset = 0  # the offset of the incomplete JSON text in the stream
        self._begun = False

    @property
    def whole_records(self) -> int | None:
        """The number of complete JSON texts; None if items of an incomplete text were already returned."""
        if self._text is None or not self._text.items_seen:
            return self._records_seen
        return self._records_seen + 1 if self._text.complete else None

    def _checkpoint(self) -> Checkpoint | None:
        if self._text is None or self._waiting:
            return None
        # The checkpoint is the RS before the incomplete text. A new decoder that reads from there returns all items of
        # this text, including those that this decoder has already returned.
        return Checkpoint(self._offset - len(_RS), self.items_seen - self._text.items_seen, b"")

    def _decode(self, data: bytes, out: list[Any]) -> None:
        first, *others = data.split(_RS)
        fresh = not self._waiting
        if fresh:
            self._next_offset = self.bytes_seen - len(data) + len(first) + 1
        else:
            self._waiting[-1] += first
        self._waiting.extend(others)
        try:
            if fresh:
                self._go_on(first, out)
                self._take_run(out)
            while self._waiting:
                text = self._waiting.popleft()
                if self._waiting and not text:  # two RS in a row have no text between them (RFC 7464 §2.1)
                    self._next_offset += 1
                    continue
                self._text = _SequenceText(self._parts or (), type=self._type, limits=self._limits)
                self._offset = self._next_offset
                self._next_offset += len(text) + 1
                self._feed_text(text, out)
                if self._waiting:
                    self._end_text(out, framed=False)
        except DecodeError:
            self._text = None
            raise

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        if self._waiting:
            self._decode(b"", out)
        self._end_text(out, framed=framed, at_end=True)

    def _go_on(self, data: bytes, out: list[Any]) -> None:
        """Decode the bytes before the first RS of the data, which belong to the incomplete text of an earlier call."""
        garbage = data.strip(_WHITE)
        if not self._begun and garbage:
            self._begun = True
            offset = self._next_offset - 1 - len(data.lstrip(_WHITE))
            message = f"got {garbage[:1]!r}, expected an RS (0x1E) before the first JSON text"
            raise DecodeError(message, byte_offset=offset)
        self._begun = self._begun or bool(self._waiting)
        self._feed_text(data, out)
        if self._waiting:
            self._end_text(out, framed=False)

    def _take_run(self, out: list[Any]) -> None:
        """Decode all complete texts in one call if they are valid; otherwise leave them to be decoded one by one."""
        texts = list(self._waiting)[:-1]
        run = b"".join(texts)
        if not run or run.count(b"\n") != len(texts) or not all(text.endswith(b"\n") for text in texts):
            return
        if max(map(len, texts)) > self._limits.max_item_bytes:
            return
        # msgspec does not check UTF-8 in the names of members that it ignores, so all bytes are checked here.
        if whole_characters(run)[0] != len(run):
            return
        values = self._decode_many(run[:-1])
        if values is not None:
            out += values
            self._next_offset += len(run) + len(texts)
            self._waiting = deque([self._waiting[-1]])

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
        if text is None:
            return
        if not text.items_seen and not text.bytes_seen:
            if at_end and not framed:
                raise TruncatedError("the stream ended after an RS, expected a JSON text")
            return  # an RS without a text after it is skipped (RFC 7464 §2.1)
        try:
            out += text.finish(framed=framed)
            # If invalid bytes follow the items, the first call has kept an error. The second call raises the error.
            text.finish(framed=framed)
        except TruncatedError as error:
            if at_end:
                raise
            message = f"a JSON text of the sequence is incomplete: {error.message}"
            raise DecodeError(message, byte_offset=self._offset) from None
        except DecodeError as error:
            error.byte_offset = self._offset + (error.byte_offset or 0)
            raise
        self._found = self._found or text.found
        self._records_seen += 1


JSON_SEQ = Format(
    name="json-seq",
    media_types=("application/json-seq",),
    suffixes=(".json-seq", ".jsonseq"),
    encoder=JsonSeqEncoder,
    decoder=JsonSeqDecoder,
    keepalive=b"\n",
    end_record=_END_RECORD,
)
