"""The description of a `Format`, the protocols of its `Encoder` and its `Decoder`, and the `Limits` of a decoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from chunkwise.formats.paths import PathLike


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a decoder. A stream that exceeds one of them raises `LimitError`.

    Attributes:
        max_item_bytes: the most bytes of one encoded item.
        max_depth: the most arrays and objects nested inside each other. The outermost one has depth 1.
        max_line_bytes: the most bytes of one line without its line end, in formats that consist of lines.

    Raises:
        TypeError: a limit is not an int.
        ValueError: a limit is less than 1.
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
"""The name of the end record. Clients send this name to request the record: ``Prefer: stream-end`` (RFC 7240)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRecordMarks:
    """The bytes around an end record in one format. The module `end_record` describes the record.

    A decoder recognises the record by ``before`` at the start of a line. No line of an item begins with these bytes.

    Attributes:
        before: the bytes before the JSON text of the record. The text itself contains no line ends.
        after: the bytes after the JSON text, with at least one line feed.
        comment: the first bytes of a comment line; None in formats without comments.
    """

    before: bytes
    after: bytes
    comment: bytes | None = None


class Checkpoint(NamedTuple):
    """A position in a stream from which a new decoder can read, if it has the same ``path`` as the first decoder.

    Feed ``before`` to the new decoder, then the bytes of the stream from ``byte_offset`` on. The decoder returns the
    items from ``item_index`` on. The byte offsets in its errors count from the first byte of ``before``.

    Attributes:
        byte_offset: the number of bytes before the position.
        item_index: the number of items before the position.
        before: bytes that prepare the new decoder, such as the header of a CSV file or the brackets of the arrays and
            objects that are open at the position. They contain no item.
    """

    byte_offset: int
    item_index: int
    before: bytes


class Encoder(Protocol):
    """Encodes the items of one stream: call `start`, then `encode` for each batch, then `finish` or `fail`.

    If `encode` raises `EncodeError`, the encoder is unchanged. The ``item_index`` of the error says which item cannot
    be encoded. You can encode the items before this item with another call.
    """

    def start(self) -> bytes:
        """Return the bytes before the first item."""

    def encode(self, batch: Sequence[Any]) -> bytes:
        """Return the bytes of a batch of items.

        Args:
            batch: the items; it may be empty.

        Raises:
            EncodeError: the format cannot represent an item; ``item_index`` counts from the start of the stream.
            LivePart: the item at ``index`` of the batch contains iterators or awaitables, so it has to be written in
                parts.
        """

    def open_item(self) -> bytes:
        """Return the bytes before an item with iterators or awaitables. The caller then writes its JSON text in parts.

        Raises:
            EncodeError: an item of this format cannot be written in parts.
        """

    def close_item(self) -> bytes:
        """Return the bytes after an item whose JSON text the caller has written in parts."""

    def finish(self) -> bytes:
        """Return the bytes that complete the stream, including the end record if ``stream_end`` was set."""

    def fail(self, problem: Mapping[str, Any]) -> bytes:
        """Return an end record with the status ``"failed"``; call it instead of `finish` when the stream has failed.

        The result is ``b""`` if the encoder was made without ``stream_end``, if the format has no end record, or if an
        item is being written in parts: decoders would read the end record as part of this item.

        Args:
            problem: problem details (RFC 9457) for the client. If they are too long or JSON cannot represent them, the
                encoder sends only their HTTP status.
        """


