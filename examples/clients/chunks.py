"""Chunks of at most 1024 bytes, decoded and in upper case as they come.

    python examples/clients/chunks.py [URL]

Bytes are cut anywhere, also inside a character, where ``chunk.decode()`` fails: ``text`` keeps what is cut until the
rest is there. It raises TruncatedError where the stream stops inside a character.
"""

import asyncio
import sys

from aiohttp import ClientSession

import chunkwise

URL = "http://127.0.0.1:8080/chunked"


async def main(url: str) -> None:
    async with ClientSession() as session, session.get(url) as response:
        async for piece in chunkwise.text(response.content.iter_chunked(1024)):
            print(piece.upper(), end="", flush=True)


asyncio.run(main(*sys.argv[1:] or [URL]))
