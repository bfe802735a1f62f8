"""A ws:// URL -> the items of the messages received; a source of items -> the messages sent."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

from aiohttp import ClientResponseError, ClientWebSocketResponse, ClientWSTimeout, WSCloseCode, WSMsgType, hdrs

from chunkwise.client.http import no_response
from chunkwise.client.request import Request
from chunkwise.client.response_items import ResponseItems
from chunkwise.client.upload import ClosingPayload, failure_of, sending
from chunkwise.errors import DecodeError, RemoteError, TruncatedError
from chunkwise.flow.outbound import open_outbound
from chunkwise.formats import Format
from chunkwise.formats.messages import LINES, SUBPROTOCOL, Packer, framing_of, take_start
from chunkwise.transports.problems import retry_after_seconds
from chunkwise.transports.range_headers import UNIT, RangeInfo
from chunkwise.transports.tcp import StallWatch, reset_when_closed, stalled_upload
from chunkwise.transports.websocket_messages import SocketReceiver, line_decoder, lines_of, max_message_bytes, refusing

# After sending a close frame, the client waits at most this many seconds for the server's close frame.
_CLOSE_SECONDS = 2.0

_FAILED = WSCloseCode.INTERNAL_ERROR.to_bytes(2) + b"the source failed"


@asynccontextmanager
async def open_websocket(request: Request, more_headers: Mapping[str, str]) -> AsyncIterator[ResponseItems]:
    """Open a WebSocket, send the request's upload (if any) over it, and yield the items that the server sends."""
    upload = request.upload
    make_decoder = line_decoder(request.path, type=request.type, required=request.required, limits=request.limits)

    def has_failed() -> bool:
        return upload is not None and upload.failure is not None

    async with (
        sending(upload, request.idle_seconds),
        _connected(request, more_headers) as websocket,
        _sending_items(websocket, upload),
    ):
        # If the source has failed, the client does not reply to the server's close: it has sent a close itself, and the
        # server's close is the reply.
        receiver = SocketReceiver(websocket, request.idle_seconds, answers=lambda: not has_failed())
        lines = lines_of(receiver, plain=isinstance(request.format, Format) and request.format.plain_messages)
        items = ResponseItems(websocket, _after_start(lines, lambda: items), make_decoder, lambda: False, upload=upload)
        try:
            yield items
        finally:
            if has_failed():
                _hang_up(websocket)
            elif isinstance(items.failure, DecodeError) and not isinstance(items.failure, TruncatedError):
                await _leave(websocket, *refusing(items.failure))


async def _after_start(lines: AsyncIterator[bytes], items: Callable[[], ResponseItems]) -> AsyncIterator[bytes]:
    """Yield the lines of the messages, except the start record, which the server may send in front of the first item.

    The start record contains the position of the stream. Before the first line is yielded, this position is stored as
    the ``range_info`` of the `ResponseItems` that ``items()`` returns.
    """
    is_first = True
    async for data in lines:
        rest = data
        if is_first:
            record, rest = take_start(data)
            items().range_info = RangeInfo() if record is None else RangeInfo.from_record(record)
            is_first = False
        yield rest


@asynccontextmanager
async def _connected(request: Request, more_headers: Mapping[str, str]) -> AsyncIterator[ClientWebSocketResponse]:
    """Open a WebSocket, and close it at the end of the ``async with``.

    Raises:
        RemoteError: the server refuses the WebSocket.
        StalledError: the server does not respond in time.
    """
    headers = {**request.headers, **more_headers}
    # A request for the range from item 0 asks the server for a start record, which holds the position of the stream.
    if request.upload is None and not request.asks_for_range:
        headers.setdefault(hdrs.RANGE, f"{UNIT}=0-")
    seconds = request.idle_seconds or None
    try:
        async with asyncio.timeout(seconds):
            websocket = await request.session.ws_connect(
                request.url,
                protocols=[SUBPROTOCOL],
                headers=headers,
                params=request.params,
                timeout=ClientWSTimeout(ws_receive=seconds),
                max_msg_size=max_message_bytes(request.limits.max_item_bytes),
                # With autoclose, aiohttp would reply to every close frame, even if that frame is itself a reply.
                autoclose=False,
            )
    except TimeoutError as error:
        raise no_response() from error
    # If the handshake fails, aiohttp raises WSServerHandshakeError, a subclass of ClientResponseError. With
    # raise_for_status, it raises ClientResponseError itself.
    except ClientResponseError as error:
        raise _refused(error) from error
    try:
        yield websocket
    finally:
        # This close frame has no reason. A reason with a count of items would say that the uploaded items are complete.
        await _leave(websocket, WSCloseCode.OK, b"")


