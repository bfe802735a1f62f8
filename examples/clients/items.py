"""The items of a stream, each when it is there, whatever its format: JSON, NDJSON, server-sent events, CSV, WebSocket.

    python examples/clients/items.py [URL]

The stream raises what went wrong behind the items that came. If it does not raise, ``end`` says how sure that is.
"""

import asyncio
import sys

from aiohttp import ClientSession

import chunkwise

URL = "http://127.0.0.1:8080/json"


async def main(url: str) -> None:
    async with ClientSession() as session, chunkwise.open_stream(session, url) as stream:
        async for user in stream:
            print(user, flush=True)
        print(stream.items_seen, "items, end", stream.end)


asyncio.run(main(*sys.argv[1:] or [URL]))
