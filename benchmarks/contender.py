"""What a contender is: a server, a client, or both, each to be run in a process of its own.

Must not know any one contender, nor how processes are started.
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

Told = dict[str, float]
"""What a process says of its run: ``seconds`` of the one that is measured, and what else there is (``p99_ms``, ...)."""


class WrongContent(Exception):  # noqa: N818 - it is said of the contender
    """What came is not what was to come: such a run is no measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run of a client.

    Attributes:
        count: how many rows, events, requests, streams: what the subject says.
        port: where the contender's server is, on 127.0.0.1.
        check: whether to look at all that comes, and raise `WrongContent`; such a run is not measured.
    """

    count: int
    port: int = 0
    check: bool = False


Client = Callable[[Task], Told]
Server = Callable[[int], None]
"""Makes ready what the measured count needs, says `serving.tell_ready`, serves until its standard input is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do what a subject measures.

    Attributes:
        name: what the table calls it, unique among all.
        client: runs a task, and is what is measured.
        server: what it talks to; None if the client is all there is.
        needs: modules that have to be there.
        program: one on the PATH that has to be there.
        on_server_core: whether a client without a server does a server's work, on the server's core.
    """

    name: str
    client: Client
    server: Server | None = None
    needs: tuple[str, ...] = ()
    program: str = ""
    on_server_core: bool = False

    def missing(self) -> list[str]:
        """Which modules of its needs are not here."""
        return [need for need in self.needs if importlib.util.find_spec(need) is None]

    def lacks_program(self) -> bool:
        """Whether its program is not here."""
        return bool(self.program) and shutil.which(self.program) is None


def peak_mib() -> float:
    """Return the peak resident set of this process.

    Linux tells it in /proc as well, and better: `getrusage` counts what the process was before it became this program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def forget_peak() -> None:
    """Begin anew with the peak, as far as the system lets us: the warm-up is no part of what is measured."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def resident_kib() -> float:
    """Return the resident set of this process now; where nobody tells it, the peak, which for growth is as good."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text(encoding="utf-8").split()[1]) * resource.getpagesize() / 1024
    return peak_mib() * 1024


def cpu_seconds() -> float:
    """Return the processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def allow_many_files() -> None:
    """Allow this process as many open files as the system lets it have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
