r"""Plain text (UTF-8) <-> items. Reading returns lines; writing sends strings unchanged and other items as JSON lines.

Lines end with ``\n`` or ``\r\n``; U+2028 and similar characters do not end a line. Text cannot prove its end: a stream
that was cut between two lines looks complete.
"""

import codecs
from collections.abc import Sequence
from typing import Any

import msgspec

from chunkwise.errors import DecodeError, EncodeError, TruncatedError
from chunkwise.formats.contract import Checkpoint, Format
from chunkwise.formats.parsing.json_values import LivePart, encode_lines
from chunkwise.formats.parsing.record_encoder import RecordEncoder
from chunkwise.formats.parsing.stream_decoder import LineSplitter, StreamDecoder
from chunkwise.formats.paths import PathLike


class TextEncoder(RecordEncoder):
    """Strings -> their UTF-8 bytes, with nothing added; other items -> one line of JSON each."""

    def _encode(self, batch: Sequence[Any]) -> bytes:
        try:
            return "".join(batch).encode()
        except (TypeError, UnicodeEncodeError):
            return b"".join([self._piece(item, index) for index, item in enumerate(batch)])

    def _piece(self, item: Any, index: int) -> bytes:
        try:
            return item.encode() if isinstance(item, str) else encode_lines([item], self._count + index)
        except LivePart:
            raise LivePart(index) from None
        except UnicodeEncodeError:
            message = "a string contains a lone surrogate, which UTF-8 cannot encode"
            raise EncodeError(message, item_index=self._count + index) from None


class TextDecoder(StreamDecoder):
    """UTF-8 text in chunks -> its lines, without line ends."""

    name = "text"

    def __init__(self, path: PathLike = "", **options: Any) -> None:
        super().__init__(path, **options)
        if self._parts:
            raise TypeError(f"path cannot be used with the text format, got path={path!r}")
        self._lines = LineSplitter.of_items(self._limits)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._lines.pending_offset, self.items_seen, b"")

    def _decode(self, data: bytes, out: list[Any]) -> None:
        run = self._lines.feed(data, self.bytes_seen - len(data))
        if run:
            self._take(run.replace(b"\r\n", b"\n")[:-1].decode(), out)
        self._lines.check()

    def _take(self, run: str, out: list[Any]) -> None:
        lines = run.split("\n")
        if self._type in (Any, str):
            out += lines
            return
        for line in lines:
            try:
                out.append(msgspec.convert(line, self._type, strict=False))
            except msgspec.ValidationError as error:
                raise DecodeError(str(error)) from None

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        rest = self._lines.rest()
        if rest and not framed:
            raise TruncatedError("the stream ended inside a line: expected a line end after the last line")
        if rest:
            self._take(rest.removesuffix(b"\r").decode(), out)


class TextPieces(StreamDecoder):
    """UTF-8 text in chunks -> the text of each chunk. A character cut at the end of a chunk is in the next text."""

    name = "text"

    def __init__(self) -> None:
        super().__init__()
        self._text = codecs.getincrementaldecoder("utf-8")()

    def _decode(self, data: bytes, out: list[Any]) -> None:
        if text := self._text.decode(data):
            out.append(text)

    def _finish(self, out: list[Any], *, framed: bool) -> None:
        """Do nothing: all text was returned, and the base class raises an error if the last character is incomplete."""


TEXT = Format(
    name="text",
    media_types=("text/plain",),
    parameters="charset=utf-8",
    suffixes=(".txt", ".text", ".log"),
    encoder=TextEncoder,
    decoder=TextDecoder,
    plain_messages=True,
)
