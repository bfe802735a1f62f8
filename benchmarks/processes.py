"""Run a contender once and return its figures. Server and client run in fresh processes, each pinned to a core."""

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

from benchmarks.contender import Contender, Figures

ROOT = Path(__file__).parents[1]
LIMIT_SECONDS = 300
"""The time in seconds after which a process ends itself; that counts as a failure."""


class Failed(Exception):  # noqa: N818 - the name describes what the contender did
    """A contender could not be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The numbers of the cores on which server and client run; None if the system cannot pin processes to cores."""

    server: int | None
    client: int | None


def two_cores() -> Cores:
    """Return the first two cores that this process may use; the same one twice if there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[min(1, len(allowed) - 1)])


def measure(contender: Contender, count: int, *, warm_count: int = 0, check: bool = False, cores: Cores) -> Figures:
    """Run a contender once, and return the figures of its processes.

    Args:
        contender: the contender.
        count: the size of the measured task.
        warm_count: the size of the warm-up, which runs before the task in the same processes and compares the data that
            it receives with the expected data; 0 for no warm-up.
        check: whether the measured task also compares its data. This takes memory and time, so the figures of such a
            run are not valid.
        cores: the cores on which the processes run.

    Returns:
        The client's figures, with its peak memory and processor time during the measured task (``client_peak_mib``,
        ``client_cpu_seconds``). If the contender has a server, also the server's peak memory (``server_peak_mib``), how
        much that exceeds its memory when it was ready (``growth_mib``), and its processor time since it was ready,
        which includes the warm-up (``server_cpu_seconds``).

    Raises:
        Failed: a process failed, printed no figures, or took too long.
    """
    job: dict[str, Any] = {"name": contender.name, "count": count, "warm_count": warm_count, "check": check, "port": 0}
    server: _Child | None = None
    client: _Child | None = None
    try:
        ready: Figures = {}
        if contender.server is not None:
            server = _Child("server", {**job, "role": "server", "core": cores.server})
            ready = server.line()
            job["port"] = int(ready["port"])
        core = cores.server if contender.on_server_core else cores.client
        client = _Child("client", {**job, "role": "client", "core": core})
        result = client.line()
        result["client_peak_mib"] = result.pop("peak_mib")
        result["client_cpu_seconds"] = result.pop("cpu_seconds")
        if server is not None:
            server.stop()
            end = server.line()
            result["server_peak_mib"] = end["peak_mib"]
            result["growth_mib"] = max(end["peak_mib"] - ready["resident_mib"], 0.01)
            result["server_cpu_seconds"] = end["cpu_seconds"] - ready["cpu_seconds"]
        return result
    finally:
        for process in (client, server):
            if process is not None:
                process.end()


class _Child:
    """The process of a contender's server or client; it runs the module `child`."""

    def __init__(self, side: str, job: dict[str, Any]) -> None:
        self._side = side
        # Standard error is a file, because a pipe that is read only at the end would block the process when full.
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - `end` closes the file
        arguments = json.dumps({**job, "limit_seconds": LIMIT_SECONDS})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def line(self) -> Figures:
        """Return the next line of JSON that the process prints.

        Raises:
            Failed: the process ended without a line, or the line is not JSON.
        """
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            try:
                result: Figures = json.loads(line)
            except ValueError:
                raise Failed(f"the {self._side} printed {line.strip()!r}, expected a line of JSON") from None
            return result
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines() or ["no error message"]
        why = f"it took more than {LIMIT_SECONDS} s" if status == -signal.SIGALRM else said[-1]
        raise Failed(f"the {self._side} ended with status {status}: {why}")

    def stop(self) -> None:
        """Close the standard input of the process, which stops a server."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def end(self) -> None:
        """Stop the process, and kill it if it still runs after two seconds."""
        self.stop()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()
