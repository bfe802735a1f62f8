"""Bytes of a stream -> a WebSocket at a server, and what its client sends meanwhile (RFC 6455).

Must not know any one format, nor when there is something to write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import cast

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from chunkwise.errors import StreamError
from chunkwise.flow.inbound import Broken
from chunkwise.formats.messages import SUBPROTOCOL, Packer, framing_of
from chunkwise.server.delivery import ClientGone
from chunkwise.server.websocket_frames import frame_bytes, text_frames
from chunkwise.server.websocket_inbox import Inbox
from chunkwise.transports.problems import upload_details
from chunkwise.transports.tcp import POLL_SECONDS, StallWatch, drop
from chunkwise.transports.websocket_messages import (
    LOST,
    MAX_MESSAGE_BYTES,
    SERVER_WEBSOCKET,
    closing,
    complete_reason,
    refusing,
)

_MAX_MESSAGE_BYTES = 4 * 2**20  # of a client's message, where no reader has said more before the handshake
_MAX_PAUSE_SECONDS = 0.5
_REFUSED_SECONDS = 1.0  # for a client that does harm to answer our close


class WebSocketWire:
    """A WebSocket that answers a request; see `Wire`.

    Args:
        request: what is answered.
        headers: of the handshake's answer.
        on_gone: is called when the client has left.
        is_deaf: whether aiohttp reads nothing any more, because the server stops.
        plain: see `Format.plain_messages`.
        start: what a client of our subprotocol is told before all items.
        compress: whether the client may have messages compressed (RFC 7692).
        stall_seconds: how long the client may take nothing while something waits for it; 0 for ever.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        headers: Mapping[str, str],
        on_gone: Callable[[], None],
        is_deaf: Callable[[], bool],
        *,
        plain: bool,
        start: bytes = b"",
        compress: bool,
        stall_seconds: float,
    ) -> None:
        self.status = 101
        self.format = "text" if plain else "json"
        self.coding: str | None = None
        self.bytes_sent: int = 0
        self._written = 0
        self.committed: bool = False
        self._websocket = web.WebSocketResponse()
        self._on_gone = on_gone
        self._request = request
        self._headers = headers
        self._plain = plain
        self._start = start
        self._compress = compress
        self._stall_seconds = stall_seconds
        self._opening: asyncio.Task[None] | None = None
        self._packer = Packer("items")
        self._inbox = Inbox()
        self._receiver: object = None
        self._is_deaf = is_deaf
        self._close_code: int | None = None
        self._last: WSMessage | None = None  # of the client, once it has left
        self._reading: asyncio.Task[None] | None = None
        self._writer: AbstractStreamWriter | None = None
        self._watch: StallWatch | None = None
        request[SERVER_WEBSOCKET] = self

    @property
    def stalled(self) -> bool:
        """See `Wire.stalled`."""
        return self._watch is not None and self._watch.stalled

    @property
    def response(self) -> web.StreamResponse:
        """See `Wire.response`."""
        # aiohttp cannot end one that has never begun.
        return self._websocket if self._writer is not None else web.Response(status=400)

    @property
    def subprotocol(self) -> str | None:
        """What both sides have agreed on, once it is committed."""
        return self._websocket.ws_protocol

    async def commit(self) -> None:
        """Answer the handshake, and begin to read."""
        if self._opening is None:
            self.committed = True  # also if that fails: aiohttp's writer is then spoilt for any other answer
            # A task of its own: a source that reads may have begun it, and who steps the source waits for it, too.
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        request = self._request
        response = self._websocket = web.WebSocketResponse(
            protocols=[SUBPROTOCOL],
            autoping=False,  # pings are counted
            autoclose=False,  # a close that answers ours is not answered
            compress=self._compress,
            timeout=_REFUSED_SECONDS,
            max_msg_size=max(_MAX_MESSAGE_BYTES, request.get(MAX_MESSAGE_BYTES, 0)),
        )
        response.headers.update(self._headers)
        try:
            self._writer = await response.prepare(request)
        except ConnectionError as error:
            self._last = LOST
            raise ClientGone from error
        transport = request.transport
        if transport is None:  # the client has taken all that waited for it, and left, while prepare() waited for that
            self._last = LOST
            raise ClientGone
        if response.ws_protocol is not None:
            self.format = "ndjson"
        self._packer = Packer(framing_of(response.ws_protocol, plain=self._plain), plain=self._plain)
        # A write waits until the kernel has all of the one before: what waits for a client is one write, not many.
        transport.set_write_buffer_limits(high=1)  # of 0, asyncio's TLS would never be through
        connection = transport.get_extra_info("socket")
        self._watch = StallWatch(transport, connection, self._stall_seconds, lambda: self._written)
        self._reading = asyncio.create_task(self._read())
        if self._start and response.ws_protocol is not None:
            with _client_may_leave():
                await self._send([self._start])

    async def write(self, data: bytes) -> None:
        """See `Wire.write`; a line that is not complete waits for its rest."""
        messages: list[bytes] = []
        try:
            for message in self._packer.pack(data):
                messages.append(message)  # noqa: PERF402 - those before an error are sent before it is raised
        finally:
            with _client_may_leave():
                await self._send(messages)
                await self._sent()

    async def _send(self, messages: Sequence[bytes]) -> None:
        self.bytes_sent += sum(map(len, messages))
        if self._websocket.compress:
            for message in messages:
                self._count(message)
                await self._websocket.send_frame(message, WSMsgType.TEXT)
        elif messages:
            transport = self._request.transport
            if self._websocket.closed or transport is None or transport.is_closing():
                raise ClientGone
            frames = text_frames(messages)
            self._written += len(frames)
            transport.write(frames)

    async def keep_alive(self, *, in_item: bool) -> None:  # noqa: ARG002 - a ping may stand anywhere
        """Send a ping.

        Nobody waits for the pong: a client that is busy with what it has got answers late, and one that is not there
        any more does not take the ping, either.
        """
        with _client_may_leave():
            self._count(b"")
            await self._websocket.ping()
            await self._sent()

    async def _pong(self, message: bytes) -> None:
        self._count(message)
        await self._websocket.pong(message)

    def _count(self, payload: bytes) -> None:
        """Count a frame with its head (RFC 6455 §5.2), as it waits in the connection."""
        self._written += frame_bytes(len(payload))

    async def _sent(self) -> None:
        """Wait until the kernel has all that was written; aiohttp does so only now and then."""
        await cast("AbstractStreamWriter", self._writer).drain()
        transport = self._request.transport
        if transport is None or transport.is_closing():  # a close without an error ends the wait without one
            raise ClientGone

    async def finish(self, data: bytes, items: int) -> None:
        """Send the last bytes, close with 1000 and the count of items, and wait for the client's own close."""
        await self.write(data)
        await self._close(WSCloseCode.OK, complete_reason(items))

    async def break_off(self, record: bytes, error: BaseException) -> None:  # noqa: ARG002 - the close tells it
        """Close with the failure's code and title."""
        tell = closing if upload_details(error, self._request) is None else refusing
        await self._close(*tell(error))

    async def _close(self, code: int, reason: bytes) -> None:
        """Close, and wait until the client has answered, behind all that it may still have to read."""
        if self._last is not None or self._writer is None:
            raise ClientGone
        self._close_code = code
        self._inbox.end(LOST)
        with _client_may_leave():
            # Not response.close(): that waits for a fixed time, however much the client is still taking.
            await self._websocket.send_frame(code.to_bytes(2) + reason, WSMsgType.CLOSE)
            await self._sent()
        await self._answered()
        self._unwatch()
        if self._request.transport is not None:
            self._request.transport.close()
        if self.stalled:
            raise ClientGone

    async def _answered(self) -> None:
        """Wait for the client's close, which stands behind all that it has still to read.

        It has stall_seconds from when its kernel has all; until then the watch limits its silence.
        """
        reading, watch = cast("asyncio.Task[None]", self._reading), cast("StallWatch", self._watch)
        since, pause = monotonic(), POLL_SECONDS
        while not (await asyncio.wait({reading}, timeout=pause))[0]:  # it ends with the connection
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            if watch.waiting():
                since = monotonic()
            elif self._is_deaf():
                return  # aiohttp reads nothing any more: that the client's kernel has all is what can be known
            elif self._stall_seconds and monotonic() - since >= self._stall_seconds:
                watch.stalled = True  # it may still read all, but has not said so
                return
        # Another code is no answer: it has crossed ours.
        answers = (WSCloseCode.OK, self._close_code)
        if self._last is None or self._last.type is not WSMsgType.CLOSE or self._last.data not in answers:
            self.abort()
            raise ClientGone

    def close(self) -> None:
        """Drop the connection: without a close of the WebSocket no client takes the stream for a whole one."""
        self.abort()

    def abort(self) -> None:
        """See `Wire.abort`."""
        for task in (self._opening, self._reading):
            if task is not None:
                task.cancel()
        self._inbox.end(LOST)
        transport = self._request.transport
        if transport is not None and transport.is_closing():
            return  # our close, or answer to one, is on its way; what is not taken soon is dropped by the watch
        self._unwatch()
        if transport is not None:
            drop(transport, transport.get_extra_info("socket"))

    def is_gone(self) -> bool:
        """Whether the client has left, and nobody reads any more what it has sent before."""
        transport = self._request.transport
        closed = self._last is not None or transport is None or transport.is_closing()
        # Nobody hears of it while reading waits for room.
        left = closed or (self._watch is not None and self._watch.has_left())
        return left and not self._inbox.is_being_read()

    def read_to_end(self) -> None:
        """Say that nobody reads any more: the client has sent all."""
        self._inbox.read_to_end()

    async def receive(self, receiver: object) -> WSMessage:
        """Return the client's next message, at last its close.

        Args:
            receiver: who wants it: only one can have them.

        Raises:
            Broken: the client has left before the handshake was through.
            StreamError: somebody else reads.
        """
        if self._receiver not in (None, receiver):
            raise StreamError("another items(request) reads this WebSocket: keep the one, and go on with that")
        self._receiver = receiver
        self._inbox.begin()  # before the handshake, behind which a client may have left already
        try:
            await self.commit()
        except ClientGone as error:
            self._inbox.read_to_end()
            raise Broken("the client has left before the handshake was through") from error
        message = await self._inbox.get()
        if message.type is not WSMsgType.TEXT:
            self._on_gone()  # nobody reads any more
        return message

    async def _read(self) -> None:
        """Read what the client sends, until it has left."""
        last = await self._inbox.fill(self._websocket, self._pong)
        if last.type is WSMsgType.CLOSE and self._close_code is None:
            # Of codes that may not be sent (RFC 6455 §7.4.1), aiohttp takes 1006.
            code = WSCloseCode.PROTOCOL_ERROR if last.data == WSCloseCode.ABNORMAL_CLOSURE else last.data
            await self._websocket.close(code=code or WSCloseCode.OK, drain=False)
        self._last = last
        if not self._inbox.is_being_read():
            self._on_gone()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.end()


@contextmanager
def _client_may_leave() -> Iterator[None]:
    try:
        yield
    except ConnectionError as error:
        raise ClientGone from error
