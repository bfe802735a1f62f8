"""What `import chunkwise` brings along: no warning, no extra, and not many modules."""

import os
import subprocess
import sys
from importlib.resources import files

HEAVY = {
    "rich", "rich_click", "click", "sqlalchemy", "aiosqlite", "asyncpg", "websockets", "pytest", "hypothesis", "numpy",
    "sqlite3", "unittest", "tkinter", "xml",
}  # fmt: skip
"""Packages that the import must not bring: extras, those for tests, and large ones that nobody needs for streams."""

MOST_MODULES = 70
"""Of chunkwise itself: all but the packages `cli`, `demo`, `testing` and the SQL sources (64), and some to spare."""

MOST_MODULES_BESIDE_AIOHTTP = 106
"""Of all packages (96), beside what `aiohttp.web` brings, which every user of it has already."""

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


def test_the_import_warns_of_nothing() -> None:
    assert run("-W", "error", "-c", "import chunkwise") == ""


def test_the_import_brings_few_modules_and_no_extra() -> None:
    took, new, all_modules = run("-c", COUNT).splitlines()
    ours = [name for name in new.split() if name.split(".")[0] == "chunkwise"]
    # Time is told, and not judged: a test does not measure it.
    print(f"import chunkwise behind aiohttp: {took} ms, {len(new.split())} modules, {len(ours)} of its own")
    assert len(ours) <= MOST_MODULES, ours
    assert len(new.split()) <= MOST_MODULES_BESIDE_AIOHTTP, new
    assert {name.split(".")[0] for name in all_modules.split()} & HEAVY == set()
    packages = {name.split(".")[1] for name in ours if "." in name}
    assert packages == {"errors", "flow", "formats", "sources", "transports", "server", "client"}


def test_the_package_says_that_it_has_types() -> None:
    assert files("chunkwise").joinpath("py.typed").is_file()
