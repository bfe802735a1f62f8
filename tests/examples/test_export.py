"""A table as a download: its file name, its formats, and how it continues."""

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise.testing import FaultProxy, cut_at, reset_at
from tests.cli.running import Serving, curl, run
from tests.examples.using import using
from tests.needs import needs_chromium, needs_curl
from tests.transports.browsing import browser_page

ROWS = 20_000
PLAIN = {"Accept-Encoding": "identity"}  # so that the position of a disconnect is known
pytestmark = needs_curl


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Serving]:
    with using("export", environment={"ROWS": str(ROWS)}, cwd=folder):
        pass
    with using("export", environment={"ROWS": "1"}, cwd=folder) as serving:  # the table exists already
        with closing(sqlite3.connect(folder / "readings.sqlite")) as connection:
            assert connection.execute("select count(*) from readings").fetchone() == (ROWS,)
        yield serving


@pytest.mark.parametrize(
    ("accept", "suffix"),
    [("*/*", "csv"), ("text/html,*/*;q=0.8", "csv"), ("application/x-ndjson", "ndjson"), ("application/json", "json")],
)
def test_download_is_named_after_its_format(server: Serving, tmp_path: Path, accept: str, suffix: str) -> None:
    done = curl(server.url("/readings"), "-OJ", "-H", f"Accept: {accept}", cwd=tmp_path)
    assert done.code == 0
    (file,) = tmp_path.iterdir()
    assert file.name == f"readings.{suffix}"
    text = file.read_text()
    rows: list[dict[str, Any]]
    if suffix == "csv":
        rows = list(csv.DictReader(text.splitlines()))
    else:
        rows = json.loads(text) if suffix == "json" else [json.loads(line) for line in text.splitlines()]
    assert [int(row["id"]) for row in rows] == list(range(1, ROWS + 1))
    assert (int(rows[101]["id"]), rows[101]["station"], rows[101]["day"]) == (102, "Station 1", "2000-01-02")


def test_error_response_is_no_download(server: Serving) -> None:
    refused = curl(server.url("/readings"), "-i", "-H", "Accept: image/png")
    assert refused.out.startswith(b"HTTP/1.1 406 ")
    assert b"Content-Disposition" not in refused.out


@pytest.mark.parametrize("name", ["csv", "ndjson", "json"])
async def test_broken_download_continues(server: Serving, name: str) -> None:
    faults = [cut_at(90_000), reset_at(200_000)]
    async with (
        ClientSession(headers=PLAIN) as session,
        FaultProxy("127.0.0.1", int(server.base.rpartition(":")[2]), faults) as proxy,
        chunkwise.open_stream(session, proxy.url("/readings"), format=name) as stream,
    ):
        assert [int(row["id"]) async for row in stream] == list(range(1, ROWS + 1))
        assert stream.reconnects >= 2


def test_command_line_saves_table(server: Serving, tmp_path: Path) -> None:
    output = tmp_path / "readings.csv"
    assert run("get", server.url("/readings"), "--format", "csv", "-o", output).code == 0
    assert len(output.read_bytes().splitlines()) == ROWS + 1


@needs_chromium
async def test_browser_saves_table(server: Serving, tmp_path: Path) -> None:
    async with browser_page() as page:
        await page.set_content(f'<a href="{server.url("/readings")}">table</a>')
        async with page.expect_download() as started:
            await page.click("a")
        download = await started.value
        assert download.suggested_filename == "readings.csv"
        await download.save_as(tmp_path / "saved")
        assert await download.failure() is None
    assert len((tmp_path / "saved").read_bytes().splitlines()) == ROWS + 1
