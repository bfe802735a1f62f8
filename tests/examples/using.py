"""Run the example applications, each in its own process, as a user runs it."""

import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cli.running import Serving, started
from tests.transports.proxying import answers, free_port

ROOT = Path(__file__).parents[2]
USES = ROOT / "examples" / "uses"


@contextmanager
def using(
    name: str,
    *words: object,
    environment: dict[str, str] | None = None,
    failing_with: Collection[str] = (),
    **options: Any,
) -> Iterator[Serving]:
    """Run an example on a free port.

    Args:
        name: the name of the example.
        words: the arguments of its command line.
        environment: additional environment variables.
        failing_with: the names of the exceptions that must be logged; no others may be.
        options: options of the process.
    """
    port = free_port()
    env = {**os.environ, "PORT": str(port), **(environment or {})}
    with started(sys.executable, USES / f"{name}.py", *words, env=env, **options) as running:
        assert answers(port, running.is_running), running.err
        yield Serving(f"http://127.0.0.1:{port}", running)
        assert running.is_running(), running.err
        logged = {found.rpartition(".")[2] for found in re.findall(r"^([\w.]+)(?:: |$)", running.err, re.MULTILINE)}
        assert logged == set(failing_with), running.err


def lines_to(server: Serving, last: str) -> list[str]:
    """Return the output of an example up to a line."""
    lines: list[str] = []
    while (line := server.running.stdout.readline().decode()) and line.rstrip() != last:
        lines.append(line.rstrip())
    assert line, (last, lines, server.running.err)
    return [*lines, last]
