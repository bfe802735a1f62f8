"""The deployment in deploy/, run on this machine: the table, two replicas as processes, and nginx."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.cli.running import Running, started
from tests.databases import Postgres
from tests.transports.proxying import answers, free_port, running_nginx_of

DEPLOY = Path(__file__).parents[2] / "deploy"
STEP = 10
"""The distance between two keys of the table, so that rows can be inserted between them."""

CONFIG = (DEPLOY / "nginx.conf").read_text()


def replaced(text: str, old: str, new: str) -> str:
    """Replace a text that must occur exactly once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


class Replicas:
    """Two processes of deploy/app.py. Each has its own port, which it keeps when it is restarted.

    Attributes:
        ports: the ports on which the replicas listen.
        killed: the process ids of the killed replicas.
    """

    def __init__(self, url: str, opened: ExitStack) -> None:
        self._url = url
        self._opened = opened
        self.ports = [free_port(), free_port()]
        self.killed: list[int] = []
        self._running = [self._start(port) for port in self.ports]
        self.wait()

    def _start(self, port: int) -> Running:
        environment = {**os.environ, "DATABASE_URL": self._url, "PORT": str(port)}
        return self._opened.enter_context(started(sys.executable, DEPLOY / "app.py", env=environment))

    def wait(self) -> None:
        """Wait until each replica responds."""
        for port, running in zip(self.ports, self._running, strict=True):
            assert answers(port, running.is_running), running.err

    @property
    def gone(self) -> bool:
        """Whether all replicas have exited."""
        return not any(running.is_running() for running in self._running)

    def _named(self, name: str) -> Running:
        """Return the replica that has this name in its responses."""
        [found] = [running for running in self._running if name.endswith(f"-{running.process.pid}")]
        return found

    def stop(self, name: str) -> None:
        """Ask a replica to shut down."""
        self._named(name).signal(signal.SIGTERM)

    def kill(self, name: str = "") -> None:
        """Kill one replica, or all."""
        for running in [self._named(name)] if name else self._running:
            running.signal(signal.SIGKILL)
            running.process.wait()
            self.killed.append(running.process.pid)

    def start_again(self) -> None:
        """Restart the replicas that have exited, and do not wait until they respond."""
        for place, running in enumerate(self._running):
            if not running.is_running():
                self._running[place] = self._start(self.ports[place])

    def nginx(self, folder: Path, change: Callable[[str], str] = str) -> int:
        """Run nginx in front of the replicas, with their addresses in deploy/nginx.conf; return the port of nginx."""

        def servers(port: int) -> str:
            text = replaced(CONFIG, "listen 80;", f"listen 127.0.0.1:{port};")
            for name, own in zip(("app1:8080", "app2:8080"), self.ports, strict=True):
                text = replaced(text, name, f"127.0.0.1:{own}")
            return change(text)

        folder.mkdir(exist_ok=True)
        return self._opened.enter_context(running_nginx_of(folder, servers))


@contextmanager
def replicas(postgres: Postgres, rows: int) -> Iterator[Replicas]:
    """Run two replicas that serve a table with this many rows; remove everything afterwards."""
    postgres.psql("create database deployed")
    try:
        environment = {"READER_PASSWORD": "it's s3cret"}
        postgres.psql_file(DEPLOY / "shop.sql", database="deployed", environment=environment, rows=rows)
        with ExitStack() as opened:
            yield Replicas(postgres.url("deployed", user="reader"), opened)
    finally:
        postgres.psql("drop database deployed with (force)", "drop role if exists reader")
