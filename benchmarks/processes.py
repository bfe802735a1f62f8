"""A contender -> one measurement of it, in processes of their own: fresh, pinned, ended.

Must not know any one contender, nor what the figures mean.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
        What the client told, ``client_peak_mib`` among it; with a server also ``server_peak_mib``, ``growth_mib`` over
        what the server was when it was ready, and ``server_cpu_seconds`` since then.

    Raises:
        Failed: a process did, or told nothing, or took too long.
    """
    job: dict[str, Any] = {"name": contender.name, "count": count, "warm_count": warm_count, "check": check, "port": 0}
    server: subprocess.Popen[str] | None = None
    client: subprocess.Popen[str] | None = None
    try:
        ready: Told = {}
        if contender.server is not None:
            server = _start({**job, "role": "server", "core": cores.server})
            ready = _line(server, "server")
            job["port"] = int(ready["port"])
        core = cores.server if contender.on_server_core else cores.client
        client = _start({**job, "role": "client", "core": core})
        told = _line(client, "client")
        told["client_peak_mib"] = told.pop("peak_mib")
        if server is not None:
            assert server.stdin is not None
            server.stdin.close()
            end = _line(server, "server")
            told["server_peak_mib"] = end["peak_mib"]
            told["growth_mib"] = max(end["peak_mib"] - ready["resident_mib"], 0.01)
            told["server_cpu_seconds"] = end["cpu_seconds"] - ready["cpu_seconds"]
        return told
    finally:
        for process in (client, server):
            if process is not None:
                _end(process)


def _start(job: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.child", json.dumps({**job, "limit_seconds": LIMIT_SECONDS})]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _line(process: subprocess.Popen[str], side: str) -> Told:
    """Return the next line of JSON that a process tells."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if line:
        told: Told = json.loads(line)
        return told
    assert process.stderr is not None
    status, errors = process.wait(), process.stderr.read().strip().splitlines()
    raise Failed(f"the {side} ended with {status}: {errors[-1] if errors else 'no word'}")


def _end(process: subprocess.Popen[str]) -> None:
    """See that a process has ended: by itself within two seconds, or by force."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
