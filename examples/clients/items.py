"""Print the items of a stream as they arrive, in any format: JSON, NDJSON, server-sent events, CSV, WebSocket.

    python examples/clients/items.py [URL]

If the stream fails, the loop raises an error after the last item that arrived. Otherwise ``stream.end`` says how
certain it is that the stream is complete.
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
