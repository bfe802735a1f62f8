"""Read values deep inside a document while it is still being written. A path selects the values; others are skipped.

python examples/clients/inside.py [URL [PATH]]
"""

import asyncio
import sys

from aiohttp import ClientSession

import chunkwise

URL = "http://127.0.0.1:8080/nested"


async def main(url: str, path: str = "users.item.roles.item") -> None:
    async with ClientSession() as session, chunkwise.open_stream(session, url, path) as stream:
        async for value in stream:
            print(value, flush=True)


asyncio.run(main(*sys.argv[1:] or [URL]))
