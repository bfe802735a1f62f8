"""What a format is: the protocols that every format keeps, and the frame that all decoders share.

Must not know any one format, and nothing of clocks, sockets or aiohttp.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from chunkwise.errors import DecodeError, LimitError, PathNotFound, TruncatedError
from chunkwise.formats.paths import path_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chunkwise.formats.paths import PathLike

BOM = codecs.BOM_UTF8


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a decoder accepts at most.

    Attributes:
        max_item_bytes: bytes of one item as they stand in the stream.
        max_depth: arrays and objects inside each other; the root is at depth 1.
        max_line_bytes: bytes of one line, where the format has lines, without its line end.
    """

    max_item_bytes: int = 64 * 2**20
    max_depth: int = 512
    max_line_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)}"
                raise ValueError(msg)


DEFAULT_LIMITS = Limits()


class Encoder(Protocol):
    """Items -> bytes. One encoder writes one stream: ``start``, any number of batches, ``finish``.

    An encoder that raises `EncodeError` has not changed its state: ``item_index`` names the item, and the batch up to
    it can be encoded again.
    """

    def start(self) -> bytes:
        """Return the bytes before the first item."""

    def encode(self, batch: Sequence[Any]) -> bytes:
        """Return the bytes of a batch of items, with one call of the engine.

        Raises:
            EncodeError: an item that the format cannot hold; ``item_index`` counts from the start of the stream.
            LivePart: the item at ``index`` of the batch holds iterators or awaitables, and must be written in parts.
        """

    def open_item(self) -> bytes:
        """Return the bytes before an item whose JSON text is written in parts.

        Raises:
            EncodeError: the format cannot hold JSON written in parts.
        """

    def close_item(self) -> bytes:
        """Return the bytes after an item whose JSON text was written in parts."""

    def finish(self) -> bytes:
        """Return the bytes that complete the stream."""


class Decoder(Protocol):
    """Bytes -> items. One decoder reads one stream, in pieces of any size.

    Attributes:
        items_seen: items handed over so far.
        bytes_seen: bytes fed so far.
    """

    items_seen: int
    bytes_seen: int

    def feed(self, data: bytes) -> list[Any]:
        """Return every item that the data completes.

        A defect behind those items is kept, and raised by the next call of `feed` (also with ``b""``, which never
        means the end) or `finish`: so nothing that came whole is lost.

        Raises:
            DecodeError: the bytes are not the format.
            LimitError: an item, a depth or a line is over its limit.
        """

    def finish(self, *, framed: bool = False) -> list[Any]:
        """Say that no more comes, and return the items which only the end completes.

        Args:
            framed: something else proves that the bytes are all there (a last chunk, a Content-Length, a file). Where
                the format alone cannot tell a whole last record from a cut one (``12`` of ``123`` without a line end),
                it is then taken as whole, and refused otherwise.

        Raises:
            TruncatedError: the bytes stopped before the end.
            PathNotFound: the path was required and selected nothing.
        """


