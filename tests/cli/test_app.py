"""The words of the command line: its help, its version, its commands, and what it says where its extra is missing."""

import re
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest

from chunkwise.cli.exits import MEANINGS
from chunkwise.formats.speedups import KIND
from tests.cli.raw_server import answering, chunk, chunked
from tests.cli.running import CHUNKWISE, run, run_any, started

# Fails as an import does if the package is not installed.
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
def test_help_documents_every_exit_code(command: str) -> None:
    done = run(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    text = " ".join(done.out.decode().split())
    for code, meaning in MEANINGS.items():
        assert re.search(rf"\b{code.value} {re.escape(meaning)}", text)
    if not command:
        assert all(f" {name} " in text for name in COMMANDS)


def test_help_of_get_says_which_end_a_json_array_cannot_show() -> None:
    text = " ".join(run("get", "--help").out.decode().split())
    assert "its server failed: it just stops (exit code 5, not 4). -H 'Accept: application/x-ndjson' asks for" in text


def test_without_words_it_is_the_help_and_a_failure() -> None:
    done = run()
    assert (done.code, done.err) == (2, "")
    assert b"Usage: chunkwise" in done.out


def test_version_is_the_packages_and_names_the_scanner() -> None:
    assert run("--version") == (0, f"chunkwise {version('chunkwise')} ({KIND} scanner)\n".encode(), "")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("serve nothing.json", 10, "nothing.json: no such file or folder"),
        ("get nothing.json", 2, "nothing.json is no URL: expected one such as http://127.0.0.1:8080/movies.json"),
        ("send nothing.json http://127.0.0.1:9/", 10, "nothing.json: No such file or directory"),
        ("demo --interval 1", 2, "Invalid value for --interval: is for --client"),
    ],
)
def test_each_command_is_run_with_its_words_and_its_failure_is_reported(words: str, code: int, told: str) -> None:
    done = run(*words.split())
    assert (done.code, done.out) == (code, b"")
    assert done.told.startswith(told)


def test_a_reader_that_leaves_is_no_noise() -> None:
    def answer(connection: Any, _: bytes) -> None:
        connection.sendall(chunked("application/x-ndjson"))
        while True:  # until the client has gone
            connection.sendall(chunk(b'"and on"\n' * 1000))

    with answering(answer) as url, started(*CHUNKWISE, "get", url) as getting:
        with subprocess.Popen(["head", "-1"], stdin=getting.stdout, stdout=subprocess.PIPE) as reader:
            getting.stdout.close()  # only `head` has it now
            assert reader.communicate()[0] == b'"and on"\n'
        assert getting.process.wait() == 141
        assert getting.err == ""


@pytest.mark.parametrize("missing", ["rich", "rich_click"])
def test_without_its_extra_it_is_one_sentence_that_names_it(missing: str) -> None:
    done = run_any(sys.executable, "-c", WITHOUT.format(missing), "get", "http://127.0.0.1:9/")
    assert (done.code, done.out) == (2, b"")
    assert done.told == "the command line needs the extra 'cli': pip install 'chunkwise[cli]'"


def test_the_library_needs_no_extra() -> None:
    program = "import sys; sys.modules.update(rich=None, rich_click=None, click=None); import chunkwise"
    assert run_any(sys.executable, "-W", "error", "-c", program) == (0, b"", "")


def test_a_missing_module_of_the_package_is_not_reported_as_an_extra() -> None:
    program = "import sys; sys.modules['chunkwise.cli.exits'] = None; from chunkwise.cli import main; main()"
    done = run_any(sys.executable, "-c", program)
    assert done.code == 1
    assert "chunkwise.cli.exits" in done.err
    assert "extra" not in done.err
