"""The type `Contender`, one way to do a task, and what its processes need to measure themselves.

A contender has a client and usually a server. Each one runs in a process of its own, which `processes` starts.
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


class WrongContent(Exception):  # noqa: N818 - the name describes what the contender did
    """The data received differs from the expected data, so the figures of this run are not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run of a client.

    Attributes:
        count: the number of rows, events, requests or streams, depending on what is measured.
        port: the port of the contender's server, on 127.0.0.1.
        check: whether to compare all data received, and raise `WrongContent` if it differs. Such a run is not measured.
    """

    count: int
    port: int = 0
    check: bool = False


Client = Callable[[Task], Figures]
Server = Callable[[int], None]
"""Prepares the data for the measured count, calls `serving.report_ready`, and serves until standard input is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do the task of a subject, such as one library that serves rows.

    Attributes:
        name: the unique name that the table shows.
        client: the function that runs a task and measures it.
        server: the function that serves the client; None if the client needs no server.
        needs: names of modules that must be installed.
        program: the name of a program that must be on the PATH; empty for none.
        on_server_core: whether to run the client on the server's core, because it does the work of a server.
    """

    name: str
    client: Client
    server: Server | None = None
    needs: tuple[str, ...] = ()
    program: str = ""
    on_server_core: bool = False

    def missing(self) -> list[str]:
        """Return the modules that the contender needs and that are not installed."""
        return [need for need in self.needs if importlib.util.find_spec(need) is None]

    def lacks_program(self) -> bool:
        """Whether the contender needs a program that is not on the PATH."""
        return bool(self.program) and shutil.which(self.program) is None


def peak_mib() -> float:
    """Return the largest resident memory that this process has had, in MiB.

    On Linux the value is read from /proc, because `getrusage` includes the memory that the process used before it ran
    this program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def forget_peak() -> None:
    """Reset the value of `peak_mib` if the system allows it, so that the warm-up is not measured."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def resident_kib() -> float:
    """Return the current resident memory of this process in KiB, or its peak if the system only reports that."""
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
