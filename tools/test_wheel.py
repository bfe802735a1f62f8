"""A wheel -> the tests that tell whether it is whole, run on it where there is no source tree.

Usage: `python tools/test_wheel.py WHEEL compiled|pure`. The wheel is installed into a new environment, which then has
nothing of this folder but copies of the tests:

1. by itself, with what it depends on: it has to serve and read every format, without a warning, and to say in a
   sentence which extras are missing (tests/package/bare.py);
2. with its extras: `CHOSEN`. A wheel differs from the tree in which files it has, and in whether the extensions load.
   tests/formats and tests/flow reach every format and every extension, compare the compiled code with the fallback,
   and need no network; all other tests would say again what they say of the tree. Few examples of hypothesis are
   enough for that (HYPOTHESIS_PROFILE=few).

No compiler is on its PATH. Versions are those of requirements/dev.txt.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]

CHOSEN = ("tests/formats", "tests/flow", "tests/package/test_import.py", "tests/package/test_without_extras.py")

TOOLS = ("hypothesis", "pytest", "pytest-aiohttp", "pytest-asyncio", "pytest-randomly", "pytest-timeout")
"""What the chosen tests need, beside the extras."""


def main(wheel: Path, kind: str) -> None:
    """Test a wheel; a `CalledProcessError` says what has failed."""
    with tempfile.TemporaryDirectory(prefix="chunkwise-wheel-") as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        constraints = folder / "constraints.txt"
        pins = re.findall(r"^([\w.-]+==\S+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
        constraints.write_text("\n".join(pins))
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", str(constraints)]
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)

        def run(*arguments: str, **environment: str) -> None:
            subprocess.run([programs / "python", *arguments], cwd=folder, env=_environment() | environment, check=True)

        run(*install, str(wheel.resolve()))
        run("-I", "-W", "error", "tests/package/bare.py", kind, PATH=str(programs))
        run(*install, f"chunkwise[cli,sql] @ {wheel.resolve().as_uri()}", *TOOLS)
        settings = {"PATH": str(programs), "HYPOTHESIS_PROFILE": "few"}
        run("-m", "pytest", "--quiet", "-p", "no:cacheprovider", *CHOSEN, **settings)


def _environment() -> dict[str, str]:
    """Return ours, without what leads to the source tree or chooses the fallback."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CHUNKWISE_PURE")}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
