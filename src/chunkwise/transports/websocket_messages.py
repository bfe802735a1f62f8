"""The messages of a WebSocket, at either side -> the lines of its stream; and what a close means (RFC 6455)."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Protocol

from aiohttp import ClientWebSocketResponse, WebSocketError, WSCloseCode, WSMessage, WSMsgType, web

from chunkwise.errors import DecodeError, LimitError, RemoteError, TruncatedError
from chunkwise.flow.gathering import WRITE_BYTES
from chunkwise.flow.inbound import Broken, Silent
from chunkwise.formats import Format, Limits, by_name
from chunkwise.formats.contract import Decoder
from chunkwise.formats.end_record import StreamEndDecoder, complete_record
from chunkwise.formats.messages import LINES, framing_of, holds_end, unpack
from chunkwise.formats.ndjson import END_RECORD
from chunkwise.formats.paths import PathLike, parse_path
from chunkwise.transports.problems import GoingAway, details_of, request_key
from chunkwise.transports.tcp import silent_seconds

WebSocket = ClientWebSocketResponse | web.WebSocketResponse
"""A WebSocket of either side."""

WEBSOCKETS = (ClientWebSocketResponse, web.WebSocketResponse)


LOST = WSMessage(WSMsgType.CLOSED, None, None)
"""The last message of a connection that broke."""

NO_BINARY = "got a binary message, expected text"

SERVER_WEBSOCKET = request_key("chunkwise.server_websocket")
"""Where a request keeps the `ServerWebSocket` that answers it."""

MAX_MESSAGE_BYTES = request_key("chunkwise.max_message_bytes")
"""Where a request keeps how large a message its readers want to take, until the handshake is answered."""

_MAX_REASON_BYTES = 123  # RFC 6455 §5.5: a control frame has at most 125, and the code takes two
_COMPLETE = re.compile(r"complete; items=([0-9]{1,18})")

# The HTTP status that means the same as a close code; all other codes mean that the sender failed.
_STATUSES = {
    WSCloseCode.GOING_AWAY: 503,
    WSCloseCode.SERVICE_RESTART: 503,
    WSCloseCode.TRY_AGAIN_LATER: 503,
    WSCloseCode.PROTOCOL_ERROR: 400,
    WSCloseCode.UNSUPPORTED_DATA: 415,
    WSCloseCode.INVALID_TEXT: 422,
    WSCloseCode.POLICY_VIOLATION: 400,
    WSCloseCode.MESSAGE_TOO_BIG: 413,
}


class Receiver(Protocol):
    """Receives the messages of the other side."""

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that both sides agreed on; known once the first message has arrived."""

    async def receive(self) -> WSMessage:
        """Return the next message; the last one is the close."""

    def read_to_end(self) -> None:
        """Note that the other side has sent everything, and no more messages are wanted."""


class ServerWebSocket(Protocol):
    """The WebSocket that answers a request: it gives its client's messages to one `Receiver` only."""

    @property
    def subprotocol(self) -> str | None: ...
    async def receive(self, receiver: object) -> WSMessage: ...
    def read_to_end(self) -> None: ...


class SocketReceiver:
    """The messages of a WebSocket of either side; see `Receiver`.

    ``idle_seconds`` is the WebSocket's own timeout for a message, if the bytes of an incomplete one extend it; else 0.
    ``answers`` returns whether to answer a close that arrives; aiohttp does, unless ``autoclose`` is off.
    """

    def __init__(
        self, websocket: WebSocket, idle_seconds: float = 0, answers: Callable[[], bool] = lambda: False
    ) -> None:
        self._websocket = websocket
        self._answers = answers
        self._idle_seconds = idle_seconds

    @property
    def subprotocol(self) -> str | None:
        websocket = self._websocket
        return websocket.protocol if isinstance(websocket, ClientWebSocketResponse) else websocket.ws_protocol

    async def receive(self) -> WSMessage:
        """Return the next message; close the WebSocket if it is binary."""
        while True:
            # A ConnectionError means that a pong could not be sent; more messages may have arrived.
            with suppress(ConnectionError):
                try:
                    message = await self._websocket.receive()
                except TimeoutError:
                    if self._is_silent():
                        raise
                    continue
                if message.type is WSMsgType.PING:  # with autoping off
                    await self._websocket.pong(message.data)
                elif message.type is not WSMsgType.PONG:
                    break
        if message.type is WSMsgType.BINARY:
            await self._websocket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=NO_BINARY.encode())
        if message.type is WSMsgType.CLOSE and self._answers():
            await self._websocket.close()
        return message

    def read_to_end(self) -> None:
        """See `Receiver.read_to_end`."""

    def _is_silent(self) -> bool:
        """Whether no byte arrived for idle_seconds: a large message may take longer than that."""
        connection = self._websocket.get_extra_info("socket")
        silent = silent_seconds(connection) if self._idle_seconds and connection is not None else None
        return silent is None or silent >= self._idle_seconds


