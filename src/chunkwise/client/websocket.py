"""A ws:// URL -> its WebSocket, and a source of items -> its messages.

Must not know any one format.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

from aiohttp import (
    ClientResponseError,
    ClientSession,
    ClientWebSocketResponse,
    ClientWSTimeout,
    WSCloseCode,
    WSMsgType,
    hdrs,
)
from aiohttp.typedefs import StrOrURL

from chunkwise.client.answer import Answer
from chunkwise.client.http import no_answer, sending
from chunkwise.client.resume_point import asks_for_part
from chunkwise.client.upload import ClosingPayload, failure_of
from chunkwise.errors import DecodeError, RemoteError, TruncatedError
from chunkwise.flow.outbound import open_outbound
from chunkwise.formats.contract import Decoder
from chunkwise.formats.messages import LINES, SUBPROTOCOL, Packer, framing_of, take_start
from chunkwise.transports.problems import retry_after_seconds
from chunkwise.transports.range_headers import UNIT, RangeInfo
from chunkwise.transports.tcp import CHECKS, reset_when_closed, stalled_upload, unsent_bytes
from chunkwise.transports.websocket_messages import SocketReceiver, lines_of, max_message_bytes, refusing

_CLOSE_SECONDS = 2.0  # for a server that we leave to answer our close


_FAILED = WSCloseCode.INTERNAL_ERROR.to_bytes(2) + b"the source failed"


@asynccontextmanager
async def open_websocket_stream(
    session: ClientSession,
    url: StrOrURL,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None,
    make_decoder: Callable[[], Decoder],
    upload: ClosingPayload | None,
    *,
    plain: bool,
    idle_seconds: float,
    max_item_bytes: int,
) -> AsyncIterator[Answer]:
    """Open a WebSocket, send an upload over it, and give the stream of what comes; see `open_stream`.

    Args:
        session: see `open_stream`.
        url: see `open_stream`.
        headers: of the handshake.
        params: the URL's query.
        make_decoder: see `line_decoder`.
        upload: what is sent, if anything.
        plain: see `Format.plain_messages`.
        idle_seconds: how long nothing may come, or be taken.
        max_item_bytes: see `Limits`.
    """

    def has_failed() -> bool:
        return upload is not None and upload.failure is not None

    max_bytes = max_message_bytes(max_item_bytes)
    asked = dict(headers)
    if upload is None and not asks_for_part({**session.headers, **headers}, url, params):
        asked[hdrs.RANGE] = f"{UNIT}=0-"  # so that it tells where it begins
    opened = _open_websocket(session, url, asked, params, idle_seconds=idle_seconds, max_message_bytes=max_bytes)
    async with sending(upload, idle_seconds), opened as websocket, _sending_items(websocket, upload):
        # A source that fails has sent a close of our own, which the server's answers.
        receiver = SocketReceiver(websocket, idle_seconds, answers=lambda: not has_failed())
        lines = lines_of(receiver, plain=plain)
        stream = Answer(websocket, _begun(lines, lambda: stream), make_decoder, lambda: False, upload=upload)
        try:
            yield stream
        finally:
            if has_failed():
                _hang_up(websocket)
            elif isinstance(stream.failure, DecodeError) and not isinstance(stream.failure, TruncatedError):
                await _leave(websocket, *refusing(stream.failure))


async def _begun(lines: AsyncIterator[bytes], answer: Callable[[], Answer]) -> AsyncIterator[bytes]:
    """Give the lines but for the record of where they start, which the answer is told."""
    first = True
    async for data in lines:
        rest = data
        if first:
            told, rest = take_start(data)
            answer().start = RangeInfo.from_record(told) if told is not None else RangeInfo()
            first = False
        yield rest


@asynccontextmanager
async def _open_websocket(
    session: ClientSession,
    url: StrOrURL,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None,
    *,
    idle_seconds: float,
    max_message_bytes: int,
) -> AsyncIterator[ClientWebSocketResponse]:
    """Open a WebSocket for a stream of any length.

    Raises:
        RemoteError: the server has refused the handshake.
        StalledError: it has not answered for idle_seconds.
    """
    try:
        async with asyncio.timeout(idle_seconds or None):
            websocket = await session.ws_connect(
                url,
                protocols=[SUBPROTOCOL],
                headers=headers,
                params=params,
                timeout=ClientWSTimeout(ws_receive=idle_seconds or None),
                max_msg_size=max_message_bytes,
                autoclose=False,  # a close that answers ours is not answered
            )
    except TimeoutError as error:
        raise no_answer() from error
    except ClientResponseError as error:  # of the handshake, or of a session that raises for each status
        phrase = HTTPStatus(error.status).phrase if error.status in {*HTTPStatus} else ""
        told = f"the server answered the WebSocket's handshake with {error.status} {phrase}".rstrip()
        if error.status < 400:
            told += ": it takes none at this URL, or a proxy before it has dropped the Upgrade header"
        refused = RemoteError(told, status=error.status)
        refused.retry_after_seconds = retry_after_seconds(
            error.headers.get(hdrs.RETRY_AFTER, "") if error.headers else ""
        )
        raise refused from error
    try:
        yield websocket
    finally:
        await _leave(websocket, WSCloseCode.OK, b"")  # without a count: if it is still open, that was not the end


async def _leave(websocket: ClientWebSocketResponse, code: int, reason: bytes) -> None:
    """Close a WebSocket, if it is still open; drop it if the server does not answer soon."""
    connection: Any = websocket.get_extra_info("socket")
    # aiohttp limits the wait for each message, and a server may send one after the other.
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await websocket.close(code=code, message=reason)
    if connection is not None and websocket.close_code == WSCloseCode.ABNORMAL_CLOSURE:
        reset_when_closed(connection, yes=True)  # what it has not taken would wait for ever
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _hang_up(websocket: ClientWebSocketResponse) -> None:
    """Say by the connection's end that nothing follows on the close that was sent."""
    with suppress(OSError, AttributeError):  # it may have no connection any more
        websocket.get_extra_info("socket").shutdown(socket.SHUT_WR)


