"""Run `make test` under each installed Python that chunkwise supports, and list the missing versions.

    python tools/pythons.py                  # all Pythons that are found, one after the other
    python tools/pythons.py --without .venv  # leaves out the Python that made .venv
    python tools/pythons.py --list           # only lists the Pythons

Each Python has its own venv, `.venvs/VERSION`. An interpreter that is found under two names is tested once. Exit
status: 0 if all tests passed under each Python that was found, 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parents[1]
_VERSIONS = ("3.11", "3.12", "3.13", "3.14")
_SYSTEM = Path("/usr/bin/python3")
_ASK = "import os, platform, sys; print(os.path.realpath(sys.executable), platform.python_version())"


class Python(NamedTuple):
    """An interpreter: the path of its program, with symbolic links resolved, and its full version."""

    program: str
    version: str


def _ask(program: Path | str) -> Python | None:
    """Return the interpreter that a program starts; None if the program fails.

    A pyenv shim such as ``python3.12`` fails if that version is installed in pyenv, but not activated.
    """
    try:
        done = subprocess.run([program, "-c", _ASK], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return Python(*done.stdout.split()) if done.returncode == 0 else None


def _candidates(version: str) -> Iterator[Path | str]:
    """Yield programs that may be Python ``version``: on the PATH, in pyenv's folder, and /usr/bin/python3."""
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    yield _SYSTEM


def find_pythons() -> tuple[list[Python], list[str]]:
    """Return the interpreters of the versions that chunkwise supports, and the versions of which none was found."""
    found: dict[str, list[Python]] = {}
    for version in _VERSIONS:
        asked = map(_ask, _candidates(version))
        found[version] = [*dict.fromkeys(one for one in asked if one and one.version.startswith(f"{version}."))]
    missing = [version for version, pythons in found.items() if not pythons]
    return [python for pythons in found.values() for python in pythons], missing


def _passes(python: Python) -> bool:
    """Run `make test` under an interpreter; print and return whether the tests passed."""
    venv = f".venvs/{python.version}"
    print(f"--- Python {python.version}, {python.program}, in {venv}", flush=True)
    started = time.monotonic()
    made = ["make", "--no-print-directory", f"PYTHON={python.program}", f"VENV={venv}"]
    # Some tests run the contenders of the benchmarks, so the packages of the benchmarks are installed first.
    targets = [f"{venv}/.bench-installed", "test"]
    done = all(subprocess.run([*made, target], cwd=_ROOT, check=False).returncode == 0 for target in targets)
    print(
        f"--- Python {python.version}: {'passed' if done else 'FAILED'} in {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return done


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--without", type=Path, metavar="VENV", help="leave out the interpreter that made this venv")
    parser.add_argument("--list", action="store_true", help="print the interpreters, and run nothing")
    asked = parser.parse_args()
    pythons, missing = find_pythons()
    left_out = _ask(_ROOT / asked.without / "bin" / "python") if asked.without else None
    for python in pythons:
        print(f"found Python {python.version}: {python.program}{', left out' if python == left_out else ''}")
    for version in missing:
        print(f"did not find Python {version}")
    sys.stdout.flush()
    if asked.list:
        return 0
    failed = [python.version for python in pythons if python != left_out and not _passes(python)]
    print(f"failed under Python {', '.join(failed)}" if failed else "passed under each Python that was found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
