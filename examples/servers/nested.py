"""Send one JSON document whose parts are produced while it is sent, in the order of the document.

python examples/servers/nested.py
curl -N http://127.0.0.1:8080/nested
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

routes = web.RouteTableDef()


async def roles(*names: str) -> AsyncIterator[str]:
    for name in names:
        await asyncio.sleep(0.5)
        yield name


async def users() -> AsyncIterator[dict[str, object]]:
    yield {"id": 1, "name": "Tom", "roles": roles("admin", "user")}  # "roles" is an async iterator inside an item
    await asyncio.sleep(0.5)
    yield {"id": 2, "name": "Adam", "roles": roles("user")}


async def later(value: object, seconds: float) -> object:
    await asyncio.sleep(seconds)
    return value


@routes.get("/nested")
async def nested(request: web.Request) -> web.StreamResponse:
    # Both coroutines start together with users(), which takes two seconds. They end half a second and a second later.
    settings = {"theme": later("dark", 2.5), "notifications": later(True, 3)}
    return await chunkwise.respond(request, {"users": users(), "settings": settings})


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
