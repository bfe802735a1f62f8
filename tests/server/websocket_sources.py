"""Sources and handlers for tests over WebSockets, whose clients use `websocket_peer`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

import chunkwise
from chunkwise import Outcome, respond
from tests.each_row import each_row
from tests.transports.watched import Watched
from tests.transports.websocket_peer import BOTH_FRAMINGS
from tests.transports.wire import Handler

both_framings = each_row("subprotocol", BOTH_FRAMINGS, ids=["items", "lines"])

END = ' {"stream-end":{"status":"complete","items":%d}}'


class Waiting:
    """A source that yields its items, then waits for ever.

    Attributes:
        saw: the name of the exception class that ended the source.
        closed: set when the source has ended.
    """

    def __init__(self, *items: Any) -> None:
        self.saw = ""
        self.closed = asyncio.Event()
        self._items = items

    async def items(self) -> AsyncIterator[Any]:
        try:
            for item in self._items:
                yield item
            await asyncio.Event().wait()
        except BaseException as error:
            self.saw = type(error).__name__
            raise
        finally:
            self.closed.set()


async def counting(count: int, *, error: BaseException | None = None) -> AsyncIterator[int]:
    for number in range(count):
        yield number
        await asyncio.sleep(0)
    if error is not None:
        raise error


def echoing(**options: Any) -> Handler:
    """Return a handler that sends back each item as soon as it is received."""

    async def handler(request: web.Request) -> web.StreamResponse:
        async def source() -> AsyncIterator[Any]:
            async for item in chunkwise.items(request):
                yield item

        return await respond(request, source(), **options)

    return handler


async def only_outcome(server: Watched) -> Outcome:
    outcome = await server.outcome()
    assert not server.has_more
    return outcome
