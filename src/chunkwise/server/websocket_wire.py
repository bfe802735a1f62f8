"""Bytes of a stream -> the messages of a WebSocket; the messages of its client -> the source (RFC 6455)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import cast

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from chunkwise.flow.inbound import Broken
from chunkwise.formats.messages import SUBPROTOCOL, Packer, framing_of
from chunkwise.server.delivery import ClientGone
from chunkwise.server.websocket_frames import FrameSender
from chunkwise.server.websocket_inbox import Inbox
from chunkwise.transports.problems import readers_of, upload_details
from chunkwise.transports.tcp import POLL_SECONDS, StallWatch, drop
from chunkwise.transports.websocket_messages import (
    LOST,
    MAX_MESSAGE_BYTES,
    SERVER_WEBSOCKET,
    closing,
    complete_reason,
    refusing,
)

# The size limit of a client's message, unless `items(request)` sets a higher limit before the handshake.
_MAX_MESSAGE_BYTES = 4 * 2**20
_MAX_PAUSE_SECONDS = 0.5
_REFUSED_SECONDS = 1.0  # how long to wait for the client's close after an error in its messages


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketOptions:
    """The options of a WebSocket that a request opens."""

    headers: Mapping[str, str]  # additional headers for the response to the handshake
    plain: bool  # see `Format.plain_messages`
    start: bytes  # the start record, if the client asked for a range; else empty
    compress: bool  # whether messages are compressed if the client supports it (RFC 7692)
    # The client is disconnected if it receives nothing for this time, although bytes wait for it. 0 means no limit.
    stall_seconds: float


class WebSocketWire:
    """Sends a stream as messages, and passes the client's messages to the source; see `Wire` and `ServerWebSocket`."""

    status = 101
    coding: str | None = None

    def __init__(
        self,
        request: web.BaseRequest,
        options: WebSocketOptions,
        # Makes the stream check whether the client has left.
        on_gone: Callable[[], None],
        # Returns whether the server is shutting down. During a shutdown, aiohttp does not read the client's messages.
        is_deaf: Callable[[], bool],
    ) -> None:
        self.format = "text" if options.plain else "json"
        self.committed: bool = False
        self._request = request
        self._options = options
        self._on_gone = on_gone
        self._is_deaf = is_deaf
        self._packer = Packer("items")
        self._inbox = Inbox(lambda: readers_of(request))
        self._sender: FrameSender | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[WSMessage] | None = None
        self._close_code: int | None = None
        request[SERVER_WEBSOCKET] = self

    @property
    def bytes_sent(self) -> int:
        return self._sender.bytes_sent if self._sender is not None else 0

    @property
    def stalled(self) -> bool:
        return self._sender is not None and self._sender.watch.stalled

    @property
    def response(self) -> web.StreamResponse:
        # aiohttp requires that the handler returns a response, even if the WebSocket was never opened.
        return self._sender.websocket if self._sender is not None else web.Response(status=400)

    @property
    def subprotocol(self) -> str | None:
        return None if self._sender is None else self._sender.websocket.ws_protocol

    async def commit(self) -> None:
        """Send the response to the handshake, and begin to read messages."""
        if self._opening is None:
            # `committed` is set first, because no other response can be sent if opening the WebSocket fails halfway.
            self.committed = True
            # The opening is a task, because the `Delivery` and a source that reads messages may both wait for it.
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        request, options, transport = self._request, self._options, self._request.transport
        response = web.WebSocketResponse(
            protocols=[SUBPROTOCOL],
            # aiohttp must not reply to pings, because the `Inbox` replies to them, and limits their number.
            autoping=False,
            # aiohttp must not reply to closes, because it would also reply to a close that is itself a reply.
            autoclose=False,
            compress=options.compress,
            timeout=_REFUSED_SECONDS,
            max_msg_size=max(_MAX_MESSAGE_BYTES, request.get(MAX_MESSAGE_BYTES, 0)),
        )
        response.headers.update(options.headers)
        try:
            with _client_may_leave():
                if transport is None:
                    raise ConnectionResetError("the client disconnected before the handshake")
                writer = await response.prepare(request)
        except ClientGone:
            self._inbox.end(LOST)
            raise
        if response.ws_protocol is not None:
            self.format = "ndjson"
        self._packer = Packer(framing_of(response.ws_protocol, plain=options.plain), plain=options.plain)
        self._sender = FrameSender(response, transport, writer, options.stall_seconds)
        self._reading = asyncio.create_task(self._read(response))
        if options.start and response.ws_protocol is not None:
            await self._sending(self._sender.send([options.start]))

    async def write(self, data: bytes) -> None:
        """Send the complete lines as messages; an incomplete line is kept until its rest is written."""
        messages: list[bytes] = []
        try:
            for message in self._packer.pack(data):
                messages.append(message)  # noqa: PERF402 - after an error, earlier messages are sent
        finally:
            await self._sending(cast("FrameSender", self._sender).send(messages))

    async def keep_alive(self, *, in_item: bool) -> None:  # noqa: ARG002 - a ping may be sent anywhere
        """Send a ping, so that no proxy closes a silent connection."""
        await self._sending(cast("FrameSender", self._sender).ping())

    async def _sending(self, sending: Awaitable[None]) -> None:
        """Wait until messages are sent; if the client has left, discard them as `discard` does."""
        try:
            await sending
        except ConnectionError:
            await self.discard()

    async def discard(self) -> None:
        """Raise `ClientGone`, unless the source still reads messages that the client sent before it left."""
        if not (self.keeps_source_open() and await self._inbox.allows_write()):
            raise ClientGone

    async def finish(self, data: bytes, items: int) -> None:
        """Send the last bytes, then a close with code 1000 and the number of items; wait for the client's close."""
        await self.write(data)
        await self._close(WSCloseCode.OK, complete_reason(items))

    async def break_off(self, record: bytes, error: BaseException) -> None:  # noqa: ARG002 - the close describes it
        """Close the WebSocket with a code and a reason that describe ``error``."""
        close_for = closing if upload_details(error, self._request) is None else refusing
        await self._close(*close_for(error))

    async def _close(self, code: int, reason: bytes) -> None:
        """Send a close frame, and wait until the client has read all messages and replies with its close."""
        sender, reading = self._sender, self._reading
        if sender is None or reading is None or reading.done():
            raise ClientGone
        self._close_code = code
        self._inbox.end(LOST)
        with _client_may_leave():
            await sender.close(code, reason)
        await self._answered(sender.watch, reading)
        sender.watch.end()
        if self._request.transport is not None:
            self._request.transport.close()
        if self.stalled:
            raise ClientGone

    async def _answered(self, watch: StallWatch, reading: asyncio.Task[WSMessage]) -> None:
        """Wait until the client has read all messages and replies with its close.

        ``watch`` disconnects the client if it receives nothing for ``stall_seconds`` while bytes wait for it. After the
        client's kernel has received the last byte, the client has ``stall_seconds`` to reply.
        """
        since, pause = monotonic(), POLL_SECONDS
        # ``reading`` ends when the client's close arrives, or when the connection ends.
        while not (await asyncio.wait({reading}, timeout=pause))[0]:
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            if watch.waiting():
                since = monotonic()
            elif self._is_deaf():
                # The server is shutting down, so aiohttp will not read the client's close. The stream counts as
                # complete, because the client's kernel has all bytes.
                return
            elif 0 < self._options.stall_seconds <= monotonic() - since:
                # The client's kernel has all bytes, but the client has not replied in time, so it counts as stalled.
                watch.stalled = True
                return
        last = LOST if reading.cancelled() else reading.result()
        # A reply has code 1000 or the code that the server has sent. A close with any other code is not a reply: the
        # client sent it before it received the server's close, so the client has not received the whole stream.
        if last.type is not WSMsgType.CLOSE or last.data not in (WSCloseCode.OK, self._close_code):
            self.abort()
            raise ClientGone

    def close(self) -> None:
        """Drop the connection without a close frame, so that no client takes the stream for complete."""
        self.abort()

    def abort(self) -> None:
        for task in (self._opening, self._reading):
            if task is not None:
                task.cancel()
        self._inbox.end(LOST)
        transport = self._request.transport
        if transport is not None and transport.is_closing():
            # The connection is already being closed. If that takes too long, the `StallWatch` drops it.
            return
        if self._sender is not None:
            self._sender.watch.end()
        if transport is not None:
            drop(transport, transport.get_extra_info("socket"))

    def has_left(self) -> bool:
        transport, reading, sender = self._request.transport, self._reading, self._sender
        closed = transport is None or transport.is_closing() or (reading is not None and reading.done())
        # If the task `_opening` is done, but there is no `FrameSender`, the handshake has failed.
        closed = closed or (sender is None and self._opening is not None and self._opening.done())
        # While the inbox is full, nothing is read from aiohttp. Then only the kernel knows whether the client has left.
        return closed or (sender is not None and sender.watch.has_left())

    def keeps_source_open(self) -> bool:
        return self._opening is not None and not self.stalled and self._inbox.keeps_source_open()

    def read_to_end(self) -> None:
        self._inbox.read_to_end()

    async def receive(self, receiver: object) -> WSMessage:
        """Return the client's next message; the last message is its close.

        Raises:
            StreamError: another receiver already reads the messages of this WebSocket.
            Broken: the client left before the handshake was complete.
        """
        # The receiver is registered before the handshake. Otherwise, if the client left directly after the handshake,
        # the source could be closed before it reads the last message.
        self._inbox.begin(receiver)
        try:
            await self.commit()
        except ClientGone as error:
            self._inbox.read_to_end()
            raise Broken("the client disconnected before the handshake was complete") from error
        message = await self._inbox.get()
        if message.type is not WSMsgType.TEXT:
            # The source has read the last message, so the stream has to check whether the source must now be closed.
            self._on_gone()
        return message

    async def _pong(self, data: bytes) -> None:
        # A pong to a client that has left would cause a reset, which discards the client's unread messages.
        if not self.has_left():
            await cast("FrameSender", self._sender).pong(data)

    async def _read(self, websocket: web.WebSocketResponse) -> WSMessage:
        """Read the client's messages until the client leaves; return the last message."""
        last = await self._inbox.fill(websocket, self._pong)
        if last.type is WSMsgType.CLOSE and self._close_code is None:
            # aiohttp reports the code 1006 if the client has sent a code that is not allowed (RFC 6455 §7.4.1). The
            # reply to such a close has the code of a protocol error.
            code = WSCloseCode.PROTOCOL_ERROR if last.data == WSCloseCode.ABNORMAL_CLOSURE else last.data
            await websocket.close(code=code or WSCloseCode.OK, drain=False)
        if not self._inbox.keeps_source_open():
            self._on_gone()
        return last


@contextmanager
def _client_may_leave() -> Iterator[None]:
    try:
        yield
    except ConnectionError as error:
        raise ClientGone from error
