"""A ws:// URL -> its WebSocket, and a source of items -> its messages.

Must not know any one format.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    ClientWSTimeout,
    WSCloseCode,
    WSMsgType,
    WSServerHandshakeError,
)
from aiohttp.typedefs import StrOrURL

from chunkwise.errors import DecodeError, RemoteError, StalledError
from chunkwise.flow.outbound import open_outbound
from chunkwise.formats.messages import LINES, SUBPROTOCOL, Packer, framing_of
from chunkwise.transports.stalls import unsent_bytes
from chunkwise.transports.uploading import ClosingPayload
from chunkwise.transports.websocket import refusing

_LOOKS = 8
_CLOSE_SECONDS = 2.0  # for a server that we leave to answer our close


@asynccontextmanager
async def open_websocket(
    session: ClientSession,
    url: StrOrURL,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None,
    *,
    idle_seconds: float,
    max_message_bytes: int,
) -> AsyncIterator[ClientWebSocketResponse]:
    """Open a WebSocket for a stream of any length; what is raised inside tells the server why it is closed.

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
                timeout=ClientWSTimeout(ws_receive=idle_seconds or None, ws_close=_CLOSE_SECONDS),
                max_msg_size=max_message_bytes,
            )
    except TimeoutError as error:
        raise StalledError("the server did not answer for longer than idle_seconds allows") from error
    except WSServerHandshakeError as error:
        phrase = HTTPStatus(error.status).phrase if error.status in {*HTTPStatus} else ""
        told = f"the server answered the WebSocket's handshake with {error.status} {phrase}".rstrip()
        if error.status < 400:
            told += ": it takes none at this URL, or a proxy before it has dropped the Upgrade header"
        raise RemoteError(told, status=error.status) from error
    code, reason = int(WSCloseCode.OK), b""  # without a count: we leave before the end, unless the server has closed
    try:
        yield websocket
    except DecodeError as error:
        code, reason = refusing(error)
        raise
    finally:
        await websocket.close(code=code, message=reason)


@asynccontextmanager
async def sending_items(websocket: ClientWebSocketResponse, upload: ClosingPayload | None) -> AsyncIterator[None]:
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
                        await websocket.send_frame(message, WSMsgType.TEXT)
    except ConnectionError:
        return  # whoever reads hears why
    except Exception as error:  # noqa: BLE001 - raised where the stream is read
        upload.failure = error
        with suppress(ConnectionError):
            await websocket.close(code=WSCloseCode.INTERNAL_ERROR, message=b"the source failed")


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
        timer = loop.call_later(stall_seconds / _LOOKS, look, unsent)

    try:
        async with asyncio.timeout(stall_seconds) as limit:
            timer = loop.call_soon(look, None)
            try:
                yield
            finally:
                timer.cancel()
    except TimeoutError as error:
        raise StalledError(f"the server took nothing of the upload for {stall_seconds:g} seconds") from error
