"""Send the events of a document of any size, without having the document or its events in memory.

python examples/servers/large.py
curl -N 'http://127.0.0.1:8080/large?items=10000000' | tail -n 3
"""

import os
from collections.abc import AsyncIterator, Iterator

from aiohttp import web

import chunkwise

routes = web.RouteTableDef()


def document(items: int) -> Iterator[bytes]:
    yield b'{"items": ['
    for number in range(1, items + 1):
        yield b'%s{"id": %d}' % (b", " * (number > 1), number)
    yield b"]}"


@routes.get("/large")
@chunkwise.streaming(format="text")
async def large(request: web.Request) -> AsyncIterator[str]:
    async for prefix, event, value in chunkwise.events(document(int(request.query.get("items", "100000")))):
        yield f"{prefix} {event} {value}\n"


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