def _refused(error: ClientResponseError) -> RemoteError:
    phrase = HTTPStatus(error.status).phrase if error.status in {*HTTPStatus} else ""
    message = f"the server answered the WebSocket handshake with {error.status} {phrase}".rstrip()
    if error.status < 400:
        message += ", expected 101: this URL serves no WebSocket, or a proxy removed the Upgrade header"
    refused = RemoteError(message, status=error.status)
    retry_after = error.headers.get(hdrs.RETRY_AFTER, "") if error.headers else ""
    refused.retry_after_seconds = retry_after_seconds(retry_after)
    return refused


async def _leave(websocket: ClientWebSocketResponse, code: int, reason: bytes) -> None:
    """Close a WebSocket if it is still open; drop the connection if the server does not reply soon."""
    connection: Any = websocket.get_extra_info("socket")
    # websocket.close() limits only the time until each next message. Without this timeout, it could wait for ever for
    # the close of a server that sends many messages.
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await websocket.close(code=code, message=reason)
    if connection is not None and websocket.close_code == WSCloseCode.ABNORMAL_CLOSURE:
        # The server has sent no close frame. Close the connection with a reset, which discards the unsent bytes:
        # otherwise the kernel would keep them for a server that may never read them.
        reset_when_closed(connection, yes=True)
        _shut_down(connection, socket.SHUT_RDWR)


def _hang_up(websocket: ClientWebSocketResponse) -> None:
    """Close the sending side of the connection, because nothing may be sent after the client's close frame."""
    _shut_down(websocket.get_extra_info("socket"), socket.SHUT_WR)


def _shut_down(connection: Any, how: int) -> None:
    # A socket that is closed raises OSError, and None raises AttributeError: there is nothing left to shut down.
    with suppress(OSError, AttributeError):
        connection.shutdown(how)


@asynccontextmanager
async def _sending_items(websocket: ClientWebSocketResponse, upload: ClosingPayload | None) -> AsyncIterator[None]:
    """Send the items of an upload, then an end record, while the body of the ``async with`` runs.

    If the source fails, the WebSocket is closed with 1011, so that the server does not take the items for complete. The
    exception is stored in the upload's ``failure``.
    """
    if upload is None:
        yield
        return
    sending = asyncio.create_task(_send(websocket, upload))
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.wait({sending})


async def _send(websocket: ClientWebSocketResponse, upload: ClosingPayload) -> None:
    plain = upload.format.plain_messages
    packer = Packer(framing_of(websocket.protocol, plain=plain), plain=plain)
    connection = _UploadSocket(websocket, upload)
    try:
        async with aclosing(open_outbound(upload.take_source(), LINES, stream_end=True).pieces()) as pieces:
            async for piece in pieces:
                for message in packer.pack(piece):
                    try:
                        await connection.send(message)
                    # The connection is lost. No error is stored here, because reading from the WebSocket raises one
                    # with the reason.
                    except ConnectionError:
                        return
    except BaseException as error:
        upload.failure = failure_of(error)
        if upload.failure is None:
            raise
        # websocket.close() is not used: it discards messages that have arrived and may still be read.
        with suppress(ConnectionError):
            await websocket.send_frame(_FAILED, WSMsgType.CLOSE)
        await asyncio.sleep(_CLOSE_SECONDS)
        _hang_up(websocket)
    finally:
        connection.watch.end()


class _UploadSocket:
    """A WebSocket with the methods of a transport, as needed by `StallWatch`, which drops stalled connections.

    aiohttp gives access to the socket of a WebSocket, but not to its transport.
    """

    def __init__(self, websocket: ClientWebSocketResponse, upload: ClosingPayload) -> None:
        self._websocket = websocket
        self._upload = upload
        self._socket: Any = websocket.get_extra_info("socket")
        self._written = 0
        self._sending = 0  # the size of the message that is being sent; part of it may be in the transport's buffer
        self.watch = StallWatch(self, self._socket, upload.stall_seconds, lambda: self._written)

    async def send(self, message: bytes) -> None:
        """Send a message, and wait until the transport's buffer has space for the next message."""
        self._written += len(message)
        self._sending = len(message)
        await self._websocket.send_frame(message, WSMsgType.TEXT)
        self._sending = 0

    def get_write_buffer_size(self) -> int:
        return self._sending

    def is_closing(self) -> bool:
        return self._socket is None or self._socket.fileno() < 0

    def abort(self) -> None:
        """Drop the connection. If the server has stalled, store a StalledError as the ``failure`` of the upload."""
        if self.watch.stalled:
            self._upload.failure = stalled_upload(self._upload.stall_seconds)
        _shut_down(self._socket, socket.SHUT_RDWR)
