"""Chunks of bytes -> batches -> items.

Must not know formats by name, sockets or aiohttp: a transport gives the chunks, and says what it knows of their end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Literal

from chunkwise.errors import DecodeError, StalledError, StreamError, TruncatedError
from chunkwise.formats.contract import Decoder
from chunkwise.formats.speedups import Items

_PIECE_BYTES = 32 * 1024
"""What is decoded at once: the items of more, with those before them, would not fit in a processor's cache."""

_MOST_PIECE_BYTES = 256 * 1024
"""And where nothing comes out, since it is skipped, or one long item."""


class Broken(Exception):  # noqa: N818 - a signal between our rooms: users see TruncatedError
    """The transport ended before the message did; the text says how."""


class Silent(Broken):
    """The transport gave up, because nothing came for too long: users see StalledError."""


EndProof = Literal["proven", "framed", "unknown"]
"""How certain it is that a stream that ended without an error is whole."""


class ItemStream(ABC):
    """Items that come, by ``async for`` or in batches: what all streams have in common.

    Attributes:
        end: how sure it is that the stream was whole, once it has ended without an error: ``"proven"`` by the format
            (a JSON document, a record that counts the items), ``"framed"`` by the transport (a last chunk, a length),
            or ``"unknown"``: the connection just closed. None until then.
    """

    def __init__(self) -> None:
        self.end: EndProof | None = None
        self._items: Items | None = None
        self._reader: AsyncIterator[list[Any]] | None = None
        self._failure: StreamError | None = None

    @property
    @abstractmethod
    def items_seen(self) -> int:
        """Items that came whole so far."""

    @property
    @abstractmethod
    def bytes_seen(self) -> int:
        """Bytes that came so far, after decompression."""

    @abstractmethod
    def _batches(self) -> AsyncIterator[list[Any]]:
        """Give the items in lists, once."""

    @property
    def failure(self) -> StreamError | None:
        """What reading has failed with, and would again; None as long as it has not."""
        return self._failure

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._items is None or self._failure is not None:  # what failed must not look whole to a second loop
            self._items = Items(self.batches())
        return aiter(self._items)

    async def __anext__(self) -> Any:
        return await anext(aiter(self))

    async def batches(self) -> AsyncIterator[list[Any]]:
        """Yield the items in lists, as the chunks bring them: the same stream, with less work for each item."""
        if self._items is not None and (rest := self._items.rest()):  # of a list that a loop over the items has left
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
        except GeneratorExit:  # a loop that was left can go on in another
            raise
        except BaseException as error:
            message = f"reading was interrupted by {type(error).__name__}, and cannot go on"
            self._failure = TruncatedError(message, items_seen=self.items_seen, bytes_seen=self.bytes_seen)
            raise


class Inbound(ItemStream):
    """The items of one stream, by ``async for``, each as soon as its last byte came.

    Args:
        chunks: the bytes, cut anywhere; it raises `Broken` where the transport knows that they are not all there.
        make_decoder: gives the decoder, once the first chunk was asked for.
        framed: whether the transport proves the end: asked at the end.
        empty: whether the message has no content by its nature, which no grammar has to allow.

    Raises:
        TruncatedError: the stream stopped before its end; all items that came whole were given before.
        StalledError: nothing came for too long; likewise.
        RemoteError: the sender says that it failed; likewise.
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
        """Items that came whole so far."""
        return self._decoder.items_seen if self._decoder else 0

    @property
    def bytes_seen(self) -> int:
        """Bytes that came so far, after decompression."""
        return self._bytes_seen

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
                        decoder.feed(b"")  # raises for a defect behind the items
                        piece_bytes = _PIECE_BYTES
                    elif piece_bytes < _MOST_PIECE_BYTES:
                        piece_bytes *= 2
        except Broken as error:
            message, name = f"the stream was cut: {error}", getattr(decoder, "name", None)
            if isinstance(error, Silent):
                seen = (self.items_seen, self.bytes_seen)
                raise StalledError(
                    str(error), format=name, item_index=seen[0], byte_offset=seen[1]
                ) from error.__cause__
            raise TruncatedError(
                message, items_seen=self.items_seen, bytes_seen=self.bytes_seen, format=name
            ) from error.__cause__
        except DecodeError as error:
            if error.item_index is None:  # of the chunks themselves: a content coding
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
