"""The page of the command line matches its help."""

from __future__ import annotations

import runpy

from tests.pages import ROOT


def test_page_matches_help() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "command_line_page.py"))
    assert tool["PAGE"].read_text() == tool["page"](), "run: python tools/command_line_page.py"
