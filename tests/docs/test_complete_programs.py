"""Each program of a page runs from a file of its own: it imports and defines all names it uses."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

from tests.pages import Block, blocks

DOCS = Path(__file__).parents[2] / "docs"
_STARTS = {"asyncio.run", "web.run_app", "print"}
# Words of the paragraph above a block that is a part of another program.
_IS_A_PART = re.compile(r"\b(?:Add (?:this|these|the)|Put this|Replace)\b")


def paragraph_before(page: Path, block: Block) -> str:
    """Return the paragraph above a block, or nothing if another block is directly above it."""
    above = "\n".join(page.read_text().splitlines()[: block.line - 1]).rstrip()
    return "" if above.endswith("```") else above.rpartition("\n\n")[2]


def starts_something(code: str) -> bool:
    """Return whether the code itself runs or prints something, and not only its functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return any(
        isinstance(found, ast.Call) and ast.unparse(found.func) in _STARTS
        for statement in ast.parse(code).body
        if not isinstance(statement, functions)
        for found in ast.walk(statement)
    )


def is_a_program(page: Path, block: Block) -> bool:
    return (
        block.language == "python"
        and starts_something(block.code)
        and _IS_A_PART.search(paragraph_before(page, block)) is None
    )


def test_programs_of_pages_are_complete(tmp_path: Path) -> None:
    places: dict[str, tuple[Path, int]] = {}
    for page in sorted(DOCS.rglob("*.md")):
        for block in blocks(page):
            if is_a_program(page, block):
                copy = tmp_path / f"program_{len(places)}.py"
                copy.write_text(block.code)
                places[copy.name] = (page.relative_to(DOCS), block.line)

    options = ["--isolated", "--no-cache", "--select=F401,F821", "--output-format=json"]
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        check=False,
    )
    wrong = []
    for found in json.loads(checked.stdout):
        page, line = places[Path(found["filename"]).name]
        wrong.append(f"docs/{page}:{line + found['location']['row']}: {found['message']}")

    assert places
    assert not wrong, "\n".join(wrong)
