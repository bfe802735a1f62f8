"""`chunkwise` itself: help, version, commands, and the message if an extra is not installed."""

import re
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest

from chunkwise.cli.exits import MEANINGS
from chunkwise.formats.speedups import KIND
from tests.cli.raw_server import chunk, chunked, responding
from tests.cli.running import CHUNKWISE, run, run_any, started

# A program in which importing one package fails as if the package were not installed.
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "{}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from chunkwise.cli import main
main()
"""
COMMANDS = ("serve", "get", "send", "demo")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_lists_every_exit_code(command: str) -> None:
    done = run(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    text = " ".join(done.out.decode().split())
    for code, meaning in MEANINGS.items():
        assert re.search(rf"\b{code.value} {re.escape(meaning)}", text)
    if not command:
        assert all(f" {name} " in text for name in COMMANDS)


def test_get_help_explains_exit_codes_4_and_5() -> None:
    text = " ".join(run("get", "--help").out.decode().split())
    assert "It can only close the connection early, and the exit code is 5" in text
    assert "request NDJSON with -H 'Accept: application/x-ndjson'" in text


def test_no_arguments_print_help_and_exit_2() -> None:
    done = run()
    assert (done.code, done.err) == (2, "")
    assert b"Usage: chunkwise" in done.out


def test_version_names_package_version_and_scanner() -> None:
    assert run("--version") == (0, f"chunkwise {version('chunkwise')} ({KIND} scanner)\n".encode(), "")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("serve nothing.json", 10, "nothing.json: no such file or folder"),
        ("get nothing.json", 2, "expected a URL such as http://127.0.0.1:8080/movies.json, got nothing.json"),
        ("send nothing.json http://127.0.0.1:9/", 10, "nothing.json: No such file or directory"),
        ("demo --interval 1", 2, "Invalid value for --interval: needs --client"),
    ],
)
def test_each_command_reports_its_failure(words: str, code: int, message: str) -> None:
    done = run(*words.split())
    assert (done.code, done.out) == (code, b"")
    assert done.message.startswith(message)


def test_closed_stdout_exits_141_silently() -> None:
    def response(connection: Any, _: bytes) -> None:
        connection.sendall(chunked("application/x-ndjson"))
        while True:  # until the client disconnects
            connection.sendall(chunk(b'"and on"\n' * 1000))

    with responding(response) as url, started(*CHUNKWISE, "get", url) as getting:
        with subprocess.Popen(["head", "-1"], stdin=getting.stdout, stdout=subprocess.PIPE) as reader:
            getting.stdout.close()  # now only `head` holds the pipe open
            assert reader.communicate()[0] == b'"and on"\n'
        assert getting.process.wait() == 141
        assert getting.err == ""


@pytest.mark.parametrize("missing", ["rich", "rich_click"])
def test_missing_extra_is_named_in_one_line(missing: str) -> None:
    done = run_any(sys.executable, "-c", WITHOUT.format(missing), "get", "http://127.0.0.1:9/")
    assert (done.code, done.out) == (2, b"")
    assert done.message == "the command line needs the extra 'cli': pip install 'chunkwise[cli]'"


def test_library_needs_no_extra() -> None:
    program = "import sys; sys.modules.update(rich=None, rich_click=None, click=None); import chunkwise"
    assert run_any(sys.executable, "-W", "error", "-c", program) == (0, b"", "")


def test_own_missing_module_is_not_called_an_extra() -> None:
    program = "import sys; sys.modules['chunkwise.cli.exits'] = None; from chunkwise.cli import main; main()"
    done = run_any(sys.executable, "-c", program)
    assert done.code == 1
    assert "chunkwise.cli.exits" in done.err
    assert "extra" not in done.err
