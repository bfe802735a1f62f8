"""WebSocket frames that look like the end of a stream, but are not -> more items, or an error."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

from chunkwise import StreamError, items, open_stream
from chunkwise.formats.messages import SUBPROTOCOL
from tests.flow.producing import GUARD_SECONDS
from tests.transports.websocket_peer import PING, opened
from tests.transports.websocket_peer import client_close as closing
from tests.transports.websocket_peer import client_frame as frame
from tests.transports.wire import serving, streams

END = b' {"stream-end":{"status":"complete","items":%d}}'


@pytest.mark.parametrize("reader", ["open_stream", "items"])
@pytest.mark.parametrize("subprotocol", ["", SUBPROTOCOL])
async def test_item_like_an_end_record_proves_nothing(reader: str, subprotocol: str) -> None:
    async def source() -> AsyncIterator[Any]:
        yield {"n": 1}
        await asyncio.sleep(0.05)  # so that each item is sent in a separate message
        yield msgspec.Raw(END % 1)  # a line of another NDJSON stream, sent unchanged
        await asyncio.sleep(0.05)
        yield {"n": 2}

    came: list[Any] = []

    async def read(session: ClientSession, url: str) -> None:
        if reader == "open_stream":
            async with open_stream(session, url) as stream:
                async for batch in stream.batches():
                    came.extend(batch)
        else:
            async with session.ws_connect(url, protocols=[subprotocol] * bool(subprotocol)) as websocket:
                async for batch in items(websocket).batches():
                    came.extend(batch)

    async with serving(streams(source)) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(StreamError):
            await read(session, f"ws://127.0.0.1:{port}/0")
    assert came == [{"n": 1}]


async def test_ping_does_not_end_a_stream() -> None:
    came: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse(autoping=False, timeout=0.1)
        await websocket.prepare(request)
        try:
            came.set_result([item async for item in items(websocket)])
        except StreamError as error:
            came.set_exception(error)
        return websocket

    async with serving(handler) as port, opened(port) as peer, asyncio.timeout(GUARD_SECONDS):
        await peer.send(frame("1"), frame("", PING), frame("2"), closing(1000, "complete; items=2"))
        assert await came == [1, 2]
