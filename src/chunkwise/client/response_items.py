"""The data of one HTTP response or one WebSocket -> its items, and the position of the first one."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import ClientResponse, ClientWebSocketResponse

from chunkwise.client.upload import ClosingPayload
from chunkwise.errors import StreamError
from chunkwise.flow.inbound import Broken, Inbound
from chunkwise.formats.contract import Decoder
from chunkwise.transports.http_body import is_empty
from chunkwise.transports.range_headers import RangeInfo

Over = ClientResponse | ClientWebSocketResponse
"""The response or the WebSocket that a stream is read from."""

# A header cannot contain these characters (RFC 9110 §5.5).
_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class ResponseItems(Inbound):
    """The items of one response or one WebSocket. After a disconnect, a `Stream` reads a new response or WebSocket.

    ``upload`` is the request's body if it was made by the function `body`. If the upload fails, reading the items
    raises the error of the upload. `range_info` is the position that the server sent; None before the first message of
    a WebSocket.
    """

    def __init__(
        self,
        over: Over,
        chunks: AsyncIterator[bytes],
        make_decoder: Callable[[], Decoder],
        framed: Callable[[], bool],
        *,
        empty: bool = False,
        upload: ClosingPayload | None = None,
        range_info: RangeInfo | None = None,
    ) -> None:
        super().__init__(_unless_failed(chunks, upload) if upload else chunks, make_decoder, framed, empty=empty)
        self.over = over
        self.range_info = range_info

    @property
    def format_name(self) -> str | None:
        """The name of the format; None before the first chunk has arrived."""
        return getattr(self._decoder, "name", None)

    @property
    def whole_records(self) -> int | None:
        return 0 if self._decoder is None else self._decoder.whole_records

    @property
    def last_event_id(self) -> str:
        """The id of the last server-sent event; ``""`` if it has none, or one that a header cannot contain."""
        events = self._events
        if not getattr(events, "is_behind_id", False) or _control.search(events.last_event_id):
            return ""
        return str(events.last_event_id)

    @property
    def first_event_id(self) -> str:
        """The first id in a stream of server-sent events; ``""`` without an id."""
        return str(getattr(self._events, "first_event_id", ""))

    @property
    def retry_seconds(self) -> float | None:
        """The seconds to wait before the next request (the ``retry`` of server-sent events); None if not sent."""
        milliseconds = getattr(self._events, "retry", None)
        return None if milliseconds is None else milliseconds / 1000

    @property
    def empty_status(self) -> int | None:
        """The status of a response that cannot have content, such as 204; None for any other response."""
        return self.over.status if isinstance(self.over, ClientResponse) and is_empty(self.over) else None

    @property
    def _events(self) -> Any:
        # The event ids are attributes of the format's decoder. If the stream has an end record, `self._decoder` is a
        # wrapper that reads this record, and its attribute `decoder` is the format's decoder.
        return getattr(self._decoder, "decoder", self._decoder)


async def _unless_failed(chunks: AsyncIterator[bytes], upload: ClosingPayload) -> AsyncIterator[bytes]:
    """Yield the chunks of a response. If the upload fails, raise its error, not that of the disconnect it causes."""
    try:
        async for data in chunks:
            yield data
    except (Broken, StreamError):
        if upload.failure is None:
            raise
    if upload.failure is not None:
        raise upload.failure
