"""Handle the loss of an upload's connection: read a response that has already arrived, give aiohttp the reason."""

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
# After the first bytes of a response, aiohttp needs this many turns of the event loop to cancel the upload.
_TURNS = 3


class Upload(Protocol):
    """The attributes of a `ClosingPayload`, the body of a request, that this module uses."""

    failure: Exception | None
    stall_seconds: float


class UploadConnection(asyncio.Protocol):
    """The asyncio protocol of a connection while an upload is sent; it passes all calls to aiohttp's protocol.

    It adds two things when the connection is lost. After a failed write, asyncio closes the connection without reading
    a response that has already arrived: this class reads that response, and passes it to aiohttp. If the upload has
    failed, this class passes an error to aiohttp, which would otherwise see only a normal close.
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
        """Return an `UploadConnection` for the writer of a request; None if the writer has no client connection."""
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
        """Wait until the server has received all bytes but the last 64 KiB, then send the last chunk.

        After the last chunk, aiohttp limits how long the server may be silent. This limit must not begin earlier: a
        slow server may be silent while it still reads a long body.
        """
        await self._watch.taken(most_bytes=_MAX_REST_BYTES)
        await writer.write_eof()

    async def break_off(self, error: BaseException) -> None:
        """Close the connection without the last chunk, so that the server notices that the body is not complete.

        If the source has failed, first wait until the server has received the items that were sent before the
        failure, but at most one second. After any other error, close the connection at once.
        """
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
            # `connection_lost` may still find a response. Wait for it: if aiohttp got this error first, it would report
            # the error instead of the response.
            await self._lost.wait()

    def leave(self) -> None:
        """Give the connection back to aiohttp's protocol, because the upload has ended."""
        self._watch.end()
        # If the transport is closing, this object stays the protocol, because asyncio will call its `connection_lost`.
        if self._transport.is_closing():
            return
        self._transport.set_protocol(self._protocol)

    def connection_lost(self, exc: Exception | None) -> None:
        upload = self._upload
        if self._watch.stalled and upload.failure is None:
            upload.failure = stalled_upload(upload.stall_seconds)
            self._protocol.set_exception(upload.failure)
        if upload.failure is not None and exc is None:
            # The end of the connection can also be the end of a response. Without this error, aiohttp would take such
            # a response as complete.
            exc = ConnectionAbortedError("the upload failed")
        elif isinstance(exc, ConnectionError):
            self._rescue()
        self._lost.set()
        self._protocol.connection_lost(exc)

    def _rescue(self) -> None:
        """Read what the server sent before the connection was lost, and pass it to aiohttp.

        asyncio stops reading after a failed write, so it has not read these bytes.
        """
        # Read nothing with TLS, because the bytes are encrypted. Read nothing with event loops other than asyncio's
        # SelectorEventLoop, such as uvloop: they may have closed the socket already, and its file descriptor may then
        # belong to another file.
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