class Decoder(Protocol):
    """Decodes the bytes of one stream, which may be split into chunks of any size, to items.

    Attributes:
        items_seen: the number of items returned so far.
        bytes_seen: the number of bytes fed so far.
    """

    items_seen: int
    bytes_seen: int

    @property
    def records_seen(self) -> int:
        """The number of complete records received, to compare with the number in the end record of the stream.

        It can differ from the number of items, because a path may select no item or several items in one record.
        It is final after `finish`. In formats without an end record it stays 0.
        """

    @property
    def whole_records(self) -> int | None:
        """The number of complete records received, if a client can resume the stream after them; otherwise None.

        A client needs this number if its path selects items inside records. It is None, for example, if the decoder
        has already returned items of an incomplete record: the server would send these items again.
        """

    @property
    def proves_end(self) -> bool:
        """Whether the received bytes prove that the stream is complete. It is False before `finish` is called."""

    def feed(self, data: bytes) -> list[Any]:
        """Return every item that the data completes.

        If invalid bytes follow these items, the next call of `feed` or `finish` raises the error, so that no complete
        item is lost. To get the error at once, call ``feed(b"")``: empty data does not mean the end of the stream.

        Args:
            data: the next bytes of the stream, split at any position.

        Raises:
            DecodeError: the bytes are not valid in the format.
            LimitError: an item, the nesting depth or a line exceeds its limit.
        """

    def checkpoint(self) -> Checkpoint | None:
        """Return the last position in the fed bytes from which a new decoder can read, or None.

        The call is cheap; you can make it after every call of `feed`. The result is None before the first item, after
        an error, and always in formats without such positions, such as server-sent events.
        """

    def finish(self, *, framed: bool = False) -> list[Any]:
        """End the stream, and return the items that only its end completes, such as a last line without a line end.

        Args:
            framed: whether the transport proves that all bytes were received, for example by a last chunk or a
                Content-Length. A last record that may be incomplete, such as ``12`` of ``123``, is accepted only if
                this is True.

        Raises:
            TruncatedError: the bytes ended before the stream was complete.
            PathNotFound: the stream is complete, but has no value at a required path.
        """


class MakeDecoder(Protocol):
    """A callable that returns a new `Decoder`. Every format takes the same arguments."""

    def __call__(
        self, path: PathLike = "", *, type: Any = Any, required: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> Decoder:
        """Return a new decoder.

        Args:
            path: selects the values of each record (in JSON: of the document) that are the items. With ``""``, the
                records themselves are the items.
            type: the type of each item: any type that msgspec can decode, such as a Struct, dataclass or TypedDict.
            required: whether `finish` raises `PathNotFound` if the path exists nowhere in the stream.
            limits: the limits of the decoder.
        """


class MakeEncoder(Protocol):
    """A callable that returns a new `Encoder`. Every format takes the same arguments."""

    def __call__(
        self, *, document: bool = False, stream_end: bool = False, first: int = 0, key: Sequence[str] = ()
    ) -> Encoder:
        """Return a new encoder.

        Args:
            document: whether the stream is one value, such as an object, instead of a sequence of items. Only the JSON
                encoder uses this argument.
            stream_end: whether to write an end record, if the format has one. Clients have to request it.
            first: the index of the first item in a resumed stream, for formats in which items have ids.
            key: names of members of each item. The id of an item consists of its index and the values of these members.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format: its name, its media types, and how it is encoded and decoded.

    Attributes:
        name: the name in `FORMATS`.
        media_types: a received stream with any of these media types has this format. Responses have the first one.
        suffixes: the file suffixes; the first one is the usual one.
        encoder: makes an `Encoder`.
        decoder: makes a `Decoder`.
        parameters: the parameters after the media type in ``Content-Type``.
        keepalive_by_default: whether the ``keepalive`` bytes are sent in long silences by default.
        documents: whether a document, a single value that may be written in parts, can be sent in this format.
        proves_end: whether its grammar proves the end, so that an incomplete stream never looks complete.
        headers: the headers that it adds to a response.
        keepalive: bytes that can be sent between items to keep a connection open, because decoders ignore them; None if
            the format has no such bytes.
        end_record: the bytes around its end record; None if the format needs no end record (JSON) or cannot have one.
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
        """The value of the ``Content-Type`` header for this format."""
        return f"{self.media_types[0]}; {self.parameters}" if self.parameters else self.media_types[0]
