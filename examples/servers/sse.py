"""Send server-sent events. An EventSource cannot distinguish an end from a failure, so the last event marks the end.

    python examples/servers/sse.py
    curl -N http://127.0.0.1:8080/sse

In a browser:

    const source = new EventSource("/sse")
    source.onmessage = (event) => console.log(JSON.parse(event.data))
    source.addEventListener("end", () => source.close())     // otherwise the browser connects again
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise
from chunkwise.formats.sse import ServerSentEvent

routes = web.RouteTableDef()


@routes.get("/sse")
@chunkwise.streaming(format="sse")
async def users(request: web.Request) -> AsyncIterator[object]:
    for number, name in enumerate(("Tom", "Adam", "Sam"), 1):
        if number > 1:
            await asyncio.sleep(1)
        yield {"id": number, "name": name}
    yield ServerSentEvent(event="end", data='{"items": 3}')


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
