"""Stream a PostgreSQL table. Several replicas run this program, and each can resume the streams of the others.

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
# The header X-Replica names the replica that has sent the response. It is for people; no client needs it.
REPLICA = f"{socket.gethostname()}-{os.getpid()}"

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
# In a shutdown, streams have 5 seconds to finish. Then they fail, and their clients continue with another replica.
chunkwise.setup(app, grace_seconds=5)

if __name__ == "__main__":
    web.run_app(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8080")))
