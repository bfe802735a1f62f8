"""Send a JSON array, one object per second, each as soon as it is produced. The response is valid JSON.

python examples/servers/json_array.py
curl -N http://127.0.0.1:8080/json
curl -N -H 'Accept: application/x-ndjson' http://127.0.0.1:8080/json      # the client chooses the format
curl -N -H 'Accept: text/event-stream' http://127.0.0.1:8080/json
chunkwise get ws://127.0.0.1:8080/json                                    # or a WebSocket
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

routes = web.RouteTableDef()


@routes.get("/json")
@chunkwise.streaming
async def users(request: web.Request) -> AsyncIterator[dict[str, object]]:
    for number, name in enumerate(("Tom", "Adam", "Sam"), 1):
        if number > 1:
            await asyncio.sleep(1)
        yield {"id": number, "name": name}


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
