"""The connection of an upload -> why it was lost, and the response that arrived before."""

import asyncio
import os
from contextlib import suppress
from typing import Protocol, Self

from aiohttp import ClientConnectionResetError
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

from chunkwise.transports.tcp import StallWatch, drop, stalled_upload

_MAX_RESCUED_BYTES = 64 * 1024
_MAX_REST_BYTES = 64 * 1024
_FLUSH_SECONDS = 1.0
_TURNS = 3  # after the first bytes of a response, aiohttp needs this many turns of the event loop to cancel the upload


class Upload(Protocol):
    """The body of a request; see `ClosingPayload`."""

    failure: Exception | None
    stall_seconds: float


class UploadConnection(asyncio.Protocol):
    """The asyncio protocol of a connection while an upload is sent; it passes all calls to aiohttp's protocol.

    Before it notifies aiohttp that the connection is lost, it solves two problems. After a failed write, asyncio closes
    the connection, although the kernel may hold a response of the server: its bytes are read here. And aiohttp does not
    know why this module dropped a connection: the reason is passed on.
    """

    def __init__(
        self, transport: asyncio.Transport, protocol: ResponseHandler, writer: StreamWriter, upload: Upload
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._upload = upload
        self._socket = transport.get_extra_info("socket")
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        self._watch = StallWatch(transport, self._socket, upload.stall_seconds, lambda: writer.output_size)
        self._has_data = False
        self._lost = asyncio.Event()
        transport.set_protocol(self)

    @classmethod
    def of(cls, writer: AbstractStreamWriter, upload: Upload) -> Self | None:
        """Return the connection of a client's writer; None for any other writer."""
        if not (isinstance(writer, StreamWriter) and isinstance(writer.protocol, ResponseHandler)):
            return None
        return None if writer.transport is None else cls(writer.transport, writer.protocol, writer, upload)

    async def look(self) -> None:
        """Give aiohttp time to read an early response; raise an error if the server has closed the connection."""
        # If a response has begun, aiohttp cancels the upload here, before the source yields the next item.
        turns = _TURNS if self._has_data else 1 if self._is_tls else 0
        self._has_data = False
        for _ in range(turns):
            await asyncio.sleep(0)
        if self._transport.is_closing():
            raise ClientConnectionResetError("the server closed the connection before the upload was complete")

    async def finish(self, writer: AbstractStreamWriter) -> None:
        """Wait until the server has received nearly all bytes, then send the last chunk.

        After the last chunk, aiohttp limits how long the server may be silent. The time in which the server still reads
        the body must not count as silence.
        """
        await self._watch.taken(most_bytes=_MAX_REST_BYTES)
        await writer.write_eof()

    async def break_off(self, error: BaseException) -> None:
        """Close the connection at once; if the source has failed, first send the bytes written so far."""
        transport = self._transport
        if error is self._upload.failure:
            try:
                await self._watch.taken(seconds=_FLUSH_SECONDS)
            finally:
                if transport.get_write_buffer_size():
                    drop(transport, self._socket)
                else:
                    transport.close()
            return
        drop(transport, self._socket)
        if isinstance(error, ConnectionError):
            await self._lost.wait()  # `connection_lost` may find a response before aiohttp gets the error

    def leave(self) -> None:
        """Restore aiohttp's protocol of the connection."""
        self._watch.end()
        if self._transport.is_closing():
            return  # asyncio is about to call `connection_lost` of this object
        self._transport.set_protocol(self._protocol)

    def connection_lost(self, exc: Exception | None) -> None:
        upload = self._upload
        if self._watch.stalled and upload.failure is None:
            upload.failure = stalled_upload(upload.stall_seconds)
            self._protocol.set_exception(upload.failure)
        if upload.failure is not None and exc is None:
            # Without an error, a response that ends with the connection would look complete.
            exc = ConnectionAbortedError("the upload failed")
        elif isinstance(exc, ConnectionError):
            self._rescue()
        self._lost.set()
        self._protocol.connection_lost(exc)

    def _rescue(self) -> None:
        """Pass to aiohttp the bytes that the server sent before it closed and that asyncio has not read."""
        # Other event loops may have closed the socket, so that its file descriptor may belong to another file.
        if self._is_tls or not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            return
        rescued = b""
        with suppress(OSError):
            while len(rescued) < _MAX_RESCUED_BYTES and (
                data := os.read(self._socket.fileno(), _MAX_RESCUED_BYTES - len(rescued))
            ):
                rescued += data
        if rescued:
            self._protocol.data_received(rescued)

    def data_received(self, data: bytes) -> None:
        self._has_data = True
        self._protocol.data_received(data)

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