class RequestReceiver:
    """The messages of the client that opens a WebSocket with a request; see `Receiver`.

    ``max_bytes`` is the largest message to accept; it counts until the handshake is answered.
    """

    def __init__(self, request: web.BaseRequest, max_bytes: int) -> None:
        request[MAX_MESSAGE_BYTES] = max(max_bytes, request.get(MAX_MESSAGE_BYTES, 0))
        self._request = request

    @property
    def subprotocol(self) -> str | None:
        return self._wire().subprotocol

    async def receive(self) -> WSMessage:
        return await self._wire().receive(self)

    def read_to_end(self) -> None:
        self._wire().read_to_end()

    def _wire(self) -> ServerWebSocket:
        wire: ServerWebSocket | None = self._request.get(SERVER_WEBSOCKET)
        if wire is None:  # usually a client that opens a WebSocket at a handler without one
            msg = "no WebSocket here: only a handler that answers with respond() can read one, inside its source"
            raise web.HTTPBadRequest(text=msg)
        return wire


def is_plain(format: str | Format | None) -> bool:
    """Whether messages are read as strings; see `Format.plain_messages`."""
    return format is not None and by_name(format).plain_messages


def line_decoder(path: PathLike, *, type: Any, required: bool, limits: Limits) -> Callable[[], Decoder]:
    """Return a function that makes the decoder for `lines_of`; for the arguments see `items`."""
    parse_path(path)  # a malformed path is the caller's error, not the stream's
    return lambda: StreamEndDecoder(LINES.decoder(path, type=type, required=required, limits=limits), END_RECORD)


def max_message_bytes(max_item_bytes: int) -> int:
    """Return the limit for one message in aiohttp, so that no item within its own limit is refused."""
    return max_item_bytes + 2 * WRITE_BYTES


def complete_reason(items: int) -> bytes:
    """Return the reason of a close with 1000 that proves that the stream is whole."""
    return b"complete; items=%d" % items


def closing(error: BaseException) -> tuple[int, bytes]:
    """Return the code and reason of the close that reports our own failure (RFC 6455 §7.4.1)."""
    # Not 1001 for a server that stops: the client of the package websockets takes that for a good end.
    code = WSCloseCode.SERVICE_RESTART if isinstance(error, GoingAway) else WSCloseCode.INTERNAL_ERROR
    return code, _cut(str(details_of(error)["title"]))


def refusing(error: BaseException) -> tuple[int, bytes]:
    """Return the code and reason of the close that reports an error in the other side's messages."""
    code = WSCloseCode.POLICY_VIOLATION
    if isinstance(error, LimitError):
        code = WSCloseCode.MESSAGE_TOO_BIG
    elif isinstance(error, DecodeError) and not isinstance(error, TruncatedError):
        code = WSCloseCode.UNSUPPORTED_DATA if error.message == NO_BINARY else WSCloseCode.INVALID_TEXT
    # Not str(error), which ends with the position: a long reason is cut.
    index = getattr(error, "item_index", None)
    message = getattr(error, "message", str(error))
    return code, _cut(message if index is None else f"item {index}: {message}")


def _cut(reason: str) -> bytes:
    return reason.encode("utf-8", "replace")[:_MAX_REASON_BYTES].decode("utf-8", "ignore").encode()


async def lines_of(receiver: Receiver, *, plain: bool) -> AsyncIterator[bytes]:
    """Yield the lines of each message, up to the last one or to a close that proves the end.

    A close with 1000 and the number of items is turned into an end record, and one that reports a failure into a
    `RemoteError`. All other ends raise `Broken` or `Silent`. `DecodeError` and `LimitError` are about one message.
    """
    ended = False
    while not ended:
        try:
            message = await receiver.receive()
        except TimeoutError as error:
            raise Silent("nothing arrived for longer than idle_seconds, or the WebSocket's timeout, allows") from error
        if message.type is WSMsgType.TEXT:
            lines = unpack(message.data, framing_of(receiver.subprotocol, plain=plain))
            ended = holds_end(lines)
        else:
            lines = complete_record(END_RECORD, _items_of(message))
            ended = True
        yield lines
        if ended and message.type is WSMsgType.TEXT:  # now that the items before the end were taken
            receiver.read_to_end()


def _count(message: WSMessage) -> int | None:
    """Return the number of items in the reason of a close; None if it has none."""
    found = _COMPLETE.fullmatch(message.extra or "") if message.type is WSMsgType.CLOSE else None
    return int(found[1]) if found and message.data == WSCloseCode.OK else None


def proves_end(message: WSMessage) -> bool:
    """Whether a message is a close with the number of items."""
    return _count(message) is not None


def _items_of(message: WSMessage) -> int:
    """Return the number of items of a close that proves the end; raise for every other message."""
    if (count := _count(message)) is not None:
        return count
    data = message.data
    if message.type is WSMsgType.CLOSE and data in (WSCloseCode.OK, 0):
        code = f"with code {int(data)}" if data else "without a code"
        raise Broken(f"the WebSocket was closed {code} and without the number of items, which alone proves the end")
    if message.type is WSMsgType.CLOSE:
        status = _STATUSES.get(data, 500)
        title = {"title": message.extra} if message.extra else {}
        about = ": ".join([f"the other side closed the WebSocket with {int(data)}", *title.values()])
        raise RemoteError(about, status=status, problem={**title, "status": status})
    if message.type is WSMsgType.BINARY:
        raise DecodeError(NO_BINARY)
    if message.type is WSMsgType.ERROR and isinstance(data, WebSocketError):
        kind = LimitError if data.code == WSCloseCode.MESSAGE_TOO_BIG else DecodeError
        raise kind(str(data))
    raise Broken("the connection closed without a close of the WebSocket")
