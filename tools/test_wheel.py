"""Test a wheel without the source tree, to see that it is complete.

Usage: `python tools/test_wheel.py WHEEL compiled|pure`. The second argument says which code the wheel must use: the
compiled extension, or the fallback in pure Python. The wheel is installed twice into a new environment, and tested with
copies of the tests:

1. With its dependencies only. It has to serve and read every format without a warning, and its errors have to name the
   missing extras (tests/package/bare.py).
2. With its extras. The tests in `CHOSEN` have to pass. They show whether files are missing in the wheel, and whether
   its extension loads: tests/formats and tests/flow use every format and the extension, compare the compiled code with
   the fallback, and need no network. A few examples of Hypothesis suffice (HYPOTHESIS_PROFILE=few), because the same
   tests run with more examples in the source tree.

The tests find no compiler, because the PATH contains only the programs of the new environment. The versions of all
packages are those of requirements/dev.txt.
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
"""The packages that the chosen tests need besides the extras."""


def main(wheel: Path, kind: str) -> None:
    """Test a wheel; raise `CalledProcessError` if an installation or a test fails."""
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
    """Return the environment variables without those that lead to the source tree or select the fallback."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CHUNKWISE_PURE")}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
