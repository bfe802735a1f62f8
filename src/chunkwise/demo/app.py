"""The tutorial's routes and page -> the application that ``chunkwise demo`` serves."""

from pathlib import Path

from aiohttp import web

import chunkwise
from chunkwise.demo import endpoints, wire

_PAGE = Path(__file__).parent / "page"
# The page loads nothing from other sites, and cannot be framed.
_POLICY = "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def make_app() -> web.Application:
    """Return the application: the page at ``/``, and the routes."""
    app = web.Application()
    app.router.add_get("/", _index)
    app.router.add_static("/page", _PAGE)
    app.add_routes(endpoints.routes)
    app.add_routes(wire.routes)
    chunkwise.setup(app, grace_seconds=1.0)
    return app


async def _index(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(_PAGE / "index.html", headers={"Content-Security-Policy": _POLICY})
