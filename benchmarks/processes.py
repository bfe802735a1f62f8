"""A contender -> one measurement of it, in processes of their own: fresh, pinned, ended.

Must not know any one contender, nor what the figures mean.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender, Told

ROOT = Path(__file__).parents[1]
LIMIT_SECONDS = 300
"""How long a process may live; then it ends, or is killed."""


class Failed(Exception):  # noqa: N818 - it is said of the contender
    """A contender could not be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the two sides run; None where processes cannot be pinned."""

    server: int | None
    client: int | None


def two_cores() -> Cores:
    """Return the first two cores that this process may use; the same one twice if there is but one."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[min(1, len(allowed) - 1)])


def measure(contender: Contender, count: int, *, warm_count: int = 0, check: bool = False, cores: Cores) -> Told:
    """Run a contender once, and return what its processes told.

    Args:
        contender: who.
        count: of what is measured.
        warm_count: of what the same processes do before, which is looked at; 0 for nothing.
        check: look at all that comes: then it is no measurement.
        cores: where.

    Returns:
        What the client told, with ``client_peak_mib``, and ``client_cpu_seconds`` of what is measured; with a server
        also ``server_peak_mib``, ``growth_mib`` over what the server was when it was ready, and ``server_cpu_seconds``
        since then, the warm-up among them.

    Raises:
        Failed: a process did, or told nothing, or took too long.
    """
    job: dict[str, Any] = {"name": contender.name, "count": count, "warm_count": warm_count, "check": check, "port": 0}
    server: _Child | None = None
    client: _Child | None = None
    try:
        ready: Told = {}
        if contender.server is not None:
            server = _Child("server", {**job, "role": "server", "core": cores.server})
            ready = server.line()
            job["port"] = int(ready["port"])
        core = cores.server if contender.on_server_core else cores.client
        client = _Child("client", {**job, "role": "client", "core": core})
        told = client.line()
        told["client_peak_mib"] = told.pop("peak_mib")
        told["client_cpu_seconds"] = told.pop("cpu_seconds")
        if server is not None:
            server.stop()
            end = server.line()
            told["server_peak_mib"] = end["peak_mib"]
            told["growth_mib"] = max(end["peak_mib"] - ready["resident_mib"], 0.01)
            told["server_cpu_seconds"] = end["cpu_seconds"] - ready["cpu_seconds"]
        return told
    finally:
        for process in (client, server):
            if process is not None:
                process.end()


class _Child:
    """One process of a contender; see `child` for what it does."""

    def __init__(self, side: str, job: dict[str, Any]) -> None:
        self._side = side
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - a pipe would block who fills it
        arguments = json.dumps({**job, "limit_seconds": LIMIT_SECONDS})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def line(self) -> Told:
        """Return the next line of JSON that the process tells.

        Raises:
            Failed: it has ended without one, or says something else.
        """
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            try:
                told: Told = json.loads(line)
            except ValueError:
                raise Failed(f"the {self._side} said {line.strip()!r}, expected a line of JSON") from None
            return told
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines() or ["no word"]
        why = f"it took more than {LIMIT_SECONDS} s" if status == -signal.SIGALRM else said[-1]
        raise Failed(f"the {self._side} ended with {status}: {why}")

    def stop(self) -> None:
        """Tell a server to stop."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def end(self) -> None:
        """See that the process has ended: by itself within two seconds, or by force."""
        self.stop()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()
