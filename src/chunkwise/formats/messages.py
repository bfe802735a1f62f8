r"""NDJSON lines <-> messages of a transport such as WebSocket (RFC 6455).

The messages always contain an NDJSON stream. The framing decides what one message contains:

    items   the JSON text of one item
    text    one string without quotes, or the JSON text of any other item
    lines   any number of items, one JSON text on each line (with the subprotocol `SUBPROTOCOL`)

A sender that has sent all its items but wants to receive more items cannot close the connection. To end its stream, it
sends the end record of NDJSON, as a separate message or line.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from chunkwise.errors import DecodeError, EncodeError
from chunkwise.formats.contract import DEFAULT_LIMITS
from chunkwise.formats.ndjson import END_RECORD, NDJSON, NdjsonEncoder
from chunkwise.formats.parsing.json_values import ValueDecoder, encode_value


class LinesEncoder(NdjsonEncoder):
    """Items -> one JSON text on each line. An item that looks like an end record raises EncodeError."""

    def __init__(self, *, stream_end: bool = False, **options: Any) -> None:
        super().__init__(stream_end=True, **options)
        self._writes_end = stream_end

    def finish(self) -> bytes:
        return super().finish() if self._writes_end else b""

    def fail(self, problem: Mapping[str, Any]) -> bytes:
        return super().fail(problem) if self._writes_end else b""


LINES = replace(NDJSON, encoder=LinesEncoder)
"""The format of the stream that the messages contain."""

SUBPROTOCOL = "chunkwise.ndjson"
"""The subprotocol in which one message contains a whole batch of items. This is much faster for many small items."""

START_MARK = b' {"stream-start":'
"""The first bytes of a start record. The server sends this record first to a client that requested a range of items."""

Framing = Literal["items", "text", "lines"]
"""What one message contains; the docstring of this module describes the three framings."""


def framing_of(subprotocol: str | None, *, plain: bool) -> Framing:
    """Return what one message contains with the negotiated subprotocol.

    ``plain`` says whether a string is sent unchanged instead of as JSON, see `Format.plain_messages`.
    """
    if subprotocol == SUBPROTOCOL:
        return "lines"
    return "text" if plain else "items"


# Line ends inside an item are replaced with tabs, so that the item is one NDJSON line. Valid JSON stays valid, and
# invalid JSON stays invalid, because JSON allows line ends and tabs between tokens, and neither of them inside strings.
_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"\t\t")

_strings = ValueDecoder(str)
_starts = ValueDecoder(dict[str, Any])


def unpack(message: str | bytes, framing: Framing) -> bytes:
    """Return the content of a message as NDJSON lines."""
    if framing == "text":
        return encode_value(message if isinstance(message, str) else message.decode()) + b"\n"
    data = message.encode() if isinstance(message, str) else message
    if framing == "items":
        return data.rstrip(b"\r\n").translate(_ON_ONE_LINE) + b"\n"
    return data if data.endswith(b"\n") else data + b"\n"


def start_record(first: int, etag: str | None, key: Sequence[str]) -> bytes:
    """Return a start record, with values that an HTTP response has in headers.

    Args:
        first: the index of the first item in the stream.
        etag: the ETag of the stream, without quotes; None if the stream has none.
        key: the names of the members that give the position of an item; empty if its index gives the position.
    """
    return START_MARK + encode_value({"first": first, "etag": etag, "key": key}) + b"}\n"


def take_start(lines: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Return the content of the start record and the lines after it.

    If the lines do not begin with a start record, the content is None and all lines are returned.
    """
    if not lines.startswith(START_MARK):
        return None, lines
    line, _, rest = lines.partition(b"\n")
    return _starts.one(line.removeprefix(START_MARK).removesuffix(b"}"), 0), rest


def holds_end(lines: bytes) -> bool:
    """Return whether one of the NDJSON lines is an end record."""
    return lines.startswith(END_RECORD.before) or b"\n" + END_RECORD.before in lines


class Packer:
    """NDJSON lines in chunks of any size -> messages.

    Args:
        framing: what one message contains.
        plain: whether strings are lines of text. A line end at the end of such a string is removed, because each
            message or NDJSON line contains only one string.
        max_bytes: the most bytes of one item. An item cannot be split into several messages.
    """

    def __init__(
        self, framing: Framing, *, plain: bool = False, max_bytes: int = DEFAULT_LIMITS.max_item_bytes
    ) -> None:
        self._framing = framing
        self._plain = plain
        self._max_bytes = max_bytes
        self._held: list[bytes] = []  # the received parts of a line that is not complete yet
        self._held_bytes = 0

    def pack(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that the data completes; then raise EncodeError if an item is too long or invalid."""
        end = data.rfind(b"\n") + 1
        if end:
            lines = b"".join([*self._held, data[:end]])
            self._held, self._held_bytes = [], 0
            if self._framing == "lines" and not self._plain:
                yield lines
            else:
                yield from self._each(lines[:-1].split(b"\n"))
        if rest := data[end:]:
            self._held.append(rest)
            self._held_bytes += len(rest)
            if self._held_bytes > self._max_bytes:
                message = f"got an item of more than {self._max_bytes} bytes, which is too long for one message"
                raise EncodeError(f"{message}: send its parts as separate items")

    def _each(self, lines: list[bytes]) -> Iterator[bytes]:
        if not self._plain:
            yield from lines
            return
        for line in lines:
            text = self._string(line) if line.startswith(b'"') else line
            yield text if self._framing == "text" else text + b"\n"

    def _string(self, line: bytes) -> bytes:
        try:
            text: str = _strings.one(line, 0)
        except DecodeError as error:  # only a msgspec.Raw can be invalid, because it is not checked earlier
            raise EncodeError(f"an item is invalid, expected the JSON text of a string: {error.message}") from None
        text = text.removesuffix("\n").removesuffix("\r")
        return text.encode() if self._framing == "text" else encode_value(text)
