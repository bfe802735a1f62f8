"""Bytes of a stream -> an HTTP response: chunked in HTTP/1.1 (RFC 9112 §7.1), ended by a close in HTTP/1.0."""

import asyncio
from collections.abc import Awaitable
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from chunkwise.formats import Format
from chunkwise.server.delivery import ClientGone
from chunkwise.transports.content_coding import Compressor
from chunkwise.transports.tcp import StallWatch, drop, reset_when_closed


class HttpWire:
    """Sends a stream as an HTTP response; see `Wire`. ``response`` must have its headers, and not be sent yet."""

    def __init__(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        format: Format,
        coding: str | None,
        stall_seconds: float,
    ) -> None:
        self.status: int = response.status
        self.format: str = format.name
        self.coding = coding
        self.bytes_sent: int = 0
        self.committed: bool = False
        self.response = response
        self._keepalive = format.keepalive or b""
        self._request = request
        self._compressor = Compressor(coding) if coding else None
        self._stall_seconds = stall_seconds
        self._transport = request.transport
        # A reset needs the socket. It is stored now, because a TLS transport that is closing no longer returns it.
        self._socket = None if request.transport is None else request.transport.get_extra_info("socket")
        self._writer: AbstractStreamWriter  # `commit` assigns the writer
        self._watch: StallWatch | None = None

    @property
    def stalled(self) -> bool:
        return self._watch is not None and self._watch.stalled

    async def commit(self) -> None:
        """Send the status line and the headers."""
        request, response = self._request, self.response
        # `committed` is set before the headers are sent, so that no second response is sent if an error occurs here.
        self.committed = True
        if request.version < (1, 1):
            # In HTTP/1.0, only a close ends the response, even if the client sent "Connection: keep-alive".
            response.force_close()
            # An orderly close means that the response is complete, so only a reset reports a failure (RFC 9112 §6.3,
            # rule 8). Until `finish`, every close is a reset, even the close by the kernel if this process is killed.
            reset_when_closed(self._socket, yes=True)
        try:
            writer = self._writer = cast("AbstractStreamWriter", await response.prepare(request))
        except ConnectionError as error:
            if self.has_left():
                raise ClientGone from error
            raise  # The client has not left: a handler of the signal `on_response_prepare` raised the error.
        if response.content_length is not None:
            self.close()
            length = response.content_length
            msg = f"on_response_prepare set Content-Length: {length}, expected none, since a stream has no known length"
            raise ValueError(msg)
        # The transport is not None, because `Delivery` begins a response only while the client is connected.
        transport = cast("asyncio.Transport", self._transport)
        # Each write waits until the kernel has all earlier bytes, so only one write is buffered for a slow client.
        # The limit is not 0, because asyncio's TLS transport would then wait for ever.
        transport.set_write_buffer_limits(high=1)
        self._watch = StallWatch(transport, self._socket, self._stall_seconds, lambda: writer.output_size)

    async def write(self, data: bytes) -> None:
        if self._compressor is not None:
            data = self._compressor.piece(data)
        self.bytes_sent += len(data)
        await self._writing(self.response.write(data))
        await self._sent()

    async def keep_alive(self, *, in_item: bool) -> None:
        # Inside an item, clients ignore only white space. A tab is sent and not a space, because an end record begins
        # with a space: an item after a space could look like an end record.
        await self.write(b"\t" if in_item else self._keepalive)

    async def finish(self, data: bytes, items: int) -> None:  # noqa: ARG002 - an end record has the number of items
        if self._compressor is not None:
            data = self._compressor.finish(data)
        self.bytes_sent += len(data)
        await self._writing(self.response.write_eof(data))
        await self._sent()
        self._unwatch()
        if self._request.version < (1, 1):
            reset_when_closed(self._socket, yes=False)

    async def break_off(self, record: bytes, error: BaseException) -> None:  # noqa: ARG002 - the record describes it
        try:
            if record and self._watch is not None:
                await self.write(record)
            # If the request is HTTP/1.0 or has unread bytes, the close below is a reset. A reset discards bytes that
            # the client has not received, so this waits until the client has received all bytes.
            resets = self._request.version < (1, 1) or not self._request.content.at_eof()
            if resets and self._watch is not None and not self.has_left():
                await self._watch.taken()
        finally:
            self.close()

    def close(self) -> None:
        self.response.force_close()
        transport = self._request.transport
        if self._request.version < (1, 1):
            # In HTTP/1.0, an orderly close (in TLS, with close_notify) means that the response is complete. So a
            # failed stream resets the connection instead.
            self.abort()
        elif transport is not None and not transport.is_closing():
            # The transport sends its buffer and closes, so aiohttp can write neither the last chunk nor a response.
            # If bytes are buffered, the `StallWatch` continues: at its next check it drops a connection that is still
            # closing, so that the bytes do not wait for ever.
            if not transport.get_write_buffer_size():
                self._unwatch()
            transport.close()

    def abort(self) -> None:
        self._unwatch()
        if self._request.transport is not None:
            drop(self._request.transport, self._socket)

    def has_left(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    async def discard(self) -> None:
        raise ClientGone

    def keeps_source_open(self) -> bool:
        return False

    async def _writing(self, writing: Awaitable[None]) -> None:
        try:
            await writing
        except ConnectionError as error:
            raise ClientGone from error
        # If the connection was closed without an error, the wait above raises no error. So a check is needed here.
        if self.has_left():
            await self.discard()

    async def _sent(self) -> None:
        """Wait until the kernel has all bytes written so far.

        A write of aiohttp alone does not wait for this, except when aiohttp's buffer is full.
        """
        await self._writing(self._writer.drain())

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.end()
        if self._request.transport is not None and not self.has_left():
            # The next response on this connection gets the default buffer limits of asyncio again.
            self._request.transport.set_write_buffer_limits()
