"""What `open_stream` gives: the items of an answer, over whatever wire.

Must not know how it was asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from aiohttp import ClientResponse, ClientWebSocketResponse

from chunkwise.errors import StreamError
from chunkwise.flow.inbound import Broken, Inbound
from chunkwise.formats.contract import Decoder
from chunkwise.transports.uploading import ClosingPayload


class Start(NamedTuple):
    """What an answer says of where it begins, and of how it could go on if it broke.

    Attributes:
        first: the index of its first item.
        ranges: whether the server gives the rest from any item on.
        etag: the version of the items, without the mark of a weak one; None if the server does not tell.
        key: the members of an item that tell its place; none if its index does.
    """

    first: int = 0
    ranges: bool = False
    etag: str | None = None
    key: tuple[str, ...] = ()


class Stream(Inbound):
    """The items of an answer, by ``async for``; see `Inbound`.

    Args:
        over: the answer, or the WebSocket that was opened; what comes over it is the stream's to read.
        chunks, make_decoder, framed, empty: see `Inbound`.
        upload: what is sent meanwhile, if anything: its failure is the stream's, too.
        start: see the property.

    Attributes:
        reconnects: how often the rest was asked for, because the stream broke.
    """

    def __init__(
        self,
        over: ClientResponse | ClientWebSocketResponse,
        chunks: AsyncIterator[bytes],
        make_decoder: Callable[[], Decoder],
        framed: Callable[[], bool],
        *,
        empty: bool = False,
        upload: ClosingPayload | None = None,
        start: Start | None = None,
    ) -> None:
        self._over = over
        self.reconnects = 0
        self._start = start
        super().__init__(_unless_failed(chunks, upload) if upload else chunks, make_decoder, framed, empty=empty)

    @property
    def start(self) -> Start | None:
        """What is known of its beginning; None as long as nothing is."""
        return self._start

    def starts(self, start: Start) -> None:
        """Take what the first message tells of the beginning."""
        self._start = start

    @property
    def over(self) -> ClientResponse | ClientWebSocketResponse:
        """The answer, or the WebSocket."""
        return self._over

    @property
    def decoder(self) -> Any:
        """What decodes it, once something came."""
        return self._decoder

    @property
    def last_event_id(self) -> str:
        """Of server-sent events, the id to go on behind; else nothing."""
        return str(getattr(_inner(self._decoder), "last_event_id", ""))

    @property
    def first_event_id(self) -> str:
        """Of server-sent events, the first id that came; else nothing."""
        return str(getattr(_inner(self._decoder), "first_event_id", ""))

    @property
    def retry_seconds(self) -> float | None:
        """Of server-sent events, how long to wait before going on, if they said so."""
        milliseconds = getattr(_inner(self._decoder), "retry", None)
        return None if milliseconds is None else milliseconds / 1000

    def is_last_event(self) -> bool:
        """Whether the answer says that there are no more events (204, WHATWG HTML §9.2.3)."""
        return isinstance(self._over, ClientResponse) and self._over.status == 204

    @property
    def response(self) -> ClientResponse:
        """The answer.

        Raises:
            TypeError: it is a WebSocket.
        """
        if not isinstance(self._over, ClientResponse):
            msg = "this stream came over a WebSocket, which is in .websocket: there is no response"
            raise TypeError(msg)
        return self._over

    @property
    def websocket(self) -> ClientWebSocketResponse:
        """The WebSocket.

        Raises:
            TypeError: it is an answer of HTTP.
        """
        if isinstance(self._over, ClientResponse):
            msg = "this stream came over HTTP: its answer is in .response"
            raise TypeError(msg)
        return self._over


def _inner(decoder: Any) -> Any:
    return getattr(decoder, "decoder", decoder)  # of one that looks for an end record


async def _unless_failed(chunks: AsyncIterator[bytes], upload: ClosingPayload) -> AsyncIterator[bytes]:
    """Raise what has failed in the upload instead of the end that it has made of the answer."""
    try:
        async for data in chunks:
            yield data
    except (Broken, StreamError):
        if upload.failure is None:
            raise
    if upload.failure is not None:
        raise upload.failure
