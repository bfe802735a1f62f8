"""Decode chunks of bytes to items. The transport provides the chunks, and reports whether all chunks were received."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Literal

from chunkwise.errors import DecodeError, StalledError, StreamError, TruncatedError
from chunkwise.formats.contract import Decoder
from chunkwise.formats.speedups import Items

_PIECE_BYTES = 32 * 1024
"""The most bytes to decode in one call, so that their items fit into the cache of the processor."""

_MOST_PIECE_BYTES = 256 * 1024
"""The most bytes to decode in one call while the decoder returns no items: it skips bytes, or reads one long item."""


class Broken(Exception):  # noqa: N818 - internal; users get TruncatedError
    """The connection ended before the message was complete. The text of the exception describes how."""


class Silent(Broken):
    """The transport received nothing for too long and stopped waiting. Users get StalledError."""


EndProof = Literal["proven", "framed", "unknown"]
"""What proves that a stream is complete; `ItemStream.end` describes the three values."""


class ItemStream(ABC):
    """The base class of streams: iterate over it with ``async for`` to get items, or over `batches` to get lists.

    Attributes:
        end: what proves that the stream is complete: ``"proven"`` if the format proves it (by the end of a document or
            by an end record), ``"framed"`` if only the transport proves it (by a last chunk or a Content-Length),
            ``"unknown"`` if nothing proves it (the connection was closed). None before the end, and after an error.
    """

    def __init__(self) -> None:
        self.end: EndProof | None = None
        self._items: Items | None = None
        self._reader: AsyncIterator[list[Any]] | None = None
        self._failure: StreamError | None = None

    @property
    @abstractmethod
    def items_seen(self) -> int:
        """The number of complete items received so far."""

    @property
    @abstractmethod
    def bytes_seen(self) -> int:
        """The number of bytes received so far, after decompression."""

    @abstractmethod
    def _batches(self) -> AsyncIterator[list[Any]]:
        """Yield the items of the stream in lists. `batches` calls this method once for each stream."""

    @property
    def failure(self) -> StreamError | None:
        """None unless reading has failed; then the error, which every later loop over the stream raises again."""
        return self._failure

    def __aiter__(self) -> AsyncIterator[Any]:
        # A loop after an error must raise the error again. The old iterator would just end, so a new one is made.
        if self._items is None or self._failure is not None:
            self._items = Items(self.batches())
        return aiter(self._items)

    async def __anext__(self) -> Any:
        return await anext(aiter(self))

    async def batches(self) -> AsyncIterator[list[Any]]:
        """Yield the items in lists, as they are decoded. This is faster than to iterate over single items."""
        # A loop over single items may have ended early. Yield the rest of its list first, so that no item is lost.
        if self._items is not None and (rest := self._items.rest()):
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
        except GeneratorExit:
            # The caller has left its `async for`. This is not a failure: another loop can read the remaining items.
            raise
        except BaseException as error:
            message = f"reading was interrupted by {type(error).__name__} and cannot continue"
            self._failure = TruncatedError(message, items_seen=self.items_seen, bytes_seen=self.bytes_seen)
            raise


class Inbound(ItemStream):
    """The items of one stream. An item is returned as soon as its last byte was received.

    An error is raised only after all complete items before it were returned.

    Args:
        chunks: the bytes, split at any position; raises `Broken` if the connection ends before the message is complete.
        make_decoder: returns the decoder. It is called when the first chunk was received, or at the end if there are
            no chunks.
        framed: returns whether the transport proves that all bytes were received. It is called after the last chunk.
        empty: whether the message never has content, so that an empty message is valid in any format.

    Raises:
        TruncatedError: the stream ended before it was complete.
        StalledError: nothing was received for too long.
        RemoteError: the sender reported that it failed.
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
        """The number of complete items received so far."""
        return self._decoder.items_seen if self._decoder else 0

    @property
    def bytes_seen(self) -> int:
        """The number of bytes received so far, after decompression."""
        return self._bytes_seen

    @property
    def items_taken(self) -> int:
        """The number of received items that a loop has already taken. The other items wait in a list."""
        return self.items_seen - (self._items.remaining() if self._items is not None else 0)

    @property
    def has_items(self) -> bool:
        """Whether some received items were not taken yet, or some received bytes were not decoded yet."""
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
                        # Invalid bytes may follow the items of this batch. Feeding no bytes raises their error at once.
                        decoder.feed(b"")
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
            # An error of the transport, such as one for invalid gzip data, has no item index, so it is added here.
            if error.item_index is None:
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
