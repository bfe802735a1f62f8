"""Print, for each module, the lines and branches that its own tests do not run, from the data of `make coverage`.

A module's own tests are the files in the same folder below `tests` whose names begin with the module's name:
`tests/formats/test_sse_typed.py` for `formats/sse.py`, `tests/sources/sql/test_query_cancelled.py` for
`sources/sql/query.py`. If there is no such file, the module's own tests are all tests of its package, such as
`tests/formats`. For modules in `server`, `client` and `transports`, the tests in `tests/transports/failures` are own
tests too. Lines that run while a module is imported count as run. Modules outside packages are not measured.

    python tools/own_coverage.py                # all modules; exit status 1 if a line or branch is missing
    python tools/own_coverage.py formats/sse.py # this module; needs the coverage data of its own tests only
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
_OVER_CONNECTIONS = ("server", "client", "transports")


def own_tests(module: Path) -> list[str]:
    """Return patterns for the coverage contexts of a module's own tests. A context is the path of a test file."""
    folder, package = Path("tests") / module.parent, module.parts[0]
    files = sorted((_ROOT / folder).glob(f"test_{module.stem}*.py"))
    own = [f"^{folder.as_posix()}/{re.escape(path.name)}$" for path in files] or [f"^tests/{package}/"]
    return [*own, "^tests/transports/failures/"] if package in _OVER_CONNECTIONS else own


def _missing(module: Path, contexts: list[str]) -> tuple[list[int], list[list[int]]]:
    """Return a module's lines and branches that ran neither in tests of ``contexts`` nor during imports."""
    measured = Coverage(config_file=str(_ROOT / "pyproject.toml"))
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        measured.json_report(outfile=str(report), include=[str(_PACKAGE / module)], contexts=["^$", *contexts])
        [file] = json.loads(report.read_text())["files"].values()
    return file["missing_lines"], file["missing_branches"]


def main(names: list[str]) -> int:
    """Print the lines and branches that the own tests of each module do not run; return the exit status."""
    modules = [Path(name) for name in names] or [
        path.relative_to(_PACKAGE) for path in sorted(_PACKAGE.glob("*/**/*.py")) if path.read_text().strip()
    ]
    uncovered = 0
    for module in modules:
        lines, branches = _missing(module, own_tests(module))
        if lines or branches:
            print(f"{module}: lines {lines}, branches {branches}")
            uncovered += 1
    print(f"{len(modules)} modules, {uncovered} not fully covered by their own tests")
    return 1 if uncovered else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
