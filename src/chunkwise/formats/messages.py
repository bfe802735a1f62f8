r"""Lines of JSON <-> messages: a stream over a transport that keeps messages apart (WebSocket, RFC 6455).

Must not know how messages arrive or leave. Inside, the stream is NDJSON, whatever stands in a message:

    items   a message is the JSON text of one item
    text    a message is one string as it is; any other item is JSON
    lines   a message is any number of items, each in a line (the subprotocol `SUBPROTOCOL`)

A sender that goes on to read ends its half with NDJSON's end record, in a message or a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from chunkwise.errors import DecodeError, EncodeError
from chunkwise.formats.contract import DEFAULT_LIMITS
from chunkwise.formats.ndjson import END_RECORD, NDJSON, NdjsonEncoder
from chunkwise.formats.parsing.json_values import ValueDecoder, encode_value


class LinesEncoder(NdjsonEncoder):
    """Items -> one JSON text a line, none of them like an end record, which a reader would take for one anyway."""

    def __init__(self, *, stream_end: bool = False, **options: Any) -> None:
        super().__init__(stream_end=True, **options)
        self._writes_end = stream_end

    def finish(self) -> bytes:
        """See `Encoder.finish`."""
        return super().finish() if self._writes_end else b""

    def fail(self, problem: Mapping[str, Any]) -> bytes:
        """See `Encoder.fail`."""
        return super().fail(problem) if self._writes_end else b""


LINES = replace(NDJSON, encoder=LinesEncoder)
"""The format of the stream inside the messages."""

SUBPROTOCOL = "chunkwise.ndjson"
"""Who offers it gets whole batches of items in a message: much faster for many small ones."""

START_MARK = b' {"stream-start":'
"""How a message begins that says where a stream begins: for a client that asked for a range, before all items."""

Framing = Literal["items", "text", "lines"]
"""What stands in a message; see above."""


def framing_of(subprotocol: str | None, *, plain: bool) -> Framing:
    """Return what stands in the messages of a connection.

    Args:
        subprotocol: what its two sides have agreed on.
        plain: see `Format.plain_messages`.
    """
    if subprotocol == SUBPROTOCOL:
        return "lines"
    return "text" if plain else "items"


# Between the tokens of JSON a tab is as good as a line end, and inside a string it is as bad.
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
    """Return the line that tells where a stream over messages begins: HTTP does so in its headers."""
    told = {"first": first, "etag": etag, "key": key}
    return START_MARK + encode_value(told) + b"}\n"


def take_start(lines: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Take a start record from the first lines of a stream; return what it tells, if there is one, and the rest.

    Raises:
        DecodeError: it is none.
    """
    if not lines.startswith(START_MARK):
        return None, lines
    line, _, rest = lines.partition(b"\n")
    return _starts.one(line.removeprefix(START_MARK).removesuffix(b"}"), 0), rest


def holds_end(lines: bytes) -> bool:
    """Whether an end record stands in what `unpack` returned."""
    return lines.startswith(END_RECORD.before) or b"\n" + END_RECORD.before in lines


class Packer:
    """Lines in pieces of any size -> messages.

    Args:
        framing: what stands in a message.
        plain: whether strings lose a line end at their end: it ends a line of text, and a message ends by itself.
        max_bytes: of one item: it goes into a message as a whole, so that it has to be held.
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
        """Give the messages that the data completes; those before an error come before it is raised.

        Raises:
            EncodeError: a line that is not complete is over max_bytes, or a string holds a lone surrogate.
        """
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
        except DecodeError as error:  # of a msgspec.Raw, which nobody has looked at yet
            raise EncodeError(f"a string is none: {error.message}") from None
        text = text.removesuffix("\n").removesuffix("\r")
        return text.encode() if self._framing == "text" else encode_value(text)
