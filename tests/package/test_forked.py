"""A forked process runs a script as a new interpreter does."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import forked
from tests.needs import needs_linux

pytestmark = [
    needs_linux,
    pytest.mark.skipif("COVERAGE_PROCESS_START" in os.environ, reason="coverage is measured in new interpreters"),
]

SCRIPT = """
import atexit, os, signal, sys, threading
atexit.register(print, "after the end")
threading.Thread(target=lambda: print("in a thread", threading.main_thread().join())).start()
print(sys.argv, sys.path[0], os.getcwd(), os.environ["COLOR"], os.environ.get("HOME"), repr(sys.stdin.read()))
print(__name__, __file__)
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGCHLD), os.listdir("/dev/fd"), file=sys.stderr)
if sys.argv[1] == "fails":
    raise KeyError("failed")
if sys.argv[1] == "interrupted":
    os.kill(os.getpid(), signal.SIGINT)
if sys.argv[1] == "killed":
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(3)
"""


@pytest.mark.parametrize("how", ["exits", "fails", "interrupted", "killed"])
def test_output_and_exit_code_are_those_of_a_new_interpreter(tmp_path: Path, how: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), how]
    environment = {name: os.environ[name] for name in os.environ if name.startswith("PYTHON")} | {"COLOR": "red"}
    new = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, cwd=tmp_path, env=environment, check=False
    )
    with tempfile.TemporaryFile() as err:
        process = forked.started(command, err, {"cwd": tmp_path, "env": environment})
        assert process is not None
        with process:
            assert process.stdout is not None
            out = process.stdout.read()
            code = process.wait(40)
        err.seek(0)
        said = err.read()
    assert (code, out) == (new.returncode, new.stdout)
    assert said.splitlines()[0] == new.stderr.splitlines()[0]
    assert said.splitlines()[-1] == new.stderr.splitlines()[-1]


def test_signals_end_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    with tempfile.TemporaryFile() as err:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = forked.started([sys.executable, str(script)], err, {})
            assert process is not None
            with process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                assert process.poll() is None
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.01)
                process.send_signal(number)
                assert process.wait(40) == process.poll() == -number


def test_other_commands_need_a_new_interpreter(tmp_path: Path) -> None:
    with tempfile.TemporaryFile() as err:
        assert forked.started(["curl", "script.py"], err, {}) is None
        assert forked.started([sys.executable, "-c", "pass"], err, {}) is None
        assert forked.started([sys.executable, "script.py"], err, {"stdin": subprocess.PIPE}) is None
        assert forked.started([sys.executable, "script.py"], err, {"env": {"PYTHONUTF8": "1"}}) is None
