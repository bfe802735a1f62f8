"""The `chunkwise serve` commands of the how-to pages publish what the pages say they do."""

import json
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.running import curl, folder_of, serving
from tests.needs import needs_curl
from tests.pages import ROOT, blocks, run

HOW_TO = ROOT / "docs" / "how-to"

pytestmark = needs_curl


def commands(page: Path, start: str) -> list[list[str]]:
    """Return the words after `chunkwise serve` of the commands of a page that begin so."""
    lines = re.findall(rf"^chunkwise serve ({re.escape(start)}.*)$", page.read_text(), re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a folder with the database of the page about SQL."""
    page = HOW_TO / "sql.md"
    code = blocks(page)[0].code.replace("shop.db", str(tmp_path / "shop.db"))
    run(code, {}, page)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("create view cups as select * from products where category = 'cup'")
    return tmp_path


def test_tables_are_published_and_a_query_replaces_them(shop: Path) -> None:
    tables, query = commands(HOW_TO / "sql.md", "sqlite:")
    with serving(*tables, cwd=shop) as running:
        assert [entry["url"] for entry in json.loads(curl(running.url("/")).out)] == ["/cups", "/products"]
        assert len(json.loads(curl(running.url("/products")).out)) == 3
    with serving(*query, cwd=shop) as running:
        assert [entry["url"] for entry in json.loads(curl(running.url("/")).out)] == ["/under"]
        assert [row["id"] for row in json.loads(curl(running.url("/under?max=10")).out)] == [1, 2]
        assert json.loads(curl(running.url("/under?max=abc")).out) == []


def test_text_parameters_of_sqlite_need_a_cast(shop: Path) -> None:
    queries = {"raw": "price < :max", "twice": "price * 2 < :max"}
    options = [f"--query={name}=select id from products where {condition}" for name, condition in queries.items()]
    with serving("sqlite:///shop.db", *options, cwd=shop) as running:
        assert len(json.loads(curl(running.url("/raw?max=10")).out)) == 2
        assert len(json.loads(curl(running.url("/raw?max=abc")).out)) == 3
        assert len(json.loads(curl(running.url("/twice?max=10")).out)) == 3


def test_files_and_folders_are_published_under_their_names(tmp_path: Path) -> None:
    page = HOW_TO / "files.md"
    [words] = commands(page, "data/")
    movies = {"item": [{"Title": "Nosferatu"}, {"Title": "M"}]}
    folder_of(
        tmp_path,
        {
            "movies.json": json.dumps(movies["item"]),
            "data/2024/users.csv": "name\r\nTom\r\n",
            "data/.hidden.csv": "name\r\nEve\r\n",
            "data/notes.odt": "-",
        },
    )
    [url] = re.findall(r"^curl -N 'http://127.0.0.1:8080(/movies.*)'$", page.read_text(), re.MULTILINE)
    with serving(*words, cwd=tmp_path) as running:
        assert [entry["url"] for entry in json.loads(curl(running.url("/")).out)] == [
            "/2024/users.csv",
            "/movies.json",
        ]
        assert curl(running.url(url)).out == b'"Nosferatu"\n"M"\n'
        assert curl(running.url("/2024/users.csv")).out == b"name\r\nTom\r\n"
