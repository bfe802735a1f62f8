"""The connection of an upload, as long as something is sent: what aiohttp would not see of its loss.

Must not know what is sent.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from time import monotonic
from typing import Protocol

from aiohttp import ClientConnectionResetError
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

from chunkwise.transports.tcp import POLL_SECONDS, StallWatch, drop, stalled_upload

_MAX_RESCUED_BYTES = 64 * 1024
_MAX_REST_BYTES = 64 * 1024
_FLUSH_SECONDS = 1.0
_TURNS = 3  # of the loop, from bytes of an answer to the cancellation of what sends the request


class Upload(Protocol):
    """What is sent.

    Attributes:
        failure: what its source has raised; a `StalledError` is put here.
        stall_seconds: how long the server may take nothing; 0 for ever.
    """

    failure: Exception | None
    stall_seconds: float


class UploadConnection(asyncio.Protocol):
    """The connection of an upload: stands between it and aiohttp as long as something is sent.

    asyncio gives up a connection at the first write that a server refuses, though that server's answer may lie in the
    kernel, unread; and aiohttp does not learn why a connection was dropped. Both can be mended only before aiohttp
    hears of the loss.
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
        self._came = False
        self._lost = asyncio.Event()
        transport.set_protocol(self)

    @classmethod
    def of(cls, writer: AbstractStreamWriter, upload: Upload) -> UploadConnection | None:
        """Return the connection of a client's writer; None for any other."""
        if not (isinstance(writer, StreamWriter) and isinstance(writer.protocol, ResponseHandler)):
            return None
        return None if writer.transport is None else cls(writer.transport, writer.protocol, writer, upload)

    async def look(self) -> None:
        """Look up between two pieces.

        Raises:
            ClientConnectionResetError: the server has closed the connection.
            StalledError: it has taken nothing for too long.
        """
        # Before the source is asked for more, whoever waits for the answer hears of it, and may cancel us.
        turns = _TURNS if self._came else 1 if self._is_tls else 0
        self._came = False
        for _ in range(turns):
            await asyncio.sleep(0)
        if self._transport.is_closing():
            raise ClientConnectionResetError("the server has closed the connection before the upload was whole")

    async def finish(self, writer: AbstractStreamWriter) -> None:
        """Wait until the server has nearly all, then send the last chunk.

        aiohttp limits the silence of the server from then on: it must not be still busy with what it has not got.
        """
        pause = 0.001
        while not self._transport.is_closing() and (
            self._transport.get_write_buffer_size() or self._watch.waiting() > _MAX_REST_BYTES
        ):
            await asyncio.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS)
        await writer.write_eof()

    async def break_off(self, error: BaseException) -> None:
        """Close the connection behind what was written, if the source has failed; else drop it."""
        transport = self._transport
        if error is self._upload.failure:
            stop = monotonic() + _FLUSH_SECONDS
            try:
                # Nobody tells when the buffer is empty: only asking helps.
                while transport.get_write_buffer_size() and not transport.is_closing() and monotonic() < stop:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
            finally:
                if transport.get_write_buffer_size():
                    drop(transport, self._socket)
                else:
                    transport.close()
            return
        drop(transport, self._socket)
        if isinstance(error, ConnectionError):
            await self._lost.wait()  # before aiohttp hears of the error: the answer may still be found

    def leave(self) -> None:
        """Let aiohttp have the connection for itself."""
        self._watch.end()
        if self._transport.is_closing():
            return  # what is lost is still heard of
        self._transport.set_protocol(self._protocol)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        upload = self._upload
        if self._watch.stalled and upload.failure is None:
            upload.failure = stalled_upload(upload.stall_seconds)
            self._protocol.set_exception(upload.failure)
        if upload.failure is not None and exc is None:
            # Where only the close ends the answer, it must not look whole.
            exc = ConnectionAbortedError("the upload has failed")
        elif isinstance(exc, ConnectionError):
            self._rescue()
        self._lost.set()
        self._protocol.connection_lost(exc)

    def _rescue(self) -> None:
        """Give aiohttp what the server has sent before it closed, and asyncio has not read."""
        # Other loops may have closed the socket by now, and its number may be another's.
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
        """See `asyncio.Protocol`."""
        self._came = True
        self._protocol.data_received(data)

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self._protocol.eof_received()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._protocol.resume_writing()
