"""A stream that fails half-way: the items before are given, then the error, which says why.

    python examples/clients/failure.py [URL]

NDJSON has a place for the reason (so have server-sent events). A JSON array has none: there it is a TruncatedError.
"""

import asyncio
import sys

from aiohttp import ClientSession

import chunkwise

URL = "http://127.0.0.1:8080/fail"


async def main(url: str) -> None:
    try:
        async with ClientSession() as session, chunkwise.open_stream(session, url, format="ndjson") as stream:
            async for user in stream:
                print(user, flush=True)
    except chunkwise.StreamError as error:
        print(f"{type(error).__name__}: {error}")


asyncio.run(main(*sys.argv[1:] or [URL]))
