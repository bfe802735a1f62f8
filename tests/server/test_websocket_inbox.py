"""server/websocket_inbox.py: a source gets what arrived from its client before it is closed, however late it reads."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web

import chunkwise
from chunkwise import TruncatedError, respond
from tests.flow.producing import GUARD_SECONDS
from tests.transports.wire import serving

SENT = [f'{{"n":{index}}}' for index in range(20)]


class Reader:
    """A source that begins to read when its client has left."""

    def __init__(self, *, writes: bool) -> None:
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        self.closed = asyncio.Event()
        self.items: list[Any] = []
        self.error: BaseException | None = None
        self._writes = writes

    async def source(self, request: web.Request) -> AsyncIterator[Any]:
        try:
            self.begun.set()
            await self.left.wait()
            if self._writes:
                yield "hello"
            async for item in chunkwise.items(request):
                self.items.append(item)
                if self._writes:
                    yield item
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.closed.set()


@pytest.mark.parametrize("writes", [False, True])
async def test_a_client_that_sends_everything_and_leaves_at_once_loses_nothing(writes: bool) -> None:
    reader = Reader(writes=writes)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, reader.source(request))

    async with serving(handler) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        async with session.ws_connect(f"http://127.0.0.1:{port}/0") as websocket:
            for text in SENT:
                await websocket.send_str(text)
        await reader.begun.wait()
        reader.left.set()
        await reader.closed.wait()
    assert [item["n"] for item in reader.items] == list(range(len(SENT)))
    assert isinstance(reader.error, TruncatedError)  # the close had no count of items
