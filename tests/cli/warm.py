"""Processes of the command line that begin where its imports have ended.

They take half a second of a core, hundreds of times over. So one process imports, and each run is a fork of it: a
process of its own, with its own pipes, signals and exit code, that ends as Python ends. CHUNKWISE_FRESH=1 starts each
run anew, and tests/cli/test_warm.py compares the two.
"""

import atexit
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import IO, Any, Self

_MOST_BYTES = 64 * 1024


class Warm:
    """A run of `chunkwise WORDS`: what is used of a `subprocess.Popen`."""

    def __init__(self, words: list[str], stderr: IO[bytes], cwd: Path | None = None) -> None:
        self.stdin = None
        self.returncode: int | None = None
        self._told, telling = os.pipe()
        out, writing = os.pipe()
        with Path(os.devnull).open("rb") as nothing:
            said = pickle.dumps((words, cwd or Path.cwd(), dict(os.environ)))
            assert len(said) < _MOST_BYTES
            socket.send_fds(_parent(), [said], [nothing.fileno(), writing, stderr.fileno(), telling])
        os.close(writing)
        os.close(telling)
        self.stdout = os.fdopen(out, "rb")
        self.pid = self._read()

    def _read(self) -> int:
        return int.from_bytes(os.read(self._told, 4), "little", signed=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.wait()
        os.close(self._told)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self.returncode = self._read()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("chunkwise", timeout or 0)
            self.returncode = self._read()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def is_possible(options: dict[str, Any]) -> bool:
    """Say whether a run can be a fork: it is to have nothing that the imports have seen otherwise."""
    if options.keys() - {"cwd"} or os.name == "nt" or "CHUNKWISE_FRESH" in os.environ:
        return False
    if any(name.startswith("COVERAGE_") for name in os.environ):  # which has to begin in each process by itself
        return False
    return _seen_by_imports() == _SEEN


def _seen_by_imports() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "CHUNKWISE_PURE"))}


_SEEN = _seen_by_imports()


@cache
def _parent() -> socket.socket:
    """Start the process that imports; it ends when ours does, since nobody else has the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        parent = subprocess.Popen(
            [sys.executable, Path(__file__), str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
    atexit.register(parent.wait)
    atexit.register(ours.close)  # first: the last that is registered is called first
    return ours


def _words(asking: socket.socket) -> list[str]:
    """Fork for each run that is asked for; return, in the fork, what it is to run."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for a run
    while True:
        said, files, _, _ = socket.recv_fds(asking, _MOST_BYTES, 4)
        if not said:
            os._exit(0)
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    asking.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    telling = files.pop()
    if (pid := os.fork()) != 0:
        os.write(telling, pid.to_bytes(4, "little", signed=True))
        for file in (0, 1, 2, *files):
            os.close(file)
        _, status = os.waitpid(pid, 0)
        os.write(telling, os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))
        os._exit(0)
    os.close(telling)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    words, folder, environment = pickle.loads(said)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return list(words)


if __name__ == "__main__":
    import chunkwise
    from chunkwise.cli import app, main  # noqa: F401 - all of the command line

    sys.argv = [str(Path(chunkwise.__file__).with_name("__main__.py")), *_words(socket.socket(fileno=int(sys.argv[1])))]
    # What stood on the files before the fork says what they were like then.
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    main()
