"""A message -> its items, and the error after them."""

import asyncio
from typing import Any

from aiohttp import ClientSession

import chunkwise
from chunkwise import StreamError
from chunkwise.flow.inbound import ItemStream
from tests.flow.producing import GUARD_SECONDS
from tests.transports.wire import answering, url_of

JSON = "Content-Type: application/json"
NDJSON = "Content-Type: application/x-ndjson"
CHUNKED = "Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"


async def read(stream: ItemStream) -> tuple[list[Any], StreamError | None]:
    """Return the items, and the error after them."""
    came: list[Any] = []
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            async for item in stream:
                came.append(item)  # noqa: PERF401 - the items before an error are kept
    except StreamError as error:
        return came, error
    return came, None


async def answered(*pieces: bytes, **options: Any) -> tuple[list[Any], StreamError | None]:
    """Read a response of another server with `items`; return the items, and the error after them."""
    async with answering(*pieces) as port, ClientSession() as session, session.get(url_of(port)) as response:
        return await read(chunkwise.items(response, **options))
