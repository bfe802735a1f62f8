"""`chunkwise serve` with databases and files: what it prints at the start, and the errors of wrong arguments."""

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.databases import PRODUCTS, QUERIES, serve_message, shop_in
from tests.cli.running import CHUNKWISE, curl, folder_of, run, serving, started
from tests.needs import needs_curl


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop_in(tmp_path_factory.mktemp("databases"))


@needs_curl
def test_files_and_databases_are_served_together(shop: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"rows.json": "[1, 2]"})
    with serving(f"sqlite:///{shop}", folder, "--table", "products") as running:
        entries = json.loads(curl(running.url("/")).out)
        assert [entry["url"] for entry in entries] == ["/rows.json", "/products"]
        assert json.loads(curl(running.url("/rows.json")).out) == [1, 2]
        assert json.loads(curl(running.url("/products")).out) == PRODUCTS
        page = curl(running.url("/"), "-H", "Accept: text/html").out.decode()
        assert page.index("<h2>Files</h2>") < page.index("<h2>Tables</h2>")


def test_file_and_table_of_one_route_are_rejected(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"rows.json": "[1, 2]"})
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute('create table "rows.json" (id integer primary key)')
    assert serve_message(folder, f"sqlite:///{tmp_path}/shop.db") == (
        2,
        "a file and a table have the same URL /rows.json: select tables with --table",
    )


@pytest.mark.parametrize(("option", "word"), [("--table", "x"), ("--query", "x=select 1")])
def test_table_or_query_needs_a_database(tmp_path: Path, option: str, word: str) -> None:
    assert serve_message(tmp_path, option, word) == (
        2,
        f"Invalid value for {option}: needs a database: sqlite:///FILE or postgresql://USER@HOST/DATABASE",
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--table", "products", *(f"--query={name}={query}" for name, query in QUERIES.items())],
            "Serving 1 table and 4 queries at",
        ),
        (
            ["--table", "products", "--table", "pairs", "--query", "one=select 1 as n"],
            "Serving 2 tables and 1 query at",
        ),
        (["--query", "one=select 1 as n", "--query", "two=select 2 as n"], "Serving 2 queries at"),
    ],
)
def test_first_line_counts_tables_and_queries(shop: Path, words: list[str], expected: str) -> None:
    with started(*CHUNKWISE, "serve", "--port", 0, f"sqlite:///{shop}", *words) as running:
        assert running.stdout.readline().decode().startswith(expected)


def printed_lines(*words: object) -> tuple[str, list[str]]:
    """Start and stop a server; return its address and the lines that it printed."""
    with serving(*words) as running:
        running.running.signal(signal.SIGTERM)
        return running.base, running.running.end().out.decode().splitlines()


def test_curl_line_is_printed_for_each_query(shop: Path) -> None:
    queries = {"one": "select 1 as n", "between": "select * from products where price > :low and price < :high"}
    queries.update({f"more{n}": f"select {n} as n" for n in range(3)})
    base, lines = printed_lines(f"sqlite:///{shop}", *(f"--query={name}={text}" for name, text in queries.items()))
    assert f"  curl -N '{base}/between?low=1&high=1'" in lines
    for name in queries:
        assert any(line.startswith((f"  curl -N '{base}/{name}?", f"  curl -N '{base}/{name}'")) for line in lines)
    base, lines = printed_lines(f"sqlite:///{shop}", "--query", "named=select id from products where name = :na")
    assert [line for line in lines if line] == [f"  curl -N '{base}/named?na=1'"]


def test_missing_sql_extra_is_named_in_one_line(shop: Path, tmp_path: Path) -> None:
    for missing in ("sqlalchemy", "asyncpg"):
        (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{missing!r}] = None")
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = run("serve", f"sqlite:///{shop}", env=environment)
        assert (done.code, done.message) == (2, "databases need the extra 'sql': pip install 'chunkwise[sql]'")


def test_other_missing_module_is_not_the_sql_extra(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['chunkwise.cli.tables'] = None")
    done = run("serve", f"sqlite:///{shop}", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.code == 1
    assert done.message.startswith("ModuleNotFoundError: ")
