"""What `make coverage` has measured -> each module, and what of it no test of its own takes.

A module's own tests are the files of its room whose names begin with its name (`test_sse.py` and `test_sse_twins.py`
for `sse.py` and `sse_pure.py`); where there is none, all those of its room. What runs when a module is imported counts.

    python tools/own_coverage.py                # of all modules; exit status 1 if something is missing
    python tools/own_coverage.py formats/sse.py # of this one; what was measured may be its own tests alone
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from coverage import Coverage

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "src" / "chunkwise"


def _own_tests(module: Path) -> list[str]:
    """Return patterns of the contexts in which a module's own tests run: the paths of their files."""
    room, name = module.parts[0], module.stem.removesuffix("_pure")
    files = [path for path in (_ROOT / "tests" / room).glob(f"test_{name}*.py") if name != "__init__"]
    return [f"^tests/{room}/{re.escape(path.name)}$" for path in files] or [f"^tests/{room}/"]


def _missing(module: Path, contexts: list[str]) -> tuple[list[int], list[list[int]]]:
    """Return the lines and the branches that were not taken in these contexts, nor while modules were imported."""
    measured = Coverage(config_file=str(_ROOT / "pyproject.toml"))
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        measured.json_report(outfile=str(told), include=[str(_PACKAGE / module)], contexts=["^$", *contexts])
        [file] = json.loads(told.read_text())["files"].values()
    return file["missing_lines"], file["missing_branches"]


def main(names: list[str]) -> int:
    """Tell what is missing; return the exit status."""
    modules = [Path(name) for name in names] or [
        path.relative_to(_PACKAGE) for path in sorted(_PACKAGE.glob("*/*.py")) if path.read_text().strip()
    ]
    uncovered = 0
    for module in modules:
        lines, branches = _missing(module, _own_tests(module))
        if lines or branches:
            print(f"{module}: lines {lines}, branches {branches}")
            uncovered += 1
    print(f"{len(modules)} modules, {uncovered} not wholly covered by their own tests")
    return 1 if uncovered else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
