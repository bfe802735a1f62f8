"""Run a server for readers that stop reading, in its own process: ``stalling_server.py STALL_SECONDS``.

It prints its port. /hot never ends, /paced sends 50 items 20 ms apart, /outcomes counts the outcomes of streams.
"""

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

import chunkwise

ITEMS = 50
PAUSE_SECONDS = 0.02
SEND_BYTES = 16 * 1024  # the kernel's buffer is not memory of the process; a small one fills quickly


async def hot() -> AsyncIterator[dict[str, Any]]:
    pad = "x" * 1000
    index = 0
    while True:
        yield {"n": index, "pad": pad}
        index += 1


async def paced() -> AsyncIterator[dict[str, int]]:
    for index in range(ITEMS):
        await asyncio.sleep(PAUSE_SECONDS)
        yield {"n": index}


async def main(stall_seconds: float) -> None:
    ends: Counter[str] = Counter()

    async def stalling(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, hot(), "ndjson", stall_seconds=stall_seconds)

    async def pacing(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, paced(), "ndjson")

    async def outcomes(request: web.Request) -> web.Response:
        return web.json_response(ends)

    app = web.Application()
    app.add_routes([web.get("/hot", stalling), web.get("/paced", pacing), web.get("/outcomes", outcomes)])
    chunkwise.setup(app, on_outcome=lambda _request, outcome: ends.update([outcome.end]))
    runner = web.AppRunner(app)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
    await web.SockSite(runner, listening, backlog=1024).start()
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
