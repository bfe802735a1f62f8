"""The servers of the how-to pages can be started twice, and all in one folder: each has a database of its own."""

from __future__ import annotations

import re
from contextlib import chdir
from itertools import takewhile
from pathlib import Path
from unittest.mock import patch

from aiohttp import web

from tests.pages import ROOT, Block, blocks, run

_DATABASE = re.compile(r'sqlite3\.connect\("(\w+\.db)"\)')
FILES = {page: set(_DATABASE.findall(page.read_text())) for page in (ROOT / "docs").rglob("*.md")}


def server_of(page: Path) -> list[Block]:
    """Return the Python blocks of a page up to the first one that serves."""
    found = [block for block in blocks(page) if block.language == "python"]
    before = list(takewhile(lambda block: "web.run_app(" not in block.code, found))
    return found[: len(before) + 1]


def test_each_page_has_its_own_database() -> None:
    files = [file for own in FILES.values() for file in own]
    assert len(files) == len(set(files)) > 3


def test_servers_start_twice(tmp_path: Path) -> None:
    with chdir(tmp_path), patch.object(web, "run_app"):
        for page in [page for page, own in FILES.items() if own] * 2:
            names: dict[str, object] = {}
            for block in server_of(page):
                run(block.code, names, page, block.line)
