"""What `open_stream` gives: the items of an answer, over whatever wire.

Must not know how it was asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from aiohttp import ClientResponse, ClientWebSocketResponse

from chunkwise.errors import StreamError
from chunkwise.flow.inbound import Broken, Inbound
from chunkwise.formats.contract import Decoder
from chunkwise.transports.uploading import ClosingPayload


class Stream(Inbound):
    """The items of an answer, by ``async for``; see `Inbound`.

    Args:
        over: the answer, or the WebSocket that was opened; what comes over it is the stream's to read.
        chunks, make_decoder, framed, empty: see `Inbound`.
        upload: what is sent meanwhile, if anything: its failure is the stream's, too.
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
    ) -> None:
        self._over = over
        super().__init__(_unless_failed(chunks, upload) if upload else chunks, make_decoder, framed, empty=empty)

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