@asynccontextmanager
async def _sending_items(websocket: ClientWebSocketResponse, upload: ClosingPayload | None) -> AsyncIterator[None]:
    """Send the items of an upload while the body runs, and behind them the record of their end.

    A source that fails closes the WebSocket with 1011, so that the server does not take them for all; `failure` of the
    upload has the reason.
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
    try:
        async with aclosing(open_outbound(upload.take_source(), LINES, stream_end=True).pieces()) as pieces:
            async for piece in pieces:
                async with _stall_limit(websocket, upload.stall_seconds):
                    for message in packer.pack(piece):
                        try:
                            await websocket.send_frame(message, WSMsgType.TEXT)
                        except ConnectionError:
                            return  # whoever reads hears why
    except BaseException as error:
        upload.failure = failure_of(error)
        if upload.failure is None:
            raise
        # Not websocket.close(), which throws away what has come, and may still be read.
        with suppress(ConnectionError):
            await websocket.send_frame(_FAILED, WSMsgType.CLOSE)
        await asyncio.sleep(_CLOSE_SECONDS)
        _hang_up(websocket)


@asynccontextmanager
async def _stall_limit(websocket: ClientWebSocketResponse, stall_seconds: float) -> AsyncIterator[None]:
    """Raise StalledError in the body once the server has taken nothing for so long."""
    if not stall_seconds:
        yield
        return
    loop = asyncio.get_running_loop()
    connection: Any = websocket.get_extra_info("socket")

    timer: asyncio.Handle

    def look(before: int | None) -> None:
        nonlocal timer
        # The event loop hears of room in the kernel's queue only when a third of it is free.
        unsent = unsent_bytes(connection) if connection is not None else None
        if unsent != before and not limit.expired():
            limit.reschedule(loop.time() + stall_seconds)
        timer = loop.call_later(stall_seconds / CHECKS, look, unsent)

    try:
        async with asyncio.timeout(stall_seconds) as limit:
            timer = loop.call_soon(look, None)
            try:
                yield
            finally:
                timer.cancel()
    except TimeoutError as error:
        raise stalled_upload(stall_seconds) from error
