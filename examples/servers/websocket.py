"""Send WebSocket messages, one per second, and close with 1000 and ``complete; items=5`` after the last one.

    python examples/servers/websocket.py
    python examples/clients/websocket.py
    curl -N http://127.0.0.1:8080/ws                # the same route sends lines over plain HTTP

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
        yield f"WebSocket message {n}\n"  # the line end is sent over HTTP, but not in a WebSocket message


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
