"""Print each step of a JSON document as it arrives: ``prefix event value``, as ijson.parse does.

python examples/clients/events.py [URL]
"""

import asyncio
import sys

from aiohttp import ClientSession

import chunkwise

URL = "http://127.0.0.1:8080/nested"


async def main(url: str) -> None:
    async with ClientSession() as session, session.get(url) as response:
        async for prefix, event, value in chunkwise.events(response):
            print(prefix, event, value, flush=True)


asyncio.run(main(*sys.argv[1:] or [URL]))
