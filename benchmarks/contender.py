"""The types of a contender: a server, a client, or both, each run in a process of its own.

Independent of any contender, and of how processes are started.
"""

from __future__ import annotations

import contextlib
import importlib.util
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Figures = dict[str, float]
"""The figures that a process reports: ``seconds`` of the measured task, and others (``p99_ms``, ...)."""


class WrongContent(Exception):  # noqa: N818 - the contender did it
    """The data received is not what was requested, so that the run counts for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run of a client.

    Attributes:
        count: the number of rows, events, requests or streams, as the subject defines.
        port: of the contender's server, on 127.0.0.1.
        check: whether to compare everything received, and raise `WrongContent`; such a run is not measured.
    """

    count: int
    port: int = 0
    check: bool = False


Client = Callable[[Task], Figures]
Server = Callable[[int], None]
"""Prepares the data for the measured count, calls `serving.report_ready`, and serves until standard input is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do what a subject measures.

    Attributes:
        name: as shown in the table; unique.
        client: runs a task and is measured.
        server: serves the client; None if the client needs no server.
        needs: modules that must be installed.
        program: a program that must be on the PATH.
        on_server_core: whether the client runs on the server's core, because it does a server's work.
    """

    name: str
    client: Client
    server: Server | None = None
    needs: tuple[str, ...] = ()
    program: str = ""
    on_server_core: bool = False

    def missing(self) -> list[str]:
        """Return the modules that it needs and that are not installed."""
        return [need for need in self.needs if importlib.util.find_spec(need) is None]

    def lacks_program(self) -> bool:
        """Whether its program is not on the PATH."""
        return bool(self.program) and shutil.which(self.program) is None


def peak_mib() -> float:
    """Return the peak resident set of this process.

    On Linux it is read from /proc, because `getrusage` includes the memory that the process had before it ran this
    program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def forget_peak() -> None:
    """Reset the peak where the system allows it, so that the warm-up is not measured."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def resident_kib() -> float:
    """Return the current resident set of this process; where the system does not report it, the peak."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text(encoding="utf-8").split()[1]) * resource.getpagesize() / 1024
    return peak_mib() * 1024


def cpu_seconds() -> float:
    """Return the processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def allow_many_files() -> None:
    """Raise the limit of open files to the system's maximum."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
