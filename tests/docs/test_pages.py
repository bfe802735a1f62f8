"""Every example of the pages runs as it stands there, and prints what is said."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest

from tests.needs import needs_curl
from tests.pages import ROOT, Reader, blocks, expected

DOCS = ROOT / "docs"
OWN_PROJECT = DOCS / "testing.md"  # whose blocks are the files of a project: tests/testing/test_docs.py
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if page != OWN_PROJECT)]
WITH_EXAMPLES = [page for page in PAGES if any(block.language in ("python", "console") for block in blocks(page))]


@needs_curl
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_examples_run_and_print_what_is_said(page: Path, tmp_path: Path) -> None:
    reader = Reader(page)
    with chdir(tmp_path):
        reader.read()
    said = reader.said
    for line in expected(page):
        assert line in said
