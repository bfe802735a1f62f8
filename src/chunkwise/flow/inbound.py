"""Chunks of bytes -> batches -> items. A transport provides the chunks, and says whether their end is proven."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Literal

from chunkwise.errors import DecodeError, StalledError, StreamError, TruncatedError
from chunkwise.formats.contract import Decoder
from chunkwise.formats.speedups import Items

_PIECE_BYTES = 32 * 1024
"""The bytes that are decoded in one call: the items of more would not fit into a processor's cache."""

_MOST_PIECE_BYTES = 256 * 1024
"""The limit where no items are returned, because bytes are skipped or belong to one long item."""


class Broken(Exception):  # noqa: N818 - an internal signal: users see TruncatedError
    """The transport ended before the message did; the text says how."""


class Silent(Broken):
    """The transport gave up because it received nothing for too long: users see StalledError."""


EndProof = Literal["proven", "framed", "unknown"]
"""How certain it is that a stream that ended without an error is whole."""


class ItemStream(ABC):
    """The items of a stream, by ``async for`` or in batches: the base of all streams.

    Attributes:
        end: after an end without an error, how certain it is that the stream is complete: ``"proven"`` by the format
            (a JSON document, a record that counts the items), ``"framed"`` by the transport (a last chunk, a length),
            or ``"unknown"`` (the connection was just closed). None before.
    """

    def __init__(self) -> None:
        self.end: EndProof | None = None
        self._items: Items | None = None
        self._reader: AsyncIterator[list[Any]] | None = None
        self._failure: StreamError | None = None

    @property
    @abstractmethod
    def items_seen(self) -> int:
        """Complete items received so far."""

    @property
    @abstractmethod
    def bytes_seen(self) -> int:
        """Bytes received so far, after decompression."""

    @abstractmethod
    def _batches(self) -> AsyncIterator[list[Any]]:
        """Yield the items in lists, once."""

    @property
    def failure(self) -> StreamError | None:
        """The error that reading has failed with, and would raise again; None before."""
        return self._failure

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._items is None or self._failure is not None:  # a failed stream must not look complete to a second loop
            self._items = Items(self.batches())
        return aiter(self._items)

    async def __anext__(self) -> Any:
        return await anext(aiter(self))

    async def batches(self) -> AsyncIterator[list[Any]]:
        """Yield the items in lists, one for each piece of the stream: faster than item by item."""
        if self._items is not None and (rest := self._items.rest()):  # of a list that a loop over the items was left in
            yield rest
        if self._failure is not None:
            raise self._failure
        if self._reader is None:
            self._reader = self._batches()
        try:
            async for batch in self._reader:
                yield batch
        except StreamError as error:
            self._failure = error
            raise
        except GeneratorExit:  # another loop may continue
            raise
        except BaseException as error:
            message = f"reading was interrupted by {type(error).__name__}, and cannot go on"
            self._failure = TruncatedError(message, items_seen=self.items_seen, bytes_seen=self.bytes_seen)
            raise


class Inbound(ItemStream):
    """The items of one stream, by ``async for``, each as soon as its last byte is received.

    All errors are raised after the complete items before them.

    Args:
        chunks: the bytes, cut anywhere; raises `Broken` if the transport knows that some are missing.
        make_decoder: returns the decoder; called when the first chunk has arrived.
        framed: returns whether the transport proves the end; called at the end.
        empty: whether the message cannot have content, so that an empty one is valid in any format.

    Raises:
        TruncatedError: the stream stopped before its end.
        StalledError: nothing was received for too long.
        RemoteError: the sender says that it failed.
        DecodeError: see `Decoder.feed`.
        PathNotFound: see `Decoder.finish`.
    """

    end: EndProof | None

    def __init__(
        self,
        chunks: AsyncIterable[bytes],
        make_decoder: Callable[[], Decoder],
        framed: Callable[[], bool],
        *,
        empty: bool = False,
    ) -> None:
        super().__init__()
        self._bytes_seen = 0
        self._chunks = chunks
        self._make_decoder = make_decoder
        self._framed = framed
        self._empty = empty
        self._decoder: Decoder | None = None

    @property
    def items_seen(self) -> int:
        """Complete items received so far."""
        return self._decoder.items_seen if self._decoder else 0

    @property
    def bytes_seen(self) -> int:
        """Bytes received so far, after decompression."""
        return self._bytes_seen

    @property
    def items_taken(self) -> int:
        """Items that were taken, of those that were received: the others wait in a list for their loop."""
        return self.items_seen - (self._items.remaining() if self._items is not None else 0)

    @property
    def has_items(self) -> bool:
        """Whether items, or bytes that are not decoded yet, wait to be taken."""
        undecoded = self._decoder is not None and self._decoder.bytes_seen < self._bytes_seen
        return undecoded or self.items_taken < self.items_seen

    async def _batches(self) -> AsyncIterator[list[Any]]:
        decoder: Decoder | None = None
        piece_bytes = _PIECE_BYTES
        try:
            async for data in self._chunks:
                if decoder is None:
                    decoder = self._decoder = self._make_decoder()
                self._bytes_seen += len(data)
                start = 0
                while start < len(data):
                    piece = data[start : start + piece_bytes]
                    start += piece_bytes
                    if batch := decoder.feed(piece):
                        yield batch
                        decoder.feed(b"")  # raises for a defect after the items
                        piece_bytes = _PIECE_BYTES
                    elif piece_bytes < _MOST_PIECE_BYTES:
                        piece_bytes *= 2
        except Broken as error:
            name, items, seen = getattr(decoder, "name", None), self.items_seen, self.bytes_seen
            if isinstance(error, Silent):
                raise StalledError(str(error), format=name, item_index=items, byte_offset=seen) from error.__cause__
            message = f"the stream was cut: {error}"
            raise TruncatedError(message, items_seen=items, bytes_seen=seen, format=name) from error.__cause__
        except DecodeError as error:
            if error.item_index is None:  # an error of the chunks themselves, such as a content coding's
                error.item_index = self.items_seen
            raise
        framed = self._framed()
        if decoder is None:
            if self._empty:
                self.end = "framed"
                return
            decoder = self._decoder = self._make_decoder()
        if batch := decoder.finish(framed=framed):
            yield batch
            decoder.finish()
        self.end = "proven" if decoder.proves_end else "framed" if framed else "unknown"
