"""Send lines of text, one per second, each as soon as it is produced.

python examples/servers/chunked.py
curl -N http://127.0.0.1:8080/chunked
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

routes = web.RouteTableDef()


@routes.get("/chunked")
@chunkwise.streaming(format="text")
async def chunked(request: web.Request) -> AsyncIterator[str]:
    for n in range(5):
        if n:
            await asyncio.sleep(1)
        yield f"Chunk {n}\n"


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
