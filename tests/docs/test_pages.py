"""The examples of each page run unchanged and print the output shown."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest

from tests.needs import needs_curl, needs_node
from tests.pages import ROOT, Reader, blocks, expected

DOCS = ROOT / "docs"
# Its blocks are the files of a project: tests/testing/test_docs.py runs them.
OWN_PROJECT = DOCS / "how-to" / "test-an-endpoint.md"
PAGES = sorted(page for page in DOCS.rglob("*.md") if page != OWN_PROJECT)
TOOLS = {"\n$ curl ": needs_curl, "\n$ node ": needs_node}
WITH_EXAMPLES = [
    pytest.param(
        page,
        marks=[needed for command, needed in TOOLS.items() if command in page.read_text()],
        id=str(page.relative_to(ROOT)),
    )
    for page in PAGES
    if any(block.language in ("python", "console") for block in blocks(page))
]


@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_examples_print_the_output_shown(page: Path, tmp_path: Path) -> None:
    reader = Reader(page)
    with chdir(tmp_path):
        reader.read()
    printed = reader.printed
    for line in expected(page):
        assert line in printed