class MakeDecoder(Protocol):
    """How to make a decoder of a format: the same arguments for all."""

    def __call__(
        self, path: PathLike = "", *, type: Any = Any, required: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> Decoder:
        """Return a new decoder.

        Args:
            path: which values of each record (of the document, for JSON) are the items; ``""`` for the records.
            type: what each item is decoded to: anything that msgspec decodes (Struct, dataclass, TypedDict, ...).
            required: raise `PathNotFound` at the end of a stream in which the path selected nothing.
            limits: what is accepted at most.
        """


class MakeEncoder(Protocol):
    """How to make an encoder of a format: the same arguments for all."""

    def __call__(self, *, document: bool = False) -> Encoder:
        """Return a new encoder.

        Args:
            document: the stream is one value (an object, say), not a sequence of items; only JSON writes it otherwise.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format as plain data: what servers, clients and command lines need to know of it.

    Attributes:
        name: the name in `FORMATS`.
        media_types: those understood; the first is the one sent.
        parameters: what follows the media type in ``Content-Type``.
        suffixes: file suffixes, the first being the usual one.
        documents: whether it is offered for one value, which may be written in parts, and not only for items.
        headers: what the format adds to an answer's headers.
        keepalive: bytes that are legal between items, or None.
        keepalive_by_default: whether they are sent in long silences without being asked for.
        encoder: makes an `Encoder`.
        decoder: makes a `Decoder`.
    """

    name: str
    media_types: tuple[str, ...]
    suffixes: tuple[str, ...]
    encoder: MakeEncoder
    decoder: MakeDecoder
    parameters: str = ""
    keepalive_by_default: bool = False
    documents: bool = True
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    keepalive: bytes | None = None

    @property
    def content_type(self) -> str:
        """The value of the ``Content-Type`` header."""
        return f"{self.media_types[0]}; {self.parameters}" if self.parameters else self.media_types[0]


class StreamDecoder(ABC):
    """The frame of all decoders: BOM, UTF-8, counting, and errors that wait for the items before them.

    A format gives `_decode` and `_finish`, which append items to a list and raise at a defect.
    """

    name: str
    resynchronises = False
    """Whether decoding may go on behind a defect once it was raised."""
    checks_utf8 = True
    """Whether the frame refuses invalid UTF-8; False where the format itself replaces or refuses it."""

    def __init__(
        self, parts: tuple[str, ...] | None, *, required: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.items_seen = 0
        self.bytes_seen = 0
        self._parts = parts
        self._required = required
        self._limits = limits
        self._found = not parts
        self._failure: DecodeError | None = None
        self._held = b""  # the start of a UTF-8 character
        self._bom_pending: bytes | None = b""
        self._unread = b""  # came while a defect was waiting behind which decoding goes on
        self._finished = False
        self._complete = False

    def feed(self, data: bytes) -> list[Any]:
        """See `Decoder.feed`."""
        out: list[Any] = []
        if self._failure is not None:
            if self.resynchronises:
                self._unread += data
            self._raise(self._failure)
        if self._finished:
            msg = "feed() after finish(): use a new decoder for a new stream"
            raise ValueError(msg)
        data, self._unread = self._unread + data, b""
        try:
            if self._bom_pending is not None:
                data = self._without_bom(data)
            self._decode_valid(data, out)
        except DecodeError as error:
            self._keep(error, out)
        self.items_seen += len(out)
        return out

    def finish(self, *, framed: bool = False) -> list[Any]:
        """See `Decoder.finish`."""
        out: list[Any] = []
        if self._failure is not None:
            self._raise(self._failure)
        if self._complete:
            return out
        self._finished = True
        data, self._unread = (self._bom_pending or b"") + self._unread, b""
        self._bom_pending = None
        try:
            if self.checks_utf8 and (data or self._held):
                self.bytes_seen += len(data)
                raise TruncatedError("the bytes stop inside a UTF-8 character")
            if data:
                self._decode_valid(data, out)
            self._finish(out, framed=framed)
        except DecodeError as error:
            self._keep(error, out)
        self.items_seen += len(out)
        if self._required and not (self._found or self.items_seen):
            msg = f"path {path_text(self._parts)!r} was not found in the stream"
            raise PathNotFound(msg, format=self.name)
        self._complete = self._failure is None
        return out

    @abstractmethod
    def _decode(self, data: bytes, out: list[Any]) -> None:
        """Append to ``out`` every item that the data completes; raise at a defect behind them."""

    @abstractmethod
    def _finish(self, out: list[Any], *, framed: bool) -> None:
        """Append to ``out`` what only the end completes; raise if the stream is not complete."""

    def _without_bom(self, data: bytes) -> bytes:
        # Unicode §23.8: one byte order mark at the start of a stream is not part of the text.
        start = (self._bom_pending or b"") + data
        if BOM.startswith(start):
            if start == BOM:
                self._bom_pending = None
                self.bytes_seen += len(BOM)
            else:
                self._bom_pending = start
            return b""
        self._bom_pending = None
        if start.startswith(BOM):
            self.bytes_seen += len(BOM)
            return start[len(BOM) :]
        return start

    def _decode_valid(self, data: bytes, out: list[Any]) -> None:
        """Decode the data, or what stands before its first invalid UTF-8."""
        if not self.checks_utf8:
            self.bytes_seen += len(data)
            self._decode(data, out)
            return
        # A character that is not whole stays here: else a number would end at its first byte, or not, by the split.
        start, end = self.bytes_seen - len(self._held), self.bytes_seen + len(data)
        data = self._held + data if self._held else data
        defect = None
        try:
            whole = codecs.utf_8_decode(data, "strict", False)[1]  # noqa: FBT003 - not the end
        except UnicodeDecodeError as error:
            whole = error.start
            defect = DecodeError(
                f"invalid UTF-8: {error.reason} 0x{data[whole]:02x}; send UTF-8", byte_offset=start + whole
            )
        self._held = b"" if defect else data[whole:]
        try:
            self.bytes_seen = start + whole  # which `_decode` takes its offsets from
            self._decode(data[:whole], out)
        finally:
            self.bytes_seen = end
        if defect is not None:
            raise defect

    def _keep(self, error: DecodeError, out: list[Any]) -> None:
        """Complete the error; raise it at once only if no items wait before it."""
        error.format = self.name
        count = self.items_seen + len(out)
        if isinstance(error, TruncatedError):
            error.items_seen, error.bytes_seen = count, self.bytes_seen
        else:
            error.item_index = count
        self._failure = error
        if not out:
            self._raise(error)

    def _raise(self, error: DecodeError) -> NoReturn:
        if self.resynchronises and not isinstance(error, (TruncatedError, LimitError)):
            self._failure = None
        raise error
