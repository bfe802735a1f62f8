"""The arguments of a command -> its exit code, stdout and stderr.

`run` runs the command in this process, which takes a few milliseconds. `started` and `serving` start a process, which
takes half a second: they are for tests of signals, pipes, servers and the exit of the interpreter. Nothing here waits
for a fixed time. The guards only stop tests that hang.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple

import pytest

import chunkwise.__main__
from chunkwise.cli import app

GUARD_SECONDS = 40
CHUNKWISE = (sys.executable, "-m", "chunkwise")

_PROCESS = CHUNKWISE
_one_at_a_time = Lock()  # stdout and stderr belong to the whole process


class Done(NamedTuple):
    """The exit code and the output of a command that has ended."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[bytes]:
        return self.out.splitlines()

    @property
    def message(self) -> str:
        """The message on stderr, which must be a single line."""
        assert self.err.startswith("chunkwise: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("chunkwise: ").removesuffix("\n")


def run(*words: object, **options: Any) -> Done:
    """Run `chunkwise WORDS` until it exits, in this process, or in a new process if an option needs one.

    A command that starts a server installs signal handlers. Run it with `run_any(*CHUNKWISE, ...)` instead.
    """
    texts = [str(word) for word in words]
    if options.keys() - {"cwd"} or CHUNKWISE != _PROCESS:
        return run_any(*CHUNKWISE, *texts, **options)
    with _one_at_a_time, chdir(options.get("cwd", ".")), ThreadPoolExecutor(1) as other:
        # In another thread, because the event loop of the test may be running in this thread.
        return other.submit(_run_here, texts).result()


def _run_here(words: list[str]) -> Done:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [chunkwise.__main__.__file__, *words])  # as after `python -m chunkwise`
        stdout, stderr = TextIOWrapper(out), TextIOWrapper(err, errors="backslashreplace", line_buffering=True)
        with redirect_stdout(stdout), redirect_stderr(stderr):
            try:
                code: Any = app.run(words)
            except SystemExit as ended:  # raised by rich-click when it has printed the help
                code = ended.code
        for file in (stdout, stderr):
            file.flush()
            file.seek(0)
        return Done(int(code), out.read(), err.read().decode())


def run_any(*words: object, **options: Any) -> Done:
    given = {"timeout": GUARD_SECONDS, "stdin": subprocess.DEVNULL, **options}
    if "input" in options:
        del given["stdin"]
    done = subprocess.run([str(word) for word in words], capture_output=True, check=False, **given)
    return Done(done.returncode, done.stdout, done.stderr.decode())


def curl(url: str, *options: str, **given: Any) -> Done:
    return run_any("curl", "-sS", "--globoff", *options, url, **given)


class Running:
    """A running process that a test can read from, signal and wait for."""

    def __init__(self, process: "subprocess.Popen[bytes]", err: IO[bytes]) -> None:
        self.process = process
        self._err = err

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def err(self) -> str:
        """The content of stderr so far."""
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


@contextmanager
def started(*words: object, **options: Any) -> Iterator[Running]:
    """Start a process, and kill it after the block."""
    command = [str(word) for word in words]
    with tempfile.TemporaryFile() as err:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": err, **options}
        with subprocess.Popen(command, **given) as process:
            try:
                yield Running(process, err)
            finally:
                if "COVERAGE_PROCESS_START" in os.environ:  # a process that is killed writes no coverage
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
    """Start `chunkwise serve`, or another command that starts a server, on a free port; yield it with its address."""
    with started(*CHUNKWISE, command, "--port", 0, *words, **options) as running:
        first = running.stdout.readline().decode()
        address = re.search(r" at (http://\S+)/ ", first)
        assert address, first + running.err
        yield Serving(address[1], running)


def wait_until(true: Callable[[], bool], what: str, *running: Running) -> None:
    """Wait until a function returns true, by calling it repeatedly, and fail if one of the processes exits."""
    stop = time.monotonic() + GUARD_SECONDS
    while not true():
        for process in running:
            assert process.is_running(), process.err
        assert time.monotonic() < stop, what
        time.sleep(0.002)


def wait_for_content(file: Path, content: bytes, writing: Running) -> None:
    """Wait until a process has written this content into a file."""
    wait_until(lambda: file.exists() and file.read_bytes() == content, f"{file} never held {content!r}", writing)


def folder_of(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files into a folder, and create the folder if it does not exist; return the folder."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
