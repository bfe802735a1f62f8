"""Send the lines of chunked.py without streaming: nothing for five seconds, then everything, with a Content-Length.

python examples/servers/non_chunked.py
curl -iN http://127.0.0.1:8080/non-chunked
"""

import asyncio
import os

from aiohttp import web

routes = web.RouteTableDef()


@routes.get("/non-chunked")
async def non_chunked(request: web.Request) -> web.Response:
    text = ""
    for n in range(5):
        text += f"Chunk {n}\n"
        await asyncio.sleep(1)
    return web.Response(text=text)


app = web.Application()
app.add_routes(routes)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
