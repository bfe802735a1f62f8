"""The connection of an upload -> the reason of its loss, and the response that arrived before it."""

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
_TURNS = 3  # of the loop, from the first bytes of a response until aiohttp cancels the upload


class Upload(Protocol):
    """The body that is sent; see `ClosingPayload`."""

    failure: Exception | None
    stall_seconds: float


class UploadConnection(asyncio.Protocol):
    """The protocol between a connection and aiohttp, as long as something is sent.

    asyncio closes a connection at the first write that the server refuses, although the server's response may still be
    unread in the kernel; and aiohttp does not learn why a connection was dropped. Both can be corrected only before
    aiohttp learns that the connection is lost.
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
        """Return the connection of a client's writer; None for any other."""
        if not (isinstance(writer, StreamWriter) and isinstance(writer.protocol, ResponseHandler)):
            return None
        return None if writer.transport is None else cls(writer.transport, writer.protocol, writer, upload)

    async def look(self) -> None:
        """Let aiohttp read an early response, between two pieces; raise if the server has closed the connection."""
        # aiohttp may cancel us for it, before the source is asked for more.
        turns = _TURNS if self._has_data else 1 if self._is_tls else 0
        self._has_data = False
        for _ in range(turns):
            await asyncio.sleep(0)
        if self._transport.is_closing():
            raise ClientConnectionResetError("the server has closed the connection before the upload was whole")

    async def finish(self, writer: AbstractStreamWriter) -> None:
        """Wait until the server has nearly everything, then send the last chunk.

        From then on aiohttp limits the server's silence, which must not include the time to read the body.
        """
        await self._watch.taken(most_bytes=_MAX_REST_BYTES)
        await writer.write_eof()

    async def break_off(self, error: BaseException) -> None:
        """Close the connection: after what was written if the source has failed, else at once."""
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
            await self._lost.wait()  # `connection_lost` may find the response before aiohttp gets the error

    def leave(self) -> None:
        """Give the connection back to aiohttp."""
        self._watch.end()
        if self._transport.is_closing():
            return  # `connection_lost` will be called here
        self._transport.set_protocol(self._protocol)

    def connection_lost(self, exc: Exception | None) -> None:
        upload = self._upload
        if self._watch.stalled and upload.failure is None:
            upload.failure = stalled_upload(upload.stall_seconds)
            self._protocol.set_exception(upload.failure)
        if upload.failure is not None and exc is None:
            # A response that only the close ends must not look whole.
            exc = ConnectionAbortedError("the upload has failed")
        elif isinstance(exc, ConnectionError):
            self._rescue()
        self._lost.set()
        self._protocol.connection_lost(exc)

    def _rescue(self) -> None:
        """Give aiohttp the bytes that the server sent before it closed, and that asyncio has not read."""
        # Other loops may have closed the socket already, and its file number may be in use again.
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
