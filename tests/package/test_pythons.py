"""`make test-pythons`: the Python interpreters that it finds."""

import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "pythons.py"


def program(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def listed(tmp_path: Path, *words: str) -> list[str]:
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:/bin", "PYENV_ROOT": str(tmp_path / "pyenv")}
    done = subprocess.run(
        [sys.executable, TOOL, "--list", *words], env=environment, capture_output=True, text=True, check=True
    )
    # The interpreters of this machine are also found. Only those of the test count here.
    return [line for line in done.stdout.splitlines() if "/usr/" not in line and "did not" not in line]


def test_interpreter_is_found_on_path_and_in_pyenv(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python3.12", "echo /one/python3.12 3.12.9")
    program(tmp_path / "pyenv" / "versions" / "3.12.1" / "bin" / "python3.12", "echo /two/python3.12 3.12.1")
    assert listed(tmp_path) == ["found Python 3.12.9: /one/python3.12", "found Python 3.12.1: /two/python3.12"]


def test_interpreter_with_two_names_is_listed_once(tmp_path: Path) -> None:
    for file in (tmp_path / "bin", tmp_path / "pyenv" / "versions" / "3.12.9" / "bin"):
        program(file / "python3.12", "echo /one/python3.12 3.12.9")
    assert listed(tmp_path) == ["found Python 3.12.9: /one/python3.12"]


def test_program_with_wrong_version_is_skipped(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python3.12", "echo 'pyenv: python3.12: command not found'; exit 127")
    program(tmp_path / "bin" / "python3.13", "echo /three/python3 3.11.99")
    assert listed(tmp_path) == []


def test_interpreter_of_a_venv_can_be_excluded(tmp_path: Path) -> None:
    for file in (tmp_path / "bin" / "python3.12", tmp_path / "venv" / "bin" / "python"):
        program(file, "echo /one/python3.12 3.12.9")
    assert listed(tmp_path, "--without", str(tmp_path / "venv")) == ["found Python 3.12.9: /one/python3.12, left out"]
