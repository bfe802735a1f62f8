"""A package imports only lower packages, and no two modules import each other.

The tests only parse the sources (ast). Imports for types and inside functions count, too.
"""

import ast
import graphlib
import itertools
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "chunkwise"

ROOT = "__init__"  # chunkwise/__init__.py itself
MAIN = "__main__"

SHARED = ("errors", "formats", "sources", "flow", "transports")
"""The packages from the lowest to the highest: each may import those before it."""

LIBRARY = (*SHARED, "server", "client")

MAY_IMPORT: dict[str, set[str]] = {
    **{package: set(SHARED[: order + 1]) for order, package in enumerate(SHARED)},
    "server": {*SHARED, "server"},  # but not the client
    "client": {*SHARED, "client"},  # but not the server
    ROOT: {*LIBRARY, ROOT},
    # From server and client they use only public names.
    "testing": {*SHARED, ROOT, "testing", "demo", "cli"},
    "demo": {*SHARED, ROOT, "demo"},
    "cli": {*SHARED, ROOT, "cli", "demo", "testing"},
    MAIN: {*SHARED, ROOT, "cli", "demo", "testing"},
}
"""Package -> the packages that it may import, including itself. Import cycles are never allowed."""

PURE = {"asyncio", "aiohttp", "socket", "time"}
NETWORK = {"aiohttp", "socket"}

MUST_NOT_IMPORT: dict[str, set[str]] = {
    "errors": PURE,
    "formats": PURE,
    "flow": NETWORK,
    "sources": {"aiohttp"},
    ROOT: {"aiohttp"},
}
"""Package -> the external packages that it must not import."""


class Import(NamedTuple):
    """An imported module, and the file and line of the import."""

    importer: str
    line: int
    target: str


# Cython has another grammar than Python, but the same imports. A cimport imports C code and does not count.
_CYTHON_IMPORT = re.compile(r"^[ \t]*((?:from[ \t]+\S+[ \t]+)?import\b(?:[^(\n]*\([^)]*\)|[^\n]*))", re.MULTILINE)


def modules_of(package: Path) -> dict[str, list[Path]]:
    """Return the files of each module by its dotted name: .py, or .pyx and .pyi of a compiled module."""
    modules: dict[str, list[Path]] = {}
    for suffix in (".py", ".pyx", ".pyi"):
        for path in sorted(package.rglob(f"*{suffix}")):
            parts = (package.name, *path.relative_to(package).with_suffix("").parts)
            modules.setdefault(".".join(parts[:-1] if parts[-1] == "__init__" else parts), []).append(path)
    return modules


def parsed(path: Path) -> ast.Module:
    """Return the text of a file; for a .pyx file only its imports, each on its line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".pyx":
        return ast.parse(text, path)
    statements: list[ast.stmt] = []
    for match in _CYTHON_IMPORT.finditer(text):
        tree = ast.parse(match[1], path)
        statements += ast.increment_lineno(tree, text.count("\n", 0, match.start(1))).body
    return ast.Module(statements, [])


def imports_of(name: str, path: Path, modules: Container[str]) -> Iterator[Import]:
    """Return all imports in one file of a module, at any depth, with absolute module names."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (Import(name, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                yield Import(name, node.lineno, submodule if submodule in modules else base)
                if "." not in base and submodule in modules:  # `from chunkwise import errors` also imports the root
                    yield Import(name, node.lineno, base)


def package_of(module: str) -> str:
    """Return the package of a module: "formats" for "chunkwise.formats.parsing.scanner"."""
    return module.split(".")[1] if "." in module else ROOT


