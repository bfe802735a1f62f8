"""What each replica runs: a table of PostgreSQL as a stream that any other replica can go on with.

DATABASE_URL=postgresql+asyncpg://reader@localhost/shop PORT=8080 python deploy/app.py
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator

from aiohttp import web
from sqlalchemy.ext.asyncio import create_async_engine

import chunkwise
from chunkwise.sources import sql
from chunkwise.sources.resumable import Resumable

THINGS = web.AppKey("things", Resumable)
REPLICA = f"{socket.gethostname()}-{os.getpid()}"  # who answers; only for you to see: no client has to know

routes = web.RouteTableDef()


@routes.get("/things")
async def things(request: web.Request) -> web.StreamResponse:
    return await chunkwise.respond(request, request.app[THINGS], headers={"X-Replica": REPLICA})


async def database(app: web.Application) -> AsyncIterator[None]:
    engine = create_async_engine(os.environ["DATABASE_URL"])
    app[THINGS] = await sql.table(engine, "things")
    yield
    await engine.dispose()


app = web.Application()
app.add_routes(routes)
app.cleanup_ctx.append(database)
chunkwise.setup(app, grace_seconds=5)  # streams in flight end within that, and their clients go on with the other

if __name__ == "__main__":
    web.run_app(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8080")))
