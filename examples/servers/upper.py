"""An upload that comes back in upper case while it is sent; a character that was cut in two comes whole.

python examples/servers/upper.py
(echo grüße; sleep 1; echo aus dem strom) | curl -sN -T . http://127.0.0.1:8080/upper
"""

import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

routes = web.RouteTableDef()


@routes.route("*", "/upper")  # curl -T sends PUT, clients of HTTP send POST, and those of WebSocket GET
@chunkwise.streaming(format="text")
async def upper(request: web.Request) -> AsyncIterator[str]:
    async for piece in chunkwise.text(request):
        yield piece.upper()


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
