r"""NDJSON <-> items: one JSON text on each line, which ends with ``\n`` or ``\r\n``. Blank lines are skipped.

This is also the JSON Lines format. NDJSON cannot prove its end: without an end record, a stream that was cut between
two lines looks complete.
"""

from collections.abc import Sequence
from typing import Any

from chunkwise.errors import DecodeError, LimitError, TruncatedError
from chunkwise.formats.contract import STREAM_END, Checkpoint, EndRecordMarks, Format
from chunkwise.formats.parsing.json_values import encode_lines
from chunkwise.formats.parsing.record_encoder import RecordEncoder
from chunkwise.formats.parsing.stream_decoder import LineSplitter, RecordDecoder
from chunkwise.formats.paths import PathLike

# The space at the start marks the end record: the line of an item never begins with a space.
END_RECORD = EndRecordMarks(before=f' {{"{STREAM_END}":'.encode(), after=b"}\n")


class NdjsonEncoder(RecordEncoder):
    """Items -> one JSON text on each line."""

    end_record: EndRecordMarks | None = END_RECORD

    def _encode(self, batch: Sequence[Any]) -> bytes:
        return encode_lines(batch, self._count)


class NdjsonDecoder(RecordDecoder):
    """NDJSON in chunks -> items."""

    name = "ndjson"

    def __init__(self, path: PathLike = "", **options: Any) -> None:
        super().__init__(path, **options)
        self._lines = LineSplitter.of_items(self._limits)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._lines.pending_offset, self.items_seen, b"")

    def _decode(self, data: bytes, out: list[Any]) -> None:
        run = self._lines.feed(data, self.bytes_seen - len(data))
        if run:
            values = self._decode_many(run[:-1])
            if values is None:
                self._decode_each(run, out)
            else:
                out += values
        self._lines.check()

    def _decode_each(self, run: bytes, out: list[Any]) -> None:
        offset = self._lines.offset
        for line in run.split(b"\n"):
            if line.strip(b" \t\r"):
                self._decode_one(line, offset, out)
            offset += len(line) + 1

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        text = self._lines.rest()
        last = text.strip(b" \t\r")
        if not last:
            return
        # The last line may lack its line end if the value shows that it is complete, for example with a closing
        # bracket. A number does not show that it is complete, because more digits could follow.
        if not framed and last[:1] in b"-0123456789":
            msg = "the stream ended in a number, which may be incomplete; expected a line feed after the last line"
            raise TruncatedError(msg)
        try:
            self._decode_each(text, out)
        except DecodeError as error:
            if framed or isinstance(error, LimitError):
                raise
            raise TruncatedError(f"the last line is incomplete: {error.message}") from None


NDJSON = Format(
    name="ndjson",
    media_types=("application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines",
                 "application/x-jsonlines", "application/json-lines"),
    suffixes=(".ndjson", ".jsonl"),
    encoder=NdjsonEncoder,
    decoder=NdjsonDecoder,
    keepalive=b"\n",
    end_record=END_RECORD,
)  # fmt: skip
