"""The real command line, as a person runs it: a process with its pipes and its exit code.

Nothing here waits for a time: the guards only end what hangs.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.cli import warm

GUARD_SECONDS = 40
CHUNKWISE = (sys.executable, "-m", "chunkwise")


class Done(NamedTuple):
    """What an ended process has left."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[bytes]:
        return self.out.splitlines()

    @property
    def told(self) -> str:
        """The one line on stderr; an assertion if there is another."""
        assert self.err.startswith("chunkwise: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("chunkwise: ").removesuffix("\n")


def run(*words: object, **options: Any) -> Done:
    """Run `chunkwise WORDS` to its end."""
    if not warm.is_possible(options):
        return run_any(*CHUNKWISE, *words, **options)
    with started(*CHUNKWISE, *words, **options) as running:
        return running.end()


def run_any(*words: object, **options: Any) -> Done:
    given = {"timeout": GUARD_SECONDS, "stdin": subprocess.DEVNULL, **options}
    if "input" in options:
        del given["stdin"]
    done = subprocess.run([str(word) for word in words], capture_output=True, check=False, **given)
    return Done(done.returncode, done.stdout, done.stderr.decode())


def curl(url: str, *options: str, **given: Any) -> Done:
    return run_any("curl", "-sS", "--globoff", *options, url, **given)


class Running:
    """A process that has not ended: read from it, signal it, wait for it."""

    def __init__(self, process: subprocess.Popen[bytes] | warm.Warm, err: IO[bytes]) -> None:
        self.process = process
        self._err = err

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def err(self) -> str:
        """What stderr has got so far."""
        self._err.seek(0)
        return self._err.read().decode()

    def is_running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Done:
        """Read the rest of stdout, and wait for the process to end."""
        out = self.process.stdout.read() if self.process.stdout else b""
        code = self.process.wait(GUARD_SECONDS)
        return Done(code, out, self.err)


def _process(command: list[str], err: IO[bytes], options: dict[str, Any]) -> "subprocess.Popen[bytes] | warm.Warm":
    called = len(CHUNKWISE)
    if tuple(command[:called]) == (sys.executable, "-m", "chunkwise") and warm.is_possible(options):
        return warm.Warm(command[called:], err, **options)
    return subprocess.Popen(
        command, **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": err, **options}
    )


@contextmanager
def started(*words: object, **options: Any) -> Iterator[Running]:
    """Start a process; whatever the test does, it is gone afterwards."""
    command = [str(word) for word in words]
    with tempfile.TemporaryFile() as err, _process(command, err, options) as process:
        try:
            yield Running(process, err)
        finally:
            if "COVERAGE_PROCESS_CONFIG" in os.environ:  # what is killed cannot tell which lines it ran
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GUARD_SECONDS)
            process.kill()


@dataclass
class Serving:
    """A running `chunkwise serve`."""

    base: str
    running: Running

    def url(self, path: str) -> str:
        return self.base + path


@contextmanager
def serving(*words: object, command: str = "serve", **options: Any) -> Iterator[Serving]:
    """Start `chunkwise serve`, or another command that serves, on a free port; its first line says where it is."""
    with started(*CHUNKWISE, command, "--port", 0, *words, **options) as running:
        first = running.stdout.readline().decode()
        address = re.search(r" at (http://\S+)/ ", first)
        assert address, first + running.err
        yield Serving(address[1], running)


def wait_until(true: Callable[[], bool], what: str, *running: Running) -> None:
    """Wait until something is true, while processes run: no event tells it, so look again and again."""
    stop = time.monotonic() + GUARD_SECONDS
    while not true():
        for process in running:
            assert process.is_running(), process.err
        assert time.monotonic() < stop, what
        time.sleep(0.002)


def wait_for_content(file: Path, content: bytes, writing: Running) -> None:
    """Wait until a process has written that into a file."""
    wait_until(lambda: file.exists() and file.read_bytes() == content, f"{file} never held {content!r}", writing)


def folder_of(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files into a folder that may not be there yet."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
