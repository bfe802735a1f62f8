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

    Read them with ``async for``, or in lists with ``batches()``. `open_stream` makes the `Stream`; do not make one
    yourself. After a disconnect, the stream may continue with another response.

    Args:
        response: the items of the first response.
        counts_records: whether the number of items received is also a position in the server's stream, which
            `resume_point` needs. False if `open_stream` got ``path``, a range, a body, or a method other than GET.

    Attributes:
        end: None until the stream has ended without an error; then how certain it is that the stream is complete:
            ``"proven"`` by the format, ``"framed"`` by the transport, or ``"unknown"``.
        reconnects: how many requests were made to continue the stream after disconnects, including those that failed.
    """

    end: EndProof | None

    def __init__(self, response: ResponseItems, *, counts_records: bool) -> None:
        super().__init__()
        self.reconnects: int = 0
        self._response = response
        self._counts_records = counts_records

    @property
    def items_seen(self) -> int:
        """How many complete items have arrived; with ``resume_from``, also those that you had before.

        An item that the server sends again after a disconnect is counted once.
        """
        return self._response.items_seen

    @property
    def bytes_seen(self) -> int:
        """How many bytes have arrived, after decompression, including those of items that were sent again."""
        return self._response.bytes_seen

    @property
    def range_info(self) -> RangeInfo | None:
        """Which items are in the current response, according to the server.

        With a WebSocket, this is None until the first message has arrived.
        """
        return self._response.range_info

    @property
    def over(self) -> Over:
        """The response or WebSocket that the stream reads now. Do not read from it yourself."""
        return self._response.over

    @property
    def response(self) -> ClientResponse:
        """The response that the stream reads now; after a reconnect, this is another response.

        Raises:
            TypeError: the stream uses a WebSocket.
        """
        over = self.over
        if not isinstance(over, ClientResponse):
            raise TypeError("this stream uses a WebSocket, which is in .websocket: there is no response")
        return over

    @property
    def websocket(self) -> ClientWebSocketResponse:
        """The WebSocket that the stream reads now; after a reconnect, this is another WebSocket.

        Raises:
            TypeError: the stream uses HTTP.
        """
        over = self.over
        if isinstance(over, ClientResponse):
            raise TypeError("this stream uses HTTP: its response is in .response")
        return over

    def resume_point(self, items: int, last_item: Any) -> ResumePoint | None:
        """Return the point after an item. To continue the stream there later, pass it to `open_stream(resume_from=)`.

        Args:
            items: how many items you have, counted from the first item of the stream. If you opened this stream with
                ``resume_from``, include the ``items`` of that point.
            last_item: the last of these items. Do not change it before this call: the server may find the item by its
                key (some of its members), and the resume point contains the key.

        Returns:
            The resume point, or None if the stream cannot be continued there. This is the case if the server offers no
            ranges of items, if the item lacks a member of the key, if your ``type`` has converted such a member, or if
            you called `open_stream` with ``path``, a range, a body, or a method other than GET.
        """
        info = self.range_info if self._counts_records else None
        return None if info is None else resume_point_after(items, key_of(last_item, info.key), info)

    async def _batches(self) -> AsyncIterator[list[Any]]:
        async for batch in self._response.batches():
            yield batch
        self.end = self._response.end
