"""The tutorial's routes and page -> the application that ``chunkwise demo`` serves."""

from pathlib import Path

from aiohttp import web

import chunkwise
from chunkwise.demo import endpoints, reading, wire

_PAGE = Path(__file__).parent / "page"


def make_app() -> web.Application:
    """Return the application: the page at ``/``, its routes, and the code and documentation that it links to."""
    app = web.Application()
    app.router.add_get("/", _index)
    app.router.add_static("/page", _PAGE)
    app.add_routes(endpoints.routes)
    app.add_routes(wire.routes)
    app.add_routes(reading.reading_routes())
    chunkwise.setup(app, grace_seconds=1.0)
    return app


async def _index(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(_PAGE / "index.html", headers=reading.POLICY)
