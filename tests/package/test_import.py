"""`import chunkwise` gives no warning, imports no extra, and imports few modules."""

import os
import subprocess
import sys
from importlib.resources import files

HEAVY = {
    "rich", "rich_click", "click", "sqlalchemy", "aiosqlite", "asyncpg", "websockets", "pytest", "hypothesis", "numpy",
    "sqlite3", "unittest", "tkinter", "xml",
}  # fmt: skip
"""Packages that must not be imported: extras, packages for tests, and large packages that streams do not need."""

MOST_MODULES = 70
"""The limit for modules of chunkwise. There are 64 outside of `cli`, `demo`, `testing` and `sources.sql`."""

MOST_MODULES_BESIDE_AIOHTTP = 106
"""The limit for all modules (96 now), except those that `aiohttp.web` imports."""

COUNT = """
import sys, time
import aiohttp.web
before = set(sys.modules)
start = time.perf_counter()
import chunkwise
took = time.perf_counter() - start
print(f"{took * 1000:.0f}")
print(*sorted(set(sys.modules) - before))
print(*sorted(sys.modules))
"""


def run(*arguments: str) -> str:
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, *arguments], env=unmeasured, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_gives_no_warning() -> None:
    assert run("-W", "error", "-c", "import chunkwise") == ""


def test_import_loads_few_modules_and_no_extra() -> None:
    took, new, all_modules = run("-c", COUNT).splitlines()
    ours = [name for name in new.split() if name.split(".")[0] == "chunkwise"]
    # The time is only printed: tests do not measure time.
    print(f"import chunkwise after aiohttp: {took} ms, {len(new.split())} modules, {len(ours)} of its own")
    assert len(ours) <= MOST_MODULES, ours
    assert len(new.split()) <= MOST_MODULES_BESIDE_AIOHTTP, new
    assert {name.split(".")[0] for name in all_modules.split()} & HEAVY == set()
    packages = {name.split(".")[1] for name in ours if "." in name}
    assert packages == {"errors", "flow", "formats", "sources", "transports", "server", "client"}


def test_package_has_marker_for_type_checkers() -> None:
    assert files("chunkwise").joinpath("py.typed").is_file()
