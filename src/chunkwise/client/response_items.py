"""The chunks of one response, or the lines of one WebSocket -> its items, and what it says about its position."""

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
"""What carries a stream."""

_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 §5.5


class ResponseItems(Inbound):
    """The items of one response or one WebSocket. A `Stream` reads one or several of them.

    A failure of the ``upload``, the request's body if it is still being sent, is the stream's failure. `range_info` is
    what the response says about its position.
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
        self.range_info = range_info  # None until the first message of a WebSocket

    @property
    def format_name(self) -> str | None:
        """The name of the format, once the first chunk has arrived."""
        return getattr(self._decoder, "name", None)

    @property
    def whole_records(self) -> int | None:
        return 0 if self._decoder is None else self._decoder.whole_records

    @property
    def last_event_id(self) -> str:
        """Of server-sent events, the id of the last one, if it has its own and a header can hold it; else ``""``."""
        events = self._events
        if not getattr(events, "is_behind_id", False) or _control.search(events.last_event_id):
            return ""
        return str(events.last_event_id)

    @property
    def first_event_id(self) -> str:
        """Of server-sent events, the first id; else ``""``."""
        return str(getattr(self._events, "first_event_id", ""))

    @property
    def retry_seconds(self) -> float | None:
        """Of server-sent events, how long to wait before the next request, if the server sent it."""
        milliseconds = getattr(self._events, "retry", None)
        return None if milliseconds is None else milliseconds / 1000

    @property
    def empty_status(self) -> int | None:
        """The status if it allows no content, such as 204; else None."""
        return self.over.status if isinstance(self.over, ClientResponse) and is_empty(self.over) else None

    @property
    def _events(self) -> Any:
        return getattr(self._decoder, "decoder", self._decoder)  # without the reader of end records


async def _unless_failed(chunks: AsyncIterator[bytes], upload: ClosingPayload) -> AsyncIterator[bytes]:
    """Raise the failure of the upload instead of the end of the response that it caused."""
    try:
        async for data in chunks:
            yield data
    except (Broken, StreamError):
        if upload.failure is None:
            raise
    if upload.failure is not None:
        raise upload.failure
