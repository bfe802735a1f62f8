"""Types of the public names: the program of a user passes `mypy --strict`, and pyright knows every type."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.needs import needs

USER = Path(__file__).parent / "user.py"

MISUSES = {
    "an unknown format": ("chunkwise.body([], 3)", "body"),
    "an option that does not exist": ("chunkwise.items(b'', itemtype=int)", "itemtype"),
    "a limit that is no number": ("chunkwise.items([b''], format='json', max_depth='9')", "max_depth"),
    "a handler that is no generator": ("chunkwise.streaming(3)", "streaming"),
    "a name that is not public": ("chunkwise.Inbound", "Inbound"),
}  # fmt: skip

needs_pyright = needs(
    "pyright (with node)", present=find_spec("pyright") is not None and shutil.which("node") is not None
)


def mypy(file: Path) -> "subprocess.CompletedProcess[str]":
    # Run outside of the source tree and without its configuration, like a project that has installed chunkwise.
    command = ["-m", "mypy", "--strict", "--config-file=", f"--cache-dir={file.parent / 'cache'}", str(file)]
    return subprocess.run([sys.executable, *command], cwd=file.parent, capture_output=True, text=True, check=False)


@pytest.mark.timeout(180)
def test_type_checker_accepts_use_and_rejects_misuse(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(USER.read_text())
    done = mypy(file)
    assert done.returncode == 0, done.stdout + done.stderr
    file.write_text("\n".join(["import chunkwise", *(code for code, _ in MISUSES.values())]))
    said = mypy(file).stdout
    for line, (why, (_, name)) in enumerate(MISUSES.items(), 2):
        assert any(name in told for told in said.splitlines() if told.startswith(f"program.py:{line}:")), (why, said)


def verified(folder: Path) -> dict[str, Any]:
    """Return the report of pyright about the types in the package."""
    # pyright finds packages through the first Python on the PATH. Its package on PyPI contains all files except node.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "pyright", "--verifytypes", "chunkwise", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@needs_pyright
@pytest.mark.timeout(300)
def test_pyright_knows_types_of_all_public_names(tmp_path: Path) -> None:
    told = verified(tmp_path)["typeCompleteness"]
    unknown = [
        f"{symbol['name']}: {' '.join(found['message'] for found in symbol['diagnostics'])}"
        for symbol in told["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
    ]
    assert unknown == []
    assert told["completenessScore"] == 1
    assert told["exportedSymbolCounts"]["withKnownType"] > 100
