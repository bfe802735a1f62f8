"""A Python command -> a process that runs it, forked from one that has imported chunkwise and what it uses.

A fork takes a few milliseconds, a new interpreter with its imports 300. Otherwise the process is like any other: it has
its own signals, working folder, environment, standard streams and exit code.

This file is also the program of the process that forks: `python -m tests.forked NUMBER`, with the number of a socket.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self

IMPORTED = (
    *("chunkwise.cli.app", "chunkwise.cli.serve", "chunkwise.demo.app", "chunkwise.sources.sql"),
    *("aiosqlite", "asyncpg", "sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql.asyncpg"),
)
_ROOT = Path(__file__).parents[1]


class Forked:
    """A running process, used like `subprocess.Popen`."""

    stdin: IO[bytes] | None = None

    def __init__(self, status: socket.socket, stdout: IO[bytes]) -> None:
        self.returncode: int | None = None
        self.stdout: IO[bytes] | None = stdout
        self._status = status.makefile("rb", buffering=0)
        status.close()
        self.pid = int(self._status.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.stdout is not None:
            self.stdout.close()
        self.wait()
        self._status.close()

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self._code_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code, which is negative for a signal."""
        code = self._code_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def _code_within(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = int(self._status.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Forking:
    """The process that forks, started with the first command."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, words: list[str], err: IO[bytes], cwd: str, environment: Mapping[str, str]) -> Forked:
        control = self._control or self._started()
        status, theirs = socket.socketpair()
        out, end = os.pipe()
        request = json.dumps({"words": words, "cwd": cwd, "environment": dict(environment)}).encode()
        with theirs, Path(os.devnull).open("rb") as nothing, os.fdopen(end, "wb") as written:
            files = [nothing.fileno(), written.fileno(), err.fileno(), theirs.fileno()]
            socket.send_fds(control, [request], files)
        return Forked(status, os.fdopen(out, "rb"))

    def _started(self) -> socket.socket:
        self._control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.forked", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        return self._control

    def stop(self) -> None:
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait()
            self._control = None


_forking = _Forking()
stop = _forking.stop


def started(command: list[str], err: IO[bytes], options: Mapping[str, Any]) -> Forked | None:
    """Start a command; return None if only a new interpreter can run it.

    That is any command that is not `python -m chunkwise` or `python SCRIPT.py`, and any with other options or other
    variables for Python. Coverage is measured in new interpreters only.
    """
    environment = options.get("env", os.environ)
    if (
        sys.platform != "linux"
        or "COVERAGE_PROCESS_START" in os.environ
        or options.keys() - {"cwd", "env"}
        or command[0] != sys.executable
        or not (command[1:3] == ["-m", "chunkwise"] or command[1].endswith(".py"))
        or _of_python(environment) != _of_python(os.environ)
    ):
        return None
    return _forking.start(command[1:], err, str(Path(options.get("cwd", ".")).resolve()), environment)


def _of_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


def _next_command(control: socket.socket) -> list[str]:
    """Fork for each request; return only in the new processes, with the words after `python`."""
    while True:
        data, files, _, _ = socket.recv_fds(control, 1 << 20, 4)
        if not data:
            _reap()
            os._exit(0)
        if os.fork() == 0:
            status = files[3]
            command = os.fork()
            if command:
                _wait_for(command, files)
            break
        for number in files:
            os.close(number)
        _reap()
    control.close()
    os.close(status)
    request = json.loads(data)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words: list[str] = request["words"]
    return words


def _reap() -> None:
    """Collect the processes that have ended, with their times."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _wait_for(command: int, files: list[int]) -> NoReturn:
    """Report a process and its exit code; the process that forks has others to start."""
    try:
        for number in files[:3]:
            os.close(number)
        os.write(files[3], b"%d\n" % command)
        code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        os.write(files[3], b"%d\n" % code)
    finally:
        os._exit(0)


def _run(words: list[str]) -> None:
    """Run a command as `python WORDS` does."""
    if words[:2] == ["-m", "chunkwise"]:
        sys.path[0] = str(Path.cwd())
        sys.argv = ["", *words[2:]]
        runpy.run_module("chunkwise", run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(words[0]).parent.resolve())
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    _run(_next_command(socket.socket(fileno=int(sys.argv[1]))))
