"""WebSocket messages, a second apart, and a close that says that they are all: 1000, ``complete; items=5``.

    python examples/servers/websocket.py
    python examples/clients/websocket.py
    curl -N http://127.0.0.1:8080/ws                # the same route answers plain HTTP with lines

In a browser:

    const ws = new WebSocket("ws://127.0.0.1:8080/ws")
    ws.onmessage = (event) => console.log(event.data)
    ws.onclose = (event) => console.log(event.code, event.reason)
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

routes = web.RouteTableDef()


@routes.get("/ws")
@chunkwise.streaming(format="text")
async def messages(request: web.Request) -> AsyncIterator[str]:
    for n in range(5):
        if n:
            await asyncio.sleep(1)
        yield f"WebSocket message {n}\n"  # a message ends by itself: the line end is for HTTP


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
