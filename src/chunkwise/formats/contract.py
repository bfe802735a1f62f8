"""What a format is: the protocols that every format keeps, as data and as calls.

Must not know any one format, and nothing of clocks, sockets or aiohttp.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chunkwise.formats.paths import PathLike


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a decoder accepts at most.

    Attributes:
        max_item_bytes: bytes of one item as they stand in the stream.
        max_depth: arrays and objects inside each other; the root is at depth 1.
        max_line_bytes: bytes of one line, where the format has lines, without its line end.

    Raises:
        TypeError: one of them is no int.
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
    """How a format that cannot prove its end writes the record that does (see `stream_end`).

    No item may begin, at the start of the stream or behind a line feed, with ``before``, nor end inside it.

    Attributes:
        before: what stands before the record's JSON, which has no line ends.
        after: what stands behind it, with at least one line feed.
        comment: what begins a line that means nothing, where the format has such lines.
    """

    before: bytes
    after: bytes
    comment: bytes | None = None


class Checkpoint(NamedTuple):
    """A place in a stream at which a new decoder, made with the same path, can begin.

    Fed with ``before``, and then with the bytes of the stream from ``byte_offset`` on, it gives what a decoder of the
    whole stream gives from item ``item_index`` on; its offsets count from the first byte of ``before``.

    Attributes:
        byte_offset: in the stream's bytes.
        item_index: how many items stand before it.
        before: what leads a decoder there: the header of a table, or the brackets that are open. It holds no item.
    """

    byte_offset: int
    item_index: int
    before: bytes


class Encoder(Protocol):
    """Items -> bytes. One encoder writes one stream: ``start``, any number of batches, ``finish`` or ``fail``.

    An encoder that raises `EncodeError` has not changed its state: ``item_index`` names the item, and the batch up to
    it can be encoded again.
    """

    def start(self) -> bytes:
        """Return the bytes before the first item."""

    def encode(self, batch: Sequence[Any]) -> bytes:
        """Return the bytes of a batch of items, with one call of the engine.

        Args:
            batch: any number of items, also none.

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
        """Return the bytes that complete the stream, its end record among them if it was made with one."""

    def fail(self, problem: Mapping[str, Any]) -> bytes:
        """Return an end record that says that the stream has failed, instead of `finish`.

        It is ``b""`` if the encoder was not made with ``stream_end``, if the format has no such record, and inside an
        item that is written in parts, where nothing can stand.

        Args:
            problem: problem details (RFC 9457) for the reader; what is too long or no JSON is left out.
        """


class Decoder(Protocol):
    """Bytes -> items. One decoder reads one stream, in pieces of any size.

    Attributes:
        items_seen: items handed over so far.
        bytes_seen: bytes fed so far.
    """

    items_seen: int
    bytes_seen: int

    @property
    def records_seen(self) -> int:
        """Records that came whole, whatever the path selects inside them; an end record counts them.

        It is complete with `finish`, and stays 0 in formats without an end record.
        """

    @property
    def whole_records(self) -> int | None:
        """How many records came whole with all their items, if no item of any other came; None if that is not so.

        It is where a stream that broke goes on if a path selects inside of records.
        """

    @property
    def proves_end(self) -> bool:
        """Whether the bytes themselves have proven, once `finish` is through, that they are all there."""

    def feed(self, data: bytes) -> list[Any]:
        """Return every item that the data completes.

        A defect behind those items is kept, and raised by the next call of `feed` (also with ``b""``, which never
        means the end) or `finish`: so nothing that came whole is lost.

        Args:
            data: the next bytes, cut anywhere.

        Raises:
            DecodeError: the bytes are not the format.
            LimitError: an item, a depth or a line is over its limit.
        """

    def checkpoint(self) -> Checkpoint | None:
        """Return the last place of what was fed at which a new decoder can begin; None if none is known.

        It costs nothing to speak of, and may be asked for behind any call of `feed`. There is none before the first
        item, behind a defect, in a format that has no such places, and at moments when none is near.
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

    def __call__(
        self, *, document: bool = False, stream_end: bool = False, first: int = 0, key: Sequence[str] = ()
    ) -> Encoder:
        """Return a new encoder.

        Args:
            document: the stream is one value (an object, say), not a sequence of items; only JSON writes it otherwise.
            stream_end: write an end record; for readers that asked for it, where the format has one.
            first: the index of the first item, where the stream goes on; counts where items have ids.
            key: the members of an item that stand in its id as well, behind the index.
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
        proves_end: whether its grammar proves the end: a stream that was cut is then never taken for a whole one.
        end_record: how its end record is written and found; None if it needs none (JSON), or cannot hold one.
        event_ids: whether each item has an id, which a client that goes on sends back as ``Last-Event-ID``.
        plain_messages: whether, over a transport of messages, a string is one as it is, and not as JSON.
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
