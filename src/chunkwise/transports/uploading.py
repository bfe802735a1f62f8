"""A source of items -> the body of a client's request.

Must not know any one format.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any

from aiohttp import AsyncIterablePayload, ClientConnectionResetError
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

from chunkwise.errors import StalledError, StreamError
from chunkwise.flow.document import discard
from chunkwise.flow.outbound import open_outbound
from chunkwise.formats import Format, by_name
from chunkwise.transports.stalls import POLL_SECONDS, StallWatch, drop

_MAX_RESCUED_BYTES = 64 * 1024
_MAX_REST_BYTES = 64 * 1024
_FLUSH_SECONDS = 1.0
_TURNS = 3  # of the loop, from bytes of an answer to the cancellation of what sends the request


def body(source: Any, format: str | Format, *, stall_seconds: float = 60.0) -> ClosingPayload:
    """Return a source of items as a request's body: ``session.post(url, data=chunkwise.body(rows(), "ndjson"))``.

    It is sent as chunks while the source gives items, with the format's content type. A source that fails never sends
    the last chunk: the connection is closed without it, also if the answer has begun. An answer that comes before the
    end of the source ends the upload when it is whole; the source is closed.

    Args:
        source: see `respond`.
        format: a name from `FORMATS`.
        stall_seconds: how long the server may take nothing while something waits for it, before the connection is
            dropped and the request raises `StalledError`; 0 for ever. A source may be as slow as it likes.
            `open_stream` puts its ``idle_seconds`` here.

    Raises:
        UnknownFormat: there is no such format.
        TypeError: the source is a function.
        ValueError: the limit is negative.
    """
    chosen = by_name(format)
    if stall_seconds < 0:
        msg = f"stall_seconds are seconds from 0 on, got {stall_seconds}"
        raise ValueError(msg)
    pieces = open_outbound(source, chosen).pieces()
    return ClosingPayload(pieces, chosen, stall_seconds=stall_seconds, source=source)


class ClosingPayload(AsyncIterablePayload):
    """A request's body that closes its source however sending ends, and breaks the connection where that is not well.

    Args:
        pieces: its bytes.
        format: what they are in.
        stall_seconds: see `body`; may be changed before it is sent.
        source: what the pieces are made of, to be closed if they are never asked for.

    Attributes:
        format: see above.
        failure: what the source has raised, or the `StalledError` of a server that took nothing; None as long as
            nothing failed here. aiohttp raises errors of its own for it, and none if the answer has begun.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        format: Format,
        *,
        stall_seconds: float = 60.0,
        source: Any = None,
    ) -> None:
        self.failure: Exception | None = None
        self.format = format
        self.stall_seconds = stall_seconds
        self._source = source
        self._connection: _Connection | None = None
        self._length: int | None = None
        self._begun = False
        self._ended = asyncio.Event()
        self._kept = self._keeping(pieces)
        super().__init__(self._kept, content_type=format.content_type)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the pieces and the end of the request, then close the source."""
        self._refuse_again()
        self._length = content_length
        connection = self._connection = _Connection.of(writer, self)
        try:
            async with aclosing(self._kept):
                await super().write_with_length(writer, content_length)
            if connection is not None:
                await connection.finish(writer)
        except BaseException as error:
            if connection is not None:
                await connection.break_off(error)
            raise
        finally:
            if connection is not None:
                connection.leave()
            self._ended.set()

    def take_source(self) -> Any:
        """Return the source, to be sent otherwise than as a body, and closed by who does that.

        Raises:
            StreamError: it was sent before.
        """
        self._refuse_again()
        self._ended.set()
        return self._source

    def _refuse_again(self) -> None:
        if self.consumed or self._begun:  # nothing more would be sent, which looks like a whole stream of no items
            self.failure = StreamError("a source can be sent once: make a new body of a new source")
            raise self.failure
        self._begun = True

    async def wait_closed(self) -> None:
        """Wait until the source is closed, once the request is over; close it, if it was never asked for items."""
        if self._begun:
            await self._ended.wait()
        else:
            await self._kept.aclose()
            await discard(self._source)

    async def _keeping(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Give the pieces, and keep what goes wrong in them."""
        given = 0
        async with aclosing(pieces):
            while True:
                try:
                    piece = await anext(pieces, None)
                    given += len(piece or b"")
                    await self._check(given, pieces, whole=piece is None)
                except Exception as error:
                    self.failure = error
                    raise
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    self.failure = StreamError("what the source waited for was cancelled")
                    raise self.failure from error
                if piece is None:
                    return
                yield piece
                if self._connection is not None:
                    await self._connection.look()

    async def _check(self, given: int, pieces: AsyncGenerator[bytes, None], *, whole: bool) -> None:
        """Compare with a Content-Length of the caller's: aiohttp would cut off what is more, and send what is less."""
        told = self._length
        if told is not None and given == told and not whole:
            async for more in pieces:  # before the last byte is sent, behind which all looks whole
                given += len(more)
                if more:
                    break
        if told is not None and (given > told or (whole and given < told)):
            raise ValueError(f"headers name Content-Length: {told}, but the source gave {given} bytes")


class _Connection(asyncio.Protocol):
    """The connection of an upload: stands between it and aiohttp as long as something is sent.

    asyncio gives up a connection at the first write that a server refuses, though that server's answer may lie in the
    kernel, unread; and aiohttp does not learn why a connection was dropped. Both can be mended only before aiohttp
    hears of the loss.
    """

    def __init__(
        self, transport: asyncio.Transport, protocol: ResponseHandler, writer: StreamWriter, payload: ClosingPayload
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._payload = payload
        self._socket = transport.get_extra_info("socket")
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        self._watch = StallWatch(transport, self._socket, payload.stall_seconds, lambda: writer.output_size)
        self._came = False
        self._lost = asyncio.Event()
        transport.set_protocol(self)

    @classmethod
    def of(cls, writer: AbstractStreamWriter, payload: ClosingPayload) -> _Connection | None:
        """Return the connection of a client's writer; None for any other."""
        if not (isinstance(writer, StreamWriter) and isinstance(writer.protocol, ResponseHandler)):
            return None
        return None if writer.transport is None else cls(writer.transport, writer.protocol, writer, payload)

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
        await self.look()
        await writer.write_eof()
        await self.look()

    async def break_off(self, error: BaseException) -> None:
        """Close the connection behind what was written, if the source has failed; else drop it.

        Raises:
            StalledError: that was why it was lost.
        """
        transport = self._transport
        if error is self._payload.failure:
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
            if self._payload.failure is not None:
                raise self._payload.failure from None

    def leave(self) -> None:
        """Let aiohttp have the connection for itself."""
        self._watch.end()
        if self._transport.is_closing():
            return  # what is lost is still heard of
        self._transport.set_protocol(self._protocol)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        payload = self._payload
        if self._watch.stalled and payload.failure is None:
            payload.failure = StalledError(
                f"the server took nothing of the upload for {payload.stall_seconds:g} seconds"
            )
            self._protocol.set_exception(payload.failure)
        if payload.failure is not None and exc is None:
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
