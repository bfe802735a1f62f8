"""Public names: `__all__` matches the table, and examples use only public names."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from tests.package.public_names import PUBLIC
from tests.tables import check_rows, named

ROOT = Path(__file__).parents[2]
SHOWN = [ROOT / "README.md", ROOT / "docs", ROOT / "examples", ROOT / "deploy"]


def test_all_of_each_module_matches_table() -> None:
    def check(module: str) -> None:
        face = importlib.import_module(module)
        assert face.__all__ == PUBLIC[module]
        assert [name for name in face.__all__ if not hasattr(face, name)] == []

    check_rows(named(PUBLIC), check)


def test_package_has_about_twenty_public_names() -> None:
    assert len(PUBLIC["chunkwise"]) <= 23, "too many public names: remove another one first"


def test_root_exports_all_errors() -> None:
    assert set(PUBLIC["chunkwise.errors"]) < set(PUBLIC["chunkwise"])


def python_in(path: Path) -> str:
    """Return the Python code of a file, or of the examples of a page."""
    text = path.read_text(encoding="utf-8")
    return text if path.suffix == ".py" else "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def imported_of_chunkwise(code: str) -> Iterator[tuple[str, str]]:
    """Yield each (module, name) of chunkwise that a piece of code imports; the name is "" for the module itself."""
    lines = re.findall(r"^[ \t]*((?:from|import) chunkwise\b(?:[^(\n]*\([^)]*\)|[^\n]*))", code, re.MULTILINE)
    for statement in (ast.parse(line).body[0] for line in lines):
        if isinstance(statement, ast.Import):
            yield from ((alias.name, "") for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield from ((statement.module or "", alias.name) for alias in statement.names)


def is_public(module: str, name: str) -> bool:
    """Return whether users may import the name."""
    if not name:
        return module in PUBLIC
    return name in PUBLIC.get(module, ()) or f"{module}.{name}" in PUBLIC


def test_examples_use_only_public_names() -> None:
    pages = [path for shown in SHOWN for path in (shown.rglob("*") if shown.is_dir() else [shown])]
    pages = [path for path in pages if path.suffix in (".py", ".md")]
    imports = {found for path in pages for found in imported_of_chunkwise(python_in(path))}
    assert ("chunkwise", "") in imports
    assert [found for found in sorted(imports) if not is_public(*found)] == []


def test_imports_of_private_names_are_found() -> None:
    def check(code: str, public: bool) -> None:
        found = [*imported_of_chunkwise(code)]
        assert found
        assert all(is_public(*each) for each in found) == public

    check_rows(
        named(
            [
                ("import chunkwise\n", True),
                ("from chunkwise import items, body\n", True),
                ("from chunkwise.sources import sql\n", True),
                ("if x:\n    from chunkwise.testing import (\n        Fault,\n        cut_at,\n    )\n", True),
                ("import chunkwise.transports\n", False),
                ("from chunkwise.transports.reading import items\n", False),
                ("from chunkwise.formats import JSON\n", False),
                ("from chunkwise import (\n    items,\n    noitems,\n)\n", False),
            ]
        ),
        check,
    )
