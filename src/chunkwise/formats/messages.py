r"""Lines of JSON <-> messages, for a transport that sends messages (WebSocket, RFC 6455).

The stream inside is always NDJSON; a message holds:

    items   the JSON text of one item
    text    one string as it is, or the JSON text of any other item
    lines   any number of items, one JSON text a line (the subprotocol `SUBPROTOCOL`)

A sender that ends its half, but still reads, sends NDJSON's end record, in a message or a line of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from chunkwise.errors import DecodeError, EncodeError
from chunkwise.formats.contract import DEFAULT_LIMITS
from chunkwise.formats.ndjson import END_RECORD, NDJSON, NdjsonEncoder
from chunkwise.formats.parsing.json_values import ValueDecoder, encode_value


class LinesEncoder(NdjsonEncoder):
    """Items -> one JSON text a line; items that look like an end record are refused, because readers accept one."""

    def __init__(self, *, stream_end: bool = False, **options: Any) -> None:
        super().__init__(stream_end=True, **options)
        self._writes_end = stream_end

    def finish(self) -> bytes:
        return super().finish() if self._writes_end else b""

    def fail(self, problem: Mapping[str, Any]) -> bytes:
        return super().fail(problem) if self._writes_end else b""


LINES = replace(NDJSON, encoder=LinesEncoder)
"""The format of the stream inside the messages."""

SUBPROTOCOL = "chunkwise.ndjson"
"""With this subprotocol, a message holds a whole batch of items: much faster for many small ones."""

START_MARK = b' {"stream-start":'
"""The start of a start record, which says where a stream begins: sent first to a client that asked for a range."""

Framing = Literal["items", "text", "lines"]
"""The content of a message; see above."""


def framing_of(subprotocol: str | None, *, plain: bool) -> Framing:
    """Return the framing for the agreed subprotocol; ``plain`` is `Format.plain_messages`."""
    if subprotocol == SUBPROTOCOL:
        return "lines"
    return "text" if plain else "items"


# Between the tokens of JSON a tab is as valid as a line end, and inside a string it is as invalid.
_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"\t\t")

_strings = ValueDecoder(str)
_starts = ValueDecoder(dict[str, Any])


def unpack(message: str | bytes, framing: Framing) -> bytes:
    """Return the lines of a message."""
    if framing == "text":
        return encode_value(message if isinstance(message, str) else message.decode()) + b"\n"
    data = message.encode() if isinstance(message, str) else message
    if framing == "items":
        return data.rstrip(b"\r\n").translate(_ON_ONE_LINE) + b"\n"
    return data if data.endswith(b"\n") else data + b"\n"


def start_record(first: int, etag: str | None, key: Sequence[str]) -> bytes:
    """Return the start record of a stream over messages; over HTTP, the headers say the same."""
    return START_MARK + encode_value({"first": first, "etag": etag, "key": key}) + b"}\n"


def take_start(lines: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Split the first lines of a stream into the content of the start record, if there is one, and the rest."""
    if not lines.startswith(START_MARK):
        return None, lines
    line, _, rest = lines.partition(b"\n")
    return _starts.one(line.removeprefix(START_MARK).removesuffix(b"}"), 0), rest


def holds_end(lines: bytes) -> bool:
    """Whether the lines that `unpack` returned hold an end record."""
    return lines.startswith(END_RECORD.before) or b"\n" + END_RECORD.before in lines


class Packer:
    """Lines in pieces of any size -> messages, each of which holds an item of at most ``max_bytes``.

    ``plain`` says whether a line end at the end of a string is removed: a message needs no line end.
    """

    def __init__(
        self, framing: Framing, *, plain: bool = False, max_bytes: int = DEFAULT_LIMITS.max_item_bytes
    ) -> None:
        self._framing = framing
        self._plain = plain
        self._max_bytes = max_bytes
        self._held: list[bytes] = []  # of a line that is written in parts
        self._held_bytes = 0

    def pack(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that the data completes; then raise EncodeError for a long item or a bad string."""
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
                message = f"an item of more than {self._max_bytes} bytes, which a message has to hold as a whole"
                raise EncodeError(f"{message}: stream its parts as items")

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
        except DecodeError as error:  # of a msgspec.Raw, which is checked here for the first time
            raise EncodeError(f"a string is invalid: {error.message}") from None
        text = text.removesuffix("\n").removesuffix("\r")
        return text.encode() if self._framing == "text" else encode_value(text)
