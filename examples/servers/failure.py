"""Fail after the second item, when the response has begun. Every client can see that the response is incomplete.

python examples/servers/failure.py
curl -N http://127.0.0.1:8080/fail; echo "exit $?"                                  # 18: partial file
curl -N -H 'Prefer: stream-end' -H 'Accept: application/x-ndjson' http://127.0.0.1:8080/fail    # with the reason
python examples/clients/failure.py
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

routes = web.RouteTableDef()


@routes.get("/fail")
@chunkwise.streaming
async def users(request: web.Request) -> AsyncIterator[dict[str, object]]:
    yield {"id": 1, "name": "Tom"}
    await asyncio.sleep(1)
    yield {"id": 2, "name": "Adam"}
    await asyncio.sleep(1)
    # The text of an HTTPException is sent to the client. The text of any other exception is only logged.
    raise web.HTTPServiceUnavailable(text="the database has gone away")


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
