"""An upload of a million rows into a database, as NDJSON, JSON or CSV: it is read, checked and stored while it comes.

    python examples/uses/ingest.py                                       # into ingested.sqlite
    seq 1000000 | sed 's/.*/{"id": &, "station": "Ulm", "degrees": 4.5}/' > rows.ndjson
    curl -N -H 'Content-Type: application/x-ndjson' -T rows.ndjson http://127.0.0.1:8080/readings
    chunkwise send rows.ndjson http://127.0.0.1:8080/readings            # or rows.json, or rows.csv

The answer tells how many rows are stored while more are sent. A row that is bad ends it: the last record says which row
that is (and its line, if each row has one, and none is blank), and the answer is cut, so that no client takes it for
good. What came before that row is stored, and a row of the same id takes the place of the one before: mend the row, and
send all of it again. A client that reads nothing before it has sent all may do so: the answer is short.
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
TELL_ROWS = 10_000
STORE = web.AppKey[Callable[[Sequence["Reading"]], Awaitable[None]]]("store")
FIRST_LINE = {"ndjson": 1, "csv": 2}  # CSV has a header

routes = web.RouteTableDef()


class Reading(TypedDict):
    """What a row has to be."""

    id: Annotated[int, Meta(ge=0, lt=2**63 - 1)]
    station: str
    degrees: float


@routes.post("/readings")
@routes.put("/readings")
@chunkwise.streaming(format="ndjson")
async def ingest(request: web.Request) -> AsyncIterator[dict[str, object]]:
    stored, told = 0, 0
    try:
        async for rows in chunkwise.items(request, type=Reading).batches():
            await request.app[STORE](rows)
            stored += len(rows)
            if told == 0 or stored >= told + TELL_ROWS:
                yield {"stored": stored}
                told = stored
    except chunkwise.StreamError as error:
        if stored:  # else the whole answer is the problem: 422, say
            yield {"stored": stored, "failed": str(error), **place(error)}
        raise
    yield {"stored": stored, "done": True}


def place(error: chunkwise.StreamError) -> dict[str, int]:
    """Tell where in the upload something is wrong, counted from 1."""
    index = error.items_seen if isinstance(error, chunkwise.TruncatedError) else error.item_index
    if index is None:
        return {}
    first = FIRST_LINE.get(error.format or "")
    return {"row": index + 1, **({"line": index + first} if first else {})}


def store(connection: sqlite3.Connection, rows: Sequence[Reading]) -> None:
    """Store some rows, in one transaction."""
    with connection:
        connection.executemany("insert or replace into readings values (:id, :station, :degrees)", rows)


async def open_database(app: web.Application) -> AsyncIterator[None]:
    """Keep one connection, and one thread that writes by it: SQLite takes one writer at a time, whose turn it is."""
    with closing(sqlite3.connect(FILE, check_same_thread=False)) as connection, ThreadPoolExecutor(1) as writer:
        connection.execute("pragma journal_mode = wal")  # who reads need not wait
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
