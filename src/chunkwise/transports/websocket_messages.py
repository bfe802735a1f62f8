"""The messages of a WebSocket, in a client or a server -> lines of a stream; an error <-> a close frame (RFC 6455)."""

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
"""A WebSocket of the client or the server."""

WEBSOCKETS = (ClientWebSocketResponse, web.WebSocketResponse)


LOST = WSMessage(WSMsgType.CLOSED, None, None)
"""The last message of a WebSocket whose connection broke, so that no close arrived."""

NO_BINARY = "got a binary message, expected text"

SERVER_WEBSOCKET = request_key("chunkwise.server_websocket")
"""The key under which a request stores its `ServerWebSocket`."""

MAX_MESSAGE_BYTES = request_key("chunkwise.max_message_bytes")
"""The key under which a request stores the message size limit of its readers, in bytes, for the handshake."""

# A close frame holds at most 125 bytes (RFC 6455 §5.5): two for the close code, and the rest for the reason.
_MAX_REASON_BYTES = 123
_COMPLETE = re.compile(r"complete; items=([0-9]{1,18})")

# The HTTP status for each close code. Any other code means that the sender failed: status 500.
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
    """Receives the messages that the other side sends."""

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that both sides agreed on; known once the first message has arrived."""

    async def receive(self) -> WSMessage:
        """Return the next message; the last message is the close."""

    def read_to_end(self) -> None:
        """Stop reading: the stream has ended, and later messages are not needed."""


class ServerWebSocket(Protocol):
    """The server's side of a WebSocket. Only one `Receiver` can read its messages; a second one gets an error."""

    @property
    def subprotocol(self) -> str | None: ...
    async def receive(self, receiver: object) -> WSMessage: ...
    def read_to_end(self) -> None: ...


class SocketReceiver:
    """Receives the messages of an aiohttp WebSocket, in a client or a server; see `Receiver`.

    Args:
        websocket: the WebSocket.
        idle_seconds: reading fails when no byte has arrived for this long; it must equal the receive timeout of the
            WebSocket. With 0, reading fails when no complete message has arrived within the receive timeout.
        answers: a function that returns whether to reply to a close that arrives. Its result matters only if
            ``autoclose`` is off; otherwise aiohttp itself replies.
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
        """Return the next message. If it is binary, close the WebSocket, because items are sent as text."""
        while True:
            # A ConnectionError means that a pong could not be sent. It is ignored, because messages that arrived before
            # may still be unread.
            with suppress(ConnectionError):
                try:
                    message = await self._websocket.receive()
                except TimeoutError:
                    if self._is_silent():
                        raise
                    continue
                # Pings arrive here only if autoping is off. Otherwise aiohttp replies to them itself.
                if message.type is WSMsgType.PING:
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
        """Whether a receive timeout is an error: always, unless a byte has arrived within ``idle_seconds``.

        A large message may need more time than that to arrive, so its bytes extend the timeout.
        """
        connection = self._websocket.get_extra_info("socket")
        silent = silent_seconds(connection) if self._idle_seconds and connection is not None else None
        return silent is None or silent >= self._idle_seconds


class RequestReceiver:
    """Receives the messages of the client whose request opens a WebSocket; see `Receiver`.

    ``max_bytes`` is the largest message to accept; it has no effect after the response to the handshake is sent.
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
        # The status is 400, because usually the client has requested a WebSocket from a handler that serves only HTTP.
        if wire is None:
            msg = "this handler does not serve a WebSocket: read it inside the source that is passed to respond()"
            raise web.HTTPBadRequest(text=msg)
        return wire


def is_plain(format: str | Format | None) -> bool:
    """Whether messages in a format are plain strings instead of JSON; see `Format.plain_messages`."""
    return format is not None and by_name(format).plain_messages


def line_decoder(path: PathLike, *, type: Any, required: bool, limits: Limits) -> Callable[[], Decoder]:
    """Return a function that creates the decoder for the lines from `lines_of`; see `items` for the arguments."""
    parse_path(path)  # a malformed path raises an error here already, and not only when reading begins
    return lambda: StreamEndDecoder(LINES.decoder(path, type=type, required=required, limits=limits), END_RECORD)


