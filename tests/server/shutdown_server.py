"""Run `web.run_app` with a stream that never ends, in its own process: ``shutdown_server.py [GRACE_SECONDS]``.

It prints its port. Without GRACE_SECONDS, `setup` is not called.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise


@chunkwise.streaming(format="ndjson")
async def endless(request: web.Request) -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()


def main(*grace_seconds: str) -> None:
    app = web.Application()
    app.router.add_get("/", endless)
    if grace_seconds:
        chunkwise.setup(app, grace_seconds=float(grace_seconds[0]))
    listening = socket.create_server(("127.0.0.1", 0))
    web.run_app(app, sock=listening, print=lambda *_: print(listening.getsockname()[1], flush=True))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
