"""Read a stream that fails: print its items, then the error with its reason.

    python examples/clients/failure.py [URL]

NDJSON and server-sent events can carry the reason. A JSON array cannot, so its reader gets a TruncatedError
without the reason.
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
