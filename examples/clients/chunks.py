"""Read text in chunks of at most 1024 bytes, and print each one in upper case when it arrives.

    python examples/clients/chunks.py [URL]

A chunk may end inside a character, and then ``chunk.decode()`` fails. ``chunkwise.text`` waits for the rest of the
character. If the stream stops inside a character, it raises TruncatedError.
"""

import asyncio
import sys

from aiohttp import ClientSession

import chunkwise

URL = "http://127.0.0.1:8080/chunked"


async def main(url: str) -> None:
    async with ClientSession() as session, session.get(url) as response:
        async for text in chunkwise.text(response.content.iter_chunked(1024)):
            print(text.upper(), end="", flush=True)


asyncio.run(main(*sys.argv[1:] or [URL]))
