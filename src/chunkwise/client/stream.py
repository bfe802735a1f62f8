"""The items of a response -> the `Stream` that `open_stream` yields."""

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientResponse, ClientWebSocketResponse

from chunkwise.client.response_items import Over, ResponseItems
from chunkwise.client.resume_point import key_of, resume_point_after
from chunkwise.flow.inbound import EndProof, ItemStream
from chunkwise.transports.range_headers import RangeInfo, ResumePoint


class Stream(ItemStream):
    """The items of a response, yielded by `open_stream`.

    Read them with ``async for``, or in lists with ``batches()``. `open_stream` makes it; do not make one yourself.

    Args:
        response: the response.
        counts_records: whether the items are the records that the server counts: a whole stream, read without a path.

    Attributes:
        end: None until the stream has ended without an error; then how certain it is that the stream is complete:
            ``"proven"`` by the format, ``"framed"`` by the transport, or ``"unknown"``.
        reconnects: how many requests for the rest were made after disconnects, including those that failed.
    """

    end: EndProof | None

    def __init__(self, response: ResponseItems, *, counts_records: bool) -> None:
        super().__init__()
        self.reconnects: int = 0
        self._response = response
        self._counts_records = counts_records

    @property
    def items_seen(self) -> int:
        """How many complete items have arrived, including those before ``resume_from``. None is counted twice."""
        return self._response.items_seen

    @property
    def bytes_seen(self) -> int:
        """How many bytes have arrived, after decompression, including those of items that were sent again."""
        return self._response.bytes_seen

    @property
    def range_info(self) -> RangeInfo | None:
        """The position of the current response; None until the first message of a WebSocket."""
        return self._response.range_info

    @property
    def over(self) -> Over:
        """The current response or WebSocket; only the stream may read from it."""
        return self._response.over

    @property
    def response(self) -> ClientResponse:
        """The current response.

        Raises:
            TypeError: the stream uses a WebSocket.
        """
        over = self.over
        if not isinstance(over, ClientResponse):
            raise TypeError("this stream uses a WebSocket, which is in .websocket: there is no response")
        return over

    @property
    def websocket(self) -> ClientWebSocketResponse:
        """The current WebSocket.

        Raises:
            TypeError: the stream uses HTTP.
        """
        over = self.over
        if isinstance(over, ClientResponse):
            raise TypeError("this stream uses HTTP: its response is in .response")
        return over

    def resume_point(self, items: int, last_item: Any) -> ResumePoint | None:
        """Return where to continue after an item. Store it, and pass it to `open_stream` as ``resume_from`` later.

        Args:
            items: how many items you have, counted from the first item of the stream. With ``resume_from``, start
                counting at its ``items``.
            last_item: the last of these items. Do not change it before this call, because the server may need its key.

        Returns:
            The resume point. None if the stream cannot be continued there, because the server offers no ranges of
            items, the item has no key or a converted one, or you requested a range or a path.
        """
        info = self.range_info if self._counts_records else None
        return None if info is None else resume_point_after(items, key_of(last_item, info.key), info)

    async def _batches(self) -> AsyncIterator[list[Any]]:
        async for batch in self._response.batches():
            yield batch
        self.end = self._response.end
