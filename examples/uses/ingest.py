"""Upload a million rows into a database, as NDJSON, JSON or CSV. They are read, checked and stored while they arrive.

    python examples/uses/ingest.py                                       # stores into ingested.sqlite
    seq 1000000 | sed 's/.*/{"id": &, "station": "Ulm", "degrees": 4.5}/' > rows.ndjson
    curl -N -H 'Content-Type: application/x-ndjson' -T rows.ndjson http://127.0.0.1:8080/readings
    chunkwise send rows.ndjson http://127.0.0.1:8080/readings            # or rows.json, or rows.csv

While rows arrive, the response reports how many are stored. If a row is invalid, the last record of the response has
the number of that row. For NDJSON and CSV it also has a line number, which is correct if each row is one line and no
line is blank. After this record the response fails, so no client takes it for a success. The rows before the invalid
one are stored. Correct the invalid row and send everything again: a row replaces the stored row with the same id. A
client may also send everything before it reads the response, because the response is short.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Annotated, TypedDict

from aiohttp import web
from msgspec import Meta

import chunkwise

FILE = Path(sys.argv[1] if len(sys.argv) > 1 else "ingested.sqlite")
REPORT_ROWS = 10_000
STORE = web.AppKey[Callable[[Sequence["Reading"]], Awaitable[None]]]("store")
# The line number of the first row in each format. Line 1 of CSV is the header.
FIRST_LINE = {"ndjson": 1, "csv": 2}

routes = web.RouteTableDef()


class Reading(TypedDict):
    """The type of a row."""

    id: Annotated[int, Meta(ge=0, lt=2**63 - 1)]
    station: str
    degrees: float


@routes.post("/readings")
@routes.put("/readings")
@chunkwise.streaming(format="ndjson")
async def ingest(request: web.Request) -> AsyncIterator[dict[str, object]]:
    stored, reported = 0, 0
    try:
        async for rows in chunkwise.items(request, type=Reading).batches():
            await request.app[STORE](rows)
            stored += len(rows)
            if reported == 0 or stored >= reported + REPORT_ROWS:
                yield {"stored": stored}
                reported = stored
    except chunkwise.StreamError as error:
        # If no record has been sent yet, the response gets a status for the error, such as 422.
        if stored:
            yield {"stored": stored, "failed": str(error), **position(error)}
        raise
    yield {"stored": stored, "done": True}


def position(error: chunkwise.StreamError) -> dict[str, int]:
    """Return the row and the line of an error in the upload, both counted from 1; leave out what is unknown."""
    index = error.items_seen if isinstance(error, chunkwise.TruncatedError) else error.item_index
    if index is None:
        return {}
    first = FIRST_LINE.get(error.format or "")
    return {"row": index + 1, **({"line": index + first} if first else {})}


def store(connection: sqlite3.Connection, rows: Sequence[Reading]) -> None:
    """Store rows in one transaction."""
    with connection:
        connection.executemany("insert or replace into readings values (:id, :station, :degrees)", rows)


async def open_database(app: web.Application) -> AsyncIterator[None]:
    """Keep one connection, and one thread that writes with it, because SQLite allows one writer at a time."""
    with closing(sqlite3.connect(FILE, check_same_thread=False)) as connection, ThreadPoolExecutor(1) as writer:
        connection.execute("pragma journal_mode = wal")  # other connections can read while rows are stored
        connection.execute(
            "create table if not exists readings (id integer primary key, station text not null, degrees real not null)"
        )

        async def in_turn(rows: Sequence[Reading]) -> None:
            await asyncio.get_running_loop().run_in_executor(writer, store, connection, rows)

        app[STORE] = in_turn
        yield


app = web.Application()
app.add_routes(routes)
app.cleanup_ctx.append(open_database)
chunkwise.setup(app)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
