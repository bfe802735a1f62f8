"""Bytes of a stream -> an HTTP response: chunked HTTP/1.1 (RFC 9112 §7.1), or HTTP/1.0 until the connection closes."""

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
    """A response over HTTP; see `Wire`. Its headers are complete, and it is not yet prepared."""

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
        # Asked now: TLS does not give it any more while it is closing.
        self._socket = None if request.transport is None else request.transport.get_extra_info("socket")
        self._writer: AbstractStreamWriter  # once the head is written
        self._watch: StallWatch | None = None

    @property
    def stalled(self) -> bool:
        return self._watch is not None and self._watch.stalled

    async def commit(self) -> None:
        """Send the status line and the headers."""
        request, response = self._request, self.response
        self.committed = True  # also if that fails: aiohttp's writer cannot send another response then
        if request.version < (1, 1):
            response.force_close()  # only a close ends the response, even with "Connection: keep-alive"
            # HTTP/1.0 has no last chunk: a close is the end, and only a reset is not (RFC 9112 §6.3, rule 8). So from
            # here on each close is a reset, even that of the kernel if this process is killed.
            reset_when_closed(self._socket, yes=True)
        try:
            writer = self._writer = cast("AbstractStreamWriter", await response.prepare(request))
        except ConnectionError as error:
            if self.has_left():
                raise ClientGone from error
            raise  # raised by a signal of the application
        if response.content_length is not None:
            self.close()
            msg = f"a signal has set Content-Length: {response.content_length} on a stream, whose length is not known"
            raise ValueError(msg)
        transport = cast("asyncio.Transport", self._transport)  # `Delivery` commits no response if the client has left
        # A write waits until the kernel has all of the one before, so that only one write waits for a slow client.
        transport.set_write_buffer_limits(high=1)  # with 0, asyncio's TLS would never finish
        self._watch = StallWatch(transport, self._socket, self._stall_seconds, lambda: writer.output_size)

    async def write(self, data: bytes) -> None:
        if self._compressor is not None:
            data = self._compressor.piece(data)
        self.bytes_sent += len(data)
        await self._writing(self.response.write(data))
        await self._sent()

    async def keep_alive(self, *, in_item: bool) -> None:
        # Inside a JSON text only white space between tokens has no meaning; and after a space, an item could look like
        # an end record.
        await self.write(b"\t" if in_item else self._keepalive)

    async def finish(self, data: bytes, items: int) -> None:  # noqa: ARG002 - the format counts them, where it can
        if self._compressor is not None:
            data = self._compressor.finish(data)
        self.bytes_sent += len(data)
        await self._writing(self.response.write_eof(data))
        await self._sent()
        self._unwatch()
        if self._request.version < (1, 1):
            reset_when_closed(self._socket, yes=False)

    async def break_off(self, record: bytes, error: BaseException) -> None:  # noqa: ARG002 - the record says it
        try:
            if record and self._watch is not None:
                await self.write(record)
            # A close is a reset, which discards what the client has not taken, under HTTP/1.0, and also if the client
            # has sent bytes that were not read.
            resets = self._request.version < (1, 1) or not self._request.content.at_eof()
            if resets and self._watch is not None and not self.has_left():
                await self._watch.taken()
        finally:
            self.close()

    def close(self) -> None:
        self.response.force_close()
        transport = self._request.transport
        if self._request.version < (1, 1):
            self.abort()  # TLS says goodbye before an orderly close, which looks like the end
        elif transport is not None and not transport.is_closing():
            # Sends the buffer, then closes: aiohttp can write neither the last chunk nor another response. The watch
            # continues, and drops what the client does not take.
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
        if self.has_left():  # a close without an error ends the wait without one
            raise ClientGone

    async def _sent(self) -> None:
        """Wait until the kernel has everything; aiohttp does so only now and then."""
        await self._writing(self._writer.drain())

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.end()
        if self._request.transport is not None and not self.has_left():
            self._request.transport.set_write_buffer_limits()  # as before, for the next response on this connection
