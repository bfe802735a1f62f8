"""The end of a stream <-> an end record: a last record that says whether the stream is complete or has failed.

::

    {"status":"complete","items":5}
    {"status":"failed","items":3,"problem":{"title":"Internal Server Error","status":500}}

``items`` is the number of records before the end record. If a client selects items inside the records with a path, it
may receive more or fewer items. The server sends an end record only to clients that request it, because other clients
would read it as one more item.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from chunkwise.errors import DecodeError, EncodeError, LimitError, PathNotFound, RemoteError, TruncatedError, counted
from chunkwise.formats.contract import Decoder, EndRecordMarks
from chunkwise.formats.parsing.json_values import LivePart, ValueDecoder, encode_value
from chunkwise.formats.parsing.stream_decoder import StreamDecoder

_MAX_BYTES = 64 * 1024
"""The most bytes of an end record, from the end of its mark to its line end."""


class EndRecord(Struct, frozen=True, omit_defaults=True):
    """The content of an end record, the last record of a stream."""

    status: Literal["complete", "failed"]  # whether the source has completed or has failed
    items: Annotated[int, Meta(ge=0)]  # the number of records before the end record
    problem: dict[str, Any] | None = None  # why the stream has failed, as problem details (RFC 9457)


_records = ValueDecoder(EndRecord)


def complete_record(marks: EndRecordMarks, items: int) -> bytes:
    """Return the end record of a complete stream: its JSON text between the bytes that mark an end record."""
    return marks.before + encode_value(EndRecord("complete", items)) + marks.after


def failed_record(marks: EndRecordMarks, items: int, problem: Mapping[str, Any]) -> bytes:
    """Return the end record of a failed stream: its JSON text between the bytes that mark an end record.

    If the problem details are too long or JSON cannot represent them, the record contains only their HTTP status.
    """
    try:
        text = encode_value(EndRecord("failed", items, dict(problem)))
    except (EncodeError, LivePart):  # JSON cannot represent the problem details
        text = b""
    if not text or len(text) + len(marks.after) > _MAX_BYTES:
        text = encode_value(EndRecord("failed", items, {"status": _status(problem)}))
    return marks.before + text + marks.after


def _status(problem: Mapping[str, Any]) -> int:
    status = problem.get("status")
    return status if type(status) is int and 100 <= status <= 599 else 500


class StreamEndDecoder(StreamDecoder):
    """A stream with an end record -> the items before the record, and the proof that the stream is complete.

    Decoding stops at the first invalid record, even in a format that could continue after it, because the number of
    lost records would be unknown.

    Args:
        decoder: a new decoder of the format.
        marks: the bytes around an end record in the format (`Format.end_record`).
    """

    checks_utf8 = False  # the decoder of the format checks UTF-8 in the items, so they are not checked twice

    def __init__(self, decoder: Decoder, marks: EndRecordMarks) -> None:
        super().__init__()
        self.name: str = getattr(decoder, "name", "unknown")
        self.decoder = decoder
        self._bom_pending = None
        self._marks = marks
        self._starts = tuple(marks.before[:size] for size in range(1, len(marks.before)))
        self._line_before = True  # whether the next byte is the first of a line: only there can an end record begin
        self._begin = b""  # the last bytes received, if an end record may begin with them
        # The bytes of the end record after the mark at its start; None until the mark is received.
        self._text: bytearray | None = None
        self._record: EndRecord | None = None
        self._in_comment = False

    @property
    def records_seen(self) -> int:
        return self.decoder.records_seen

    @property
    def whole_records(self) -> int | None:
        return self.decoder.whole_records

    def _decode(self, data: bytes, out: list[Any]) -> None:
        if self._text is None:
            data = self._take_items(data, out)
        if self._text is not None and self._record is None and data:
            data = self._take_record(self._text, data)
        if self._record is not None:
            self._take_silence(data)

    def _take_items(self, data: bytes, out: list[Any]) -> bytes:
        """Decode the items before the end record.

        The result is the data after the mark at the start of the end record, or ``b""`` if this mark is not received.
        """
        data, self._begin = self._begin + data, b""
        mark = self._marks.before
        at_start = self._line_before and data.startswith(mark)
        place = 0 if at_start else data.find(b"\n" + mark) + 1
        found = at_start or place > 0
        items = data[:place] if found else self._without_begin(data)
        if items:
            self._line_before = items.endswith(b"\n")
        # The call is made even if there are no bytes, because the decoder may have kept an error that it raises now.
        out += self.decoder.feed(items)
        if not found:
            return b""
        # If invalid bytes follow the items, the decoder has kept an error. This call raises the error.
        self.decoder.feed(b"")
        self._text = bytearray()
        return data[place + len(mark) :]

    def _without_begin(self, data: bytes) -> bytes:
        """Return the data without its last bytes if an end record may begin with them; keep them for the next call."""
        if not data.endswith(self._starts):
            return data
        for start in reversed(self._starts):
            place = len(data) - len(start)
            if data.endswith(start) and (data[place - 1 : place] == b"\n" if place else self._line_before):
                self._begin = start
                return data[:place]
        return data

    def _take_record(self, text: bytearray, data: bytes) -> bytes:
        """Collect the bytes of the end record; when it is complete, decode it and return the bytes after it."""
        searched = max(0, len(text) - len(self._marks.after))
        offset = self.bytes_seen - len(data) - len(text)
        text += data
        stop = text.find(b"\n", searched)
        if (stop if stop >= 0 else len(text)) > _MAX_BYTES:
            raise LimitError(f"the end record is too long, expected at most {_MAX_BYTES} bytes", byte_offset=offset)
        end = stop + len(self._marks.after) - self._marks.after.index(b"\n")
        if stop < 0 or len(text) < end:
            return b""
        inside = bytes(text[:end])
        if not inside.endswith(self._marks.after):
            message = f"the end record ends with {inside[-len(self._marks.after) :]!r}, expected {self._marks.after!r}"
            raise DecodeError(message, byte_offset=offset)
        try:
            record: EndRecord = _records.one(inside.removesuffix(self._marks.after), offset)
        except DecodeError as error:
            error.message = f"invalid end record: {error.message}"
            raise
        if record.status == "failed":
            raise _failure(record)
        rest = bytes(text[end:])
        self._record = record
        text.clear()
        return rest

    def _take_silence(self, data: bytes) -> None:
        """Accept keepalive bytes (blank lines and comments) after the end record; raise DecodeError for other bytes."""
        offset = self.bytes_seen - len(data)
        for index, line in enumerate(data.split(b"\n")):
            if index:
                self._in_comment = False
            text = b"" if self._in_comment else line.strip(b" \t\r")
            if text and not (self._marks.comment and text.startswith(self._marks.comment)):
                place = offset + line.index(text)
                raise DecodeError(f"got {text[:40]!r} after the end record, expected nothing", byte_offset=place)
            self._in_comment = self._in_comment or bool(text)
            offset += len(line) + 1

    def _finish(self, out: list[Any], *, framed: bool) -> None:  # noqa: ARG002 - only the end record proves the end
        not_found: PathNotFound | None = None
        try:
            out += self.decoder.finish(framed=self._record is not None)
        except PathNotFound as error:
            not_found = error
        if self._record is None:
            where = "before" if self._text is None else "inside"
            raise TruncatedError(f"the stream ended {where} its end record")
        if self._record.items != self.records_seen:
            raise TruncatedError(
                f"received {counted(self.records_seen, 'item')}, but the end record counts {self._record.items}"
            )
        if not_found is not None:
            raise not_found
        self._proven = True


def _failure(record: EndRecord) -> RemoteError:
    problem = record.problem or {}
    reasons = [str(problem[name]) for name in ("title", "detail") if problem.get(name)]
    message = ": ".join([f"the sender's stream failed after {counted(record.items, 'item')}", *reasons])
    return RemoteError(message, status=_status(problem), problem=problem)
