"""What `open_stream` gives: items, and the answer that they came in.

Must not know where they come from.
"""

from __future__ import annotations

from abc import abstractmethod

from aiohttp import ClientResponse, ClientWebSocketResponse

from chunkwise.flow.inbound import ItemStream

Over = ClientResponse | ClientWebSocketResponse
"""What a stream comes over."""


class Stream(ItemStream):
    """The items of an answer, by ``async for``; see `ItemStream`.

    Attributes:
        reconnects: how often the rest was asked for, because the stream broke: each try counts.
    """

    reconnects = 0

    @property
    @abstractmethod
    def over(self) -> Over:
        """The answer, or the WebSocket that was opened; what comes over it is the stream's to read."""

    @property
    def response(self) -> ClientResponse:
        """The answer.

        Raises:
            TypeError: it is a WebSocket.
        """
        over = self.over
        if not isinstance(over, ClientResponse):
            msg = "this stream came over a WebSocket, which is in .websocket: there is no response"
            raise TypeError(msg)
        return over

    @property
    def websocket(self) -> ClientWebSocketResponse:
        """The WebSocket.

        Raises:
            TypeError: it is an answer of HTTP.
        """
        over = self.over
        if isinstance(over, ClientResponse):
            msg = "this stream came over HTTP: its answer is in .response"
            raise TypeError(msg)
        return over
