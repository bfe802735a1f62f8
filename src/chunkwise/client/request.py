"""The arguments of `open_stream` -> a request that can be sent several times, each time with other headers."""

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse, ClientSession, hdrs
from aiohttp.typedefs import StrOrURL

from chunkwise.client.upload import ClosingPayload
from chunkwise.formats import Format, Limits
from chunkwise.formats.paths import PathLike
from chunkwise.transports.range_headers import asks_for_range
from chunkwise.transports.websocket_handshake import is_websocket_url

ChooseFormat = Callable[[ClientResponse], Format]
"""A function that takes a response and returns the format of its body."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request, and how to read its response; see `open_stream` for the attributes.

    Raises:
        TypeError: the URL opens a WebSocket, and the method is not GET or the request's body was not made by `body`.
    """

    session: ClientSession
    method: str
    url: StrOrURL
    params: Mapping[str, str] | None
    headers: Mapping[str, str]
    data: Any
    json: Any
    format: Format | ChooseFormat | None
    path: PathLike
    type: Any
    required: bool
    idle_seconds: float
    max_ratio: int
    limits: Limits

    @property
    def upload(self) -> ClosingPayload | None:
        """The request's body if it was made by the function `body`, which sends the items of a source; else None."""
        return self.data if isinstance(self.data, ClosingPayload) else None

    @property
    def is_websocket(self) -> bool:
        """Whether the URL opens a WebSocket."""
        return is_websocket_url(self.url)

    @property
    def asks_for_range(self) -> bool:
        """Whether the caller requests a range of items itself."""
        return asks_for_range({**self.session.headers, **self.headers}, self.url, self.params)

    @property
    def can_be_continued(self) -> bool:
        """Whether the stream can be continued after a disconnect: only for a GET without a body and without a range."""
        has_body = self.data is not None or self.json is not None
        return self.method == hdrs.METH_GET and not has_body and not self.asks_for_range

    def __post_init__(self) -> None:
        if not self.is_websocket:
            return
        if self.method != hdrs.METH_GET:
            raise TypeError(f"method: got {self.method!r}, expected 'GET' for a WebSocket: leave method= out")
        if self.json is not None or self.data is not self.upload:
            got = "json=" if self.json is not None else builtins.type(self.data).__name__
            raise TypeError(
                f"body: got {got}, expected items for a WebSocket: use data=chunkwise.body(source, 'ndjson')"
            )
