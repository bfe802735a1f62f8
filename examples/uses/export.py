"""Offer a large table as a download, in CSV, NDJSON or JSON, without holding its rows in memory.

    pip install 'chunkwise[sql]'                                  # in a clone: pip install '.[sql]'
    python examples/uses/export.py                                # first creates readings.sqlite with a million rows
    curl -OJ http://127.0.0.1:8080/readings                       # readings.csv, as in a browser
    curl -OJ -H 'Accept: application/x-ndjson' http://127.0.0.1:8080/readings         # readings.ndjson
    chunkwise get http://127.0.0.1:8080/readings --format csv -o readings.csv         # run it again to continue

A broken download never looks complete: a browser reports that it failed, and curl exits with 18. Browsers and curl have
to start again, because they can only resume at a byte, and the server does not know which row that byte belongs to.
``chunkwise get`` and ``open_stream`` resume after the last row that they have, from any server that reads the same
table.
"""

import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

from aiohttp import web
from sqlalchemy.ext.asyncio import create_async_engine

import chunkwise
from chunkwise.sources import sql

FILE = Path(sys.argv[1] if len(sys.argv) > 1 else "readings.sqlite")
ROWS = int(os.environ.get("ROWS", "1000000"))
SUFFIXES = {"text/csv": "csv", "application/x-ndjson": "ndjson", "application/json": "json"}
READINGS = web.AppKey("readings", object)

routes = web.RouteTableDef()


@routes.get("/readings")
async def readings(request: web.Request) -> web.StreamResponse:
    return await chunkwise.respond(request, request.app[READINGS], ["csv", "ndjson", "json"])


async def name_download(request: web.Request, response: web.StreamResponse) -> None:
    """Name the file that browsers save. Its suffix depends on the format, which is chosen for each request."""
    suffix = SUFFIXES.get(response.content_type)
    if request.path == "/readings" and suffix is not None:
        response.headers["Content-Disposition"] = f'attachment; filename="readings.{suffix}"'


async def open_table(app: web.Application) -> AsyncIterator[None]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{FILE}")
    try:
        # The rows are sent in the order of the primary key, so that a download can continue after any row.
        app[READINGS] = await sql.table(engine, "readings")
        yield
    finally:
        await engine.dispose()


def make_table() -> None:
    """Create the table in one transaction, unless it exists."""
    with closing(sqlite3.connect(FILE)) as connection:
        if connection.execute("select 1 from sqlite_master where name = 'readings'").fetchone():
            return
        connection.executescript(f"""
            begin exclusive;
            create table readings (id integer primary key, station text not null, day text not null, degrees real);
            with recursive numbers(n) as (select 0 union all select n + 1 from numbers where n + 1 < {ROWS})
            insert into readings
            select n + 1, 'Station ' || (n % 100), date('2000-01-01', (n / 100) || ' days'), (n * 7919 % 400) / 10.0 - 5
            from numbers;
            commit;
        """)  # noqa: S608 - ROWS is an int


app = web.Application()
app.add_routes(routes)
app.on_response_prepare.append(name_download)
app.cleanup_ctx.append(open_table)
chunkwise.setup(app)

if __name__ == "__main__":
    make_table()
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
