"""Send an upload back in upper case while it is being received. A character that was split between chunks is joined.

python examples/servers/upper.py
(echo grüße; sleep 1; echo aus dem strom) | curl -sN -T . http://127.0.0.1:8080/upper
"""

import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

routes = web.RouteTableDef()


@routes.route("*", "/upper")  # any method: curl -T sends PUT, other clients send POST, a WebSocket begins with GET
@chunkwise.streaming(format="text")
async def upper(request: web.Request) -> AsyncIterator[str]:
    async for text in chunkwise.text(request):
        yield text.upper()


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
