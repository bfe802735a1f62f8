"""Send each step of a JSON document as a line ``prefix event value``, as ijson.parse yields them, every half second.

python examples/servers/events.py
curl -N http://127.0.0.1:8080/events
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

DOCUMENT = b'{"items": [{"id": 1}, {"id": 2}, {"id": 3}]}'

routes = web.RouteTableDef()


@routes.get("/events")
@chunkwise.streaming(format="text")
async def events(request: web.Request) -> AsyncIterator[str]:
    async for prefix, event, value in chunkwise.events(DOCUMENT):
        yield f"{prefix} {event} {value}\n"
        if event != "end_map" or prefix:  # after the last event, a pause would only delay the end of the response
            await asyncio.sleep(0.5)


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
