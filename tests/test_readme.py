"""The README is short, and its programs and commands print what it shows."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

from tests.needs import needs_curl
from tests.pages import ROOT, Reader, blocks

README = ROOT / "README.md"


def test_readme_has_at_most_170_lines() -> None:
    assert len(README.read_text().splitlines()) <= 170


@needs_curl
def test_programs_print_exactly_the_lines_shown(tmp_path: Path) -> None:
    reader = Reader(README)
    with chdir(tmp_path):
        reader.read()
    shown = [line for block in blocks(README) if block.language == "text" for line in block.code.splitlines()]
    assert reader.printed == shown
