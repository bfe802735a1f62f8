"""The page about the command line matches its help."""

from __future__ import annotations

import re
import runpy

from chunkwise.cli.app import app
from tests.pages import ROOT


def test_page_matches_help() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "command_line_page.py"))
    assert tool["PAGE"].read_text() == tool["page"](), "run: python tools/command_line_page.py"


def test_page_lists_each_command() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    listed = re.findall(r"^\| [^|]+ \| \[`chunkwise (\w+)`\]", page, re.MULTILINE)
    assert sorted(listed) == sorted(app.commands)
