"""Upload items one by one, and read the response while the upload is still running.

python examples/clients/upload.py [URL]
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession

import chunkwise

URL = "http://127.0.0.1:8080/upper"


async def words() -> AsyncIterator[str]:
    for word in ("grüße", "aus", "dem", "strom"):
        yield f"{word}\n"
        await asyncio.sleep(0.5)


async def main(url: str) -> None:
    body = chunkwise.body(words(), "text")
    async with ClientSession() as session, chunkwise.open_stream(session, url, method="POST", data=body) as stream:
        async for word in stream:
            print(word, flush=True)


asyncio.run(main(*sys.argv[1:] or [URL]))