def max_message_bytes(max_item_bytes: int) -> int:
    """Return the size limit of one message for aiohttp; it allows every item within ``max_item_bytes``."""
    return max_item_bytes + 2 * WRITE_BYTES


def complete_reason(items: int) -> bytes:
    """Return the close reason that, with code 1000, proves that the stream is complete."""
    return b"complete; items=%d" % items


def closing(error: BaseException) -> tuple[int, bytes]:
    """Return the close code and reason with which a server reports that its own stream failed (RFC 6455 §7.4.1)."""
    # A server that shuts down does not send 1001: the client of the package websockets takes 1001 for a normal end.
    code = WSCloseCode.SERVICE_RESTART if isinstance(error, GoingAway) else WSCloseCode.INTERNAL_ERROR
    return code, _cut(str(details_of(error)["title"]))


def refusing(error: BaseException) -> tuple[int, bytes]:
    """Return the close code and reason for an error in the messages of the other side."""
    code = WSCloseCode.POLICY_VIOLATION
    if isinstance(error, LimitError):
        code = WSCloseCode.MESSAGE_TOO_BIG
    elif isinstance(error, DecodeError) and not isinstance(error, TruncatedError):
        code = WSCloseCode.UNSUPPORTED_DATA if error.message == NO_BINARY else WSCloseCode.INVALID_TEXT
    # The item's index is put first: str(error) has it at the end, where a long reason is cut off.
    index = getattr(error, "item_index", None)
    message = getattr(error, "message", str(error))
    return code, _cut(message if index is None else f"item {index}: {message}")


def _cut(reason: str) -> bytes:
    return reason.encode("utf-8", "replace")[:_MAX_REASON_BYTES].decode("utf-8", "ignore").encode()


async def lines_of(receiver: Receiver, *, plain: bool) -> AsyncIterator[bytes]:
    """Yield the lines of each message; a close with code 1000 and the number of items becomes an end record.

    Raises:
        RemoteError: the other side closed the WebSocket with a code that reports a failure.
        DecodeError: a message is binary or malformed.
        LimitError: a message is too large.
        Silent: nothing arrived within the timeout.
        Broken: the WebSocket ended in any other way, without a proof that the stream is complete.
    """
    ended = False
    while not ended:
        try:
            message = await receiver.receive()
        except TimeoutError as error:
            raise Silent("nothing arrived within the timeout (idle_seconds or the WebSocket's own)") from error
        if message.type is WSMsgType.TEXT:
            lines = unpack(message.data, framing_of(receiver.subprotocol, plain=plain))
            ended = holds_end(lines)
        else:
            lines = complete_record(END_RECORD, _items_of(message))
            ended = True
        yield lines
        # The caller has consumed all lines when it resumes this generator, so reading can stop.
        if ended and message.type is WSMsgType.TEXT:
            receiver.read_to_end()


def _count(message: WSMessage) -> int | None:
    """Return the number of items in the reason of a close with code 1000; None for any other message."""
    found = _COMPLETE.fullmatch(message.extra or "") if message.type is WSMsgType.CLOSE else None
    return int(found[1]) if found and message.data == WSCloseCode.OK else None


def proves_end(message: WSMessage) -> bool:
    """Whether a message is a close with code 1000 and the number of items."""
    return _count(message) is not None


def _items_of(message: WSMessage) -> int:
    """Return the number of items of a close that proves the end; raise an error for any other message."""
    if (count := _count(message)) is not None:
        return count
    data = message.data
    if message.type is WSMsgType.CLOSE and data in (WSCloseCode.OK, 0):
        code = f"code {int(data)}" if data else "no code"
        raise Broken(
            f"the WebSocket was closed with {code} and the reason {message.extra or ''!r}, "
            "expected code 1000 and the reason 'complete; items=N'"
        )
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
    raise Broken("the connection ended without a close frame of the WebSocket")