def violations(package: Path) -> list[str]:
    """Return one sentence for each import that is not allowed; none if all imports are correct."""
    modules = modules_of(package)
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    for name, path in ((name, path) for name, paths in modules.items() for path in paths):
        inside = package_of(name)
        if inside not in MAY_IMPORT:
            found.append(f"{path.relative_to(package)}: no package is called {inside!r}")
            continue
        for _, line, target in imports_of(name, path, modules):
            where = f"{path.relative_to(package)}:{line}: {inside}"
            if target.split(".")[0] != package.name:
                if target.split(".")[0] in MUST_NOT_IMPORT.get(inside, ()):
                    found.append(f"{where} must not import {target}")
            else:
                if package_of(target) not in MAY_IMPORT[inside]:
                    found.append(f"{where} must not import {target}, which is in {package_of(target)}")
                if target != name:
                    graph.setdefault(name, set()).add(target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append("circular import: " + " -> ".join(reversed(error.args[1])))
    return sorted(set(found))


def test_imports_go_only_to_lower_packages() -> None:
    """Check the imports of chunkwise. The other tests check that wrong imports are found."""
    assert modules_of(PACKAGE), f"no modules in {PACKAGE}"
    assert violations(PACKAGE) == []


SOUND = {
    "__init__.py": "from . import flow\nfrom chunkwise.transports import chunked\n",
    "__main__.py": "from chunkwise.cli import main\n",
    "errors.py": "import enum\n",
    "formats/__init__.py": "from chunkwise.formats.ndjson import NDJSON\nfrom . import sse\n",
    "formats/contract.py": "from typing import Protocol\n",
    "formats/ndjson.py": "from chunkwise.errors import DecodeError\nfrom chunkwise.formats import contract\n",
    "formats/sse.py": "from . import contract, _scanner\nfrom ..errors import StreamError\n",
    "formats/_scanner.pyx": "from libc cimport time\nfrom ..errors import (\n    StreamError,\n)\ncdef find(): ...\n",
    "formats/_scanner.pyi": "from chunkwise.errors import StreamError\n",
    "flow.py": "import asyncio\nimport time\nfrom chunkwise.formats import NDJSON\n",
    "sources/__init__.py": "",
    "sources/files.py": "from chunkwise.formats import NDJSON\n",
    "transports/__init__.py": "",
    "transports/chunked.py": "import aiohttp\nfrom chunkwise.flow import batches\nfrom ..sources import files\n",
    "server/__init__.py": "",
    "server/respond.py": "from chunkwise.transports import chunked\nfrom . import delivery\n",
    "server/delivery.py": "import aiohttp\n",
    "client/__init__.py": "",
    "client/http.py": "from ..transports import chunked\n",
    "demo/__init__.py": "import chunkwise\n",
    "testing/__init__.py": "from chunkwise import errors, items\nfrom chunkwise.formats import NDJSON\n",
    "cli/__init__.py": "from chunkwise import demo, testing\nfrom .serve import main\n",
    "cli/serve.py": "import aiohttp\nimport chunkwise.demo\n",
}


def build(folder: Path, **changed: str) -> Path:
    """Write a package with correct imports, in which some files are replaced ("formats/sse.py": text)."""
    package = folder / "chunkwise"
    for name, text in (SOUND | changed).items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


def test_correct_imports_are_not_reported(tmp_path: Path) -> None:
    assert violations(build(tmp_path)) == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        pytest.param(
            "errors.py",
            "from chunkwise.formats import contract\n",
            ["errors.py:1: errors must not import chunkwise.formats.contract, which is in formats"],
            id="upward",
        ),
        pytest.param(
            "formats/contract.py",
            "from .. import flow\n",
            [
                "formats/contract.py:1: formats must not import chunkwise, which is in __init__",
                "formats/contract.py:1: formats must not import chunkwise.flow, which is in flow",
            ],
            id="upward-relative",
        ),
        pytest.param(
            "formats/contract.py",
            "def late() -> None:\n    if True:\n        from chunkwise.flow import batches\n",
            ["formats/contract.py:3: formats must not import chunkwise.flow, which is in flow"],
            id="in-function",
        ),
        pytest.param(
            "flow.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import chunkwise.transports.chunked\n",
            ["flow.py:3: flow must not import chunkwise.transports.chunked, which is in transports"],
            id="type-only",
        ),
        pytest.param(
            "sources/files.py",
            "from chunkwise.flow import batches\n",
            ["sources/files.py:1: sources must not import chunkwise.flow, which is in flow"],
            id="sources-import-flow",
        ),
        pytest.param(
            "transports/chunked.py",
            "import chunkwise\n",
            ["transports/chunked.py:1: transports must not import chunkwise, which is in __init__"],
            id="the-root-from-a-library-package",
        ),
        pytest.param(
            "__init__.py",
            "def main():\n    from chunkwise import cli\n",
            ["__init__.py:2: __init__ must not import chunkwise.cli, which is in cli"],
            id="cli-from-the-root",
        ),
        pytest.param(
            "demo/__init__.py",
            "from chunkwise.cli import serve\n",
            ["demo/__init__.py:1: demo must not import chunkwise.cli.serve, which is in cli"],
            id="demo-imports-cli",
        ),
        pytest.param(
            "formats/sse.py",
            "import asyncio.streams\nfrom time import sleep\n",
            [
                "formats/sse.py:1: formats must not import asyncio.streams",
                "formats/sse.py:2: formats must not import time",
            ],
            id="clock-and-loop-in-a-format",
        ),
        pytest.param(
            "sources/files.py",
            "from aiohttp import web\n",
            ["sources/files.py:1: sources must not import aiohttp"],
            id="aiohttp-in-sources",
        ),
        pytest.param(
            "formats/_scanner.pyx",
            "from libc cimport time\n\nfrom chunkwise.flow import (\n    batches,\n)\ndef late():\n    import time\n",
            [
                "formats/_scanner.pyx:3: formats must not import chunkwise.flow, which is in flow",
                "formats/_scanner.pyx:7: formats must not import time",
            ],
            id="compiled",
        ),
        pytest.param(
            "formats/_scanner.pyi",
            "from chunkwise import sources\n",
            [
                "formats/_scanner.pyi:1: formats must not import chunkwise, which is in __init__",
                "formats/_scanner.pyi:1: formats must not import chunkwise.sources, which is in sources",
            ],
            id="types-of-compiled",
        ),
        pytest.param(
            "server/delivery.py",
            "from chunkwise.client.http import get\n",
            ["server/delivery.py:1: server must not import chunkwise.client.http, which is in client"],
            id="server-imports-client",
        ),
        pytest.param(
            "client/http.py",
            "def late():\n    from .. import server\n",
            [
                "client/http.py:2: client must not import chunkwise, which is in __init__",
                "client/http.py:2: client must not import chunkwise.server, which is in server",
            ],
            id="client-imports-server",
        ),
        pytest.param(
            "cli/serve.py",
            "from chunkwise.client.http import get\n",
            ["cli/serve.py:1: cli must not import chunkwise.client.http, which is in client"],
            id="cli-imports-client",
        ),
        pytest.param(
            "transports/chunked.py",
            "from chunkwise.server import delivery\n",
            ["transports/chunked.py:1: transports must not import chunkwise.server.delivery, which is in server"],
            id="transports-import-server",
        ),
        pytest.param("common.py", "", ["common.py: no package is called 'common'"], id="no-such-package"),
    ],
)
def test_wrong_import_is_reported_with_line(tmp_path: Path, file: str, text: str, expected: list[str]) -> None:
    found = violations(build(tmp_path, **{file: text}))
    assert [line for line in found if not line.startswith("circular")] == expected


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("formats/contract.py", "from chunkwise.formats.sse import SSE\n"),
        ("formats/contract.py", "def late() -> None:\n    from . import sse\n"),
        ("formats/sse.py", "from chunkwise.formats import FORMATS\n"),
        ("testing/__init__.py", "import chunkwise.cli\n"),
    ],
)
def test_import_cycle_inside_package_is_reported(tmp_path: Path, file: str, text: str) -> None:
    [found] = violations(build(tmp_path, **{file: text}))
    assert found.startswith("circular import: chunkwise.")
    assert found.count(" -> ") >= 2


def test_import_cycle_is_shown_in_order(tmp_path: Path) -> None:
    package = build(
        tmp_path,
        **{
            "sources/files.py": "from . import sql\n",
            "sources/sql.py": "from chunkwise.sources.threads import pull\n",
            "sources/threads.py": "from .files import rows\n",
        },
    )
    [found] = violations(package)
    steps = found.replace("chunkwise.sources.", "").removeprefix("circular import: ").split(" -> ")
    assert set(itertools.pairwise(steps)) == {("files", "sql"), ("sql", "threads"), ("threads", "files")}
