"""The contract of a format: `Format` (plain data), `Encoder` (items -> bytes), `Decoder` (bytes -> items), `Limits`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from chunkwise.formats.paths import PathLike


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a decoder.

    Attributes:
        max_item_bytes: bytes of one item in the stream.
        max_depth: arrays and objects inside each other; the root is at depth 1.
        max_line_bytes: bytes of one line without its line end, in formats with lines.

    Raises:
        TypeError: one of them is not an int.
        ValueError: one of them is less than 1.
    """

    max_item_bytes: int = 64 * 2**20
    max_depth: int = 512
    max_line_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        for name in self.__slots__:
            limit = getattr(self, name)
            if not isinstance(limit, int):
                raise TypeError(f"{name} must be an int, got {limit!r}")
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, got {limit}")


DEFAULT_LIMITS = Limits()


STREAM_END = "stream-end"
"""The name of the end record: in the record, and as the preference (RFC 7240) that asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRecordMarks:
    """How a format that cannot prove its end writes the record that does (see `end_record`).

    No item may begin with ``before`` at the start of the stream or after a line feed, or end inside it.

    Attributes:
        before: the bytes before the record's JSON, which has no line ends.
        after: the bytes after it, with at least one line feed.
        comment: the start of a comment line, in formats that have comments.
    """

    before: bytes
    after: bytes
    comment: bytes | None = None


class Checkpoint(NamedTuple):
    """A place in a stream at which a new decoder with the same path can begin.

    Feed it ``before``, and then the bytes of the stream from ``byte_offset`` on. It returns the same items as a decoder
    of the whole stream returns from item ``item_index`` on. Its offsets count from the first byte of ``before``.

    Attributes:
        byte_offset: the offset in the stream.
        item_index: the number of items before it.
        before: bytes that prepare the decoder: the header of a table, or the open brackets. They hold no item.
    """

    byte_offset: int
    item_index: int
    before: bytes


class Encoder(Protocol):
    """Items -> bytes. One encoder writes one stream: ``start``, any number of batches, ``finish`` or ``fail``.

    When an encoder raises `EncodeError`, its state has not changed: ``item_index`` names the item, and the items before
    it can be encoded again.
    """

    def start(self) -> bytes:
        """Return the bytes before the first item."""

    def encode(self, batch: Sequence[Any]) -> bytes:
        """Return the bytes of a batch of items, with one call of the engine.

        Args:
            batch: any number of items, or none.

        Raises:
            EncodeError: the format cannot hold an item; ``item_index`` counts from the start of the stream.
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
        """Return the bytes that complete the stream, with the end record if the encoder was made with one."""

    def fail(self, problem: Mapping[str, Any]) -> bytes:
        """Return an end record that says that the stream has failed, instead of `finish`.

        It is ``b""`` if the encoder was not made with ``stream_end``, if the format has no end record, and inside an
        item that is written in parts.

        Args:
            problem: problem details (RFC 9457) for the reader; left out if they are too long or not JSON.
        """


class Decoder(Protocol):
    """Bytes -> items. One decoder reads one stream, in pieces of any size.

    Attributes:
        items_seen: items returned so far.
        bytes_seen: bytes fed so far.
    """

    items_seen: int
    bytes_seen: int

    @property
    def records_seen(self) -> int:
        """The number of complete records, whatever the path selects inside them; an end record counts them.

        It is final after `finish`, and stays 0 in formats without an end record.
        """

    @property
    def whole_records(self) -> int | None:
        """The number of complete records; None if items of an incomplete record were returned.

        If a path selects inside records, a stream is resumed after these.
        """

    @property
    def proves_end(self) -> bool:
        """Whether, after `finish`, the bytes themselves prove that the stream is complete."""

    def feed(self, data: bytes) -> list[Any]:
        """Return every item that the data completes.

        A defect after those items is raised by the next call of `feed` (also with ``b""``, which never means the end)
        or `finish`, so that no complete item is lost.

        Args:
            data: the next bytes, cut anywhere.

        Raises:
            DecodeError: the bytes are not in the format.
            LimitError: an item, a depth or a line is over its limit.
        """

    def checkpoint(self) -> Checkpoint | None:
        """Return the last place in the fed bytes at which a new decoder can begin, or None.

        It is cheap, and may be called after any call of `feed`. There is no place before the first item or after a
        defect, in some formats never, and not after every call.
        """

    def finish(self, *, framed: bool = False) -> list[Any]:
        """Return the items that only the end of the bytes completes.

        Args:
            framed: whether something else proves that these are all bytes (a last chunk, a Content-Length, a file). If
                the last record may be cut (``12`` of ``123`` without a line end), it is accepted only then.

        Raises:
            TruncatedError: the bytes stopped before the end.
            PathNotFound: the path was required and selected nothing.
        """


class MakeDecoder(Protocol):
    """A call that makes a decoder; all formats take the same arguments."""

    def __call__(
        self, path: PathLike = "", *, type: Any = Any, required: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> Decoder:
        """Return a new decoder.

        Args:
            path: which values of each record (of the document, for JSON) are the items; ``""`` for the records.
            type: the type of each item: any type that msgspec decodes (Struct, dataclass, TypedDict, ...).
            required: raise `PathNotFound` at the end of a stream in which the path selected nothing.
            limits: the limits of the decoder.
        """


class MakeEncoder(Protocol):
    """A call that makes an encoder; all formats take the same arguments."""

    def __call__(
        self, *, document: bool = False, stream_end: bool = False, first: int = 0, key: Sequence[str] = ()
    ) -> Encoder:
        """Return a new encoder.

        Args:
            document: the stream is one value (such as an object), not a sequence of items; this only changes JSON.
            stream_end: write an end record, if the format has one; for readers that asked for it.
            first: the index of the first item, if the stream is resumed; for formats with item ids.
            key: the members of an item that follow the index in its id.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format: its name, its media types, and how it is encoded and decoded.

    Attributes:
        name: the name in `FORMATS`.
        media_types: the media types that it is read from; responses have the first one.
        suffixes: the file suffixes; the first one is the usual one.
        encoder: makes an `Encoder`.
        decoder: makes a `Decoder`.
        parameters: the parameters after the media type in ``Content-Type``.
        keepalive_by_default: whether the ``keepalive`` bytes are sent in long silences by default.
        documents: whether a document, a single value that may be written in parts, can be sent in it.
        proves_end: whether its grammar proves the end, so that an incomplete stream never looks complete.
        headers: the headers that it adds to a response.
        keepalive: bytes without meaning that are allowed between items, or None.
        end_record: how its end record is written and found; None if it needs none (JSON) or cannot hold one.
        event_ids: whether each item has an id, which a client that resumes sends back as ``Last-Event-ID``.
        plain_messages: whether a string is sent over a WebSocket as it is, instead of as JSON.
    """

    name: str
    media_types: tuple[str, ...]
    suffixes: tuple[str, ...]
    encoder: MakeEncoder
    decoder: MakeDecoder
    parameters: str = ""
    keepalive_by_default: bool = False
    documents: bool = True
    proves_end: bool = False
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    keepalive: bytes | None = None
    end_record: EndRecordMarks | None = None
    event_ids: bool = False
    plain_messages: bool = False

    @property
    def content_type(self) -> str:
        """The value of the ``Content-Type`` header."""
        return f"{self.media_types[0]}; {self.parameters}" if self.parameters else self.media_types[0]
