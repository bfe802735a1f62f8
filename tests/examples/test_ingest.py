"""An upload into a database: rows are stored while they arrive, invalid ones are reported with their line."""

import asyncio
import csv
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

import chunkwise
from tests.cli.running import Done, Serving, curl, run, wait_until
from tests.examples.using import using
from tests.needs import needs_curl

ROWS = 25_000
pytestmark = needs_curl


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "readings.sqlite"


@pytest.fixture
def server(database: Path) -> Iterator[Serving]:
    with using("ingest", database) as serving:
        yield serving


def row(number: int, degrees: object = 4.5) -> dict[str, object]:
    return {"id": number, "station": f'Ulm "{number}"', "degrees": degrees}


def written(file: Path, rows: list[dict[str, object]]) -> Path:
    if file.suffix == ".csv":
        with file.open("w", newline="") as text:
            writer = csv.DictWriter(text, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    else:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def stored(database: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("select id, station, degrees from readings order by id").fetchall()


def records(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.lines]


TYPES = {"ndjson": "application/x-ndjson", "json": "application/json", "csv": "text/csv"}


def upload(server: Serving, file: Path) -> Done:
    return curl(server.url("/readings"), "-N", "-H", f"Content-Type: {TYPES[file.suffix[1:]]}", "-T", str(file))


@pytest.mark.parametrize("name", TYPES)
def test_upload_is_stored_with_progress(server: Serving, database: Path, tmp_path: Path, name: str) -> None:
    file = written(tmp_path / f"rows.{name}", [row(n) for n in range(ROWS)])
    for _ in range(2):  # the rows of the second replace those of the first
        done = upload(server, file)
        *progress, last = records(done)
        assert (done.code, last) == (0, {"stored": ROWS, "done": True})
        counts = [event["stored"] for event in progress]
        assert counts == sorted(counts)
        assert 0 < counts[0] < 10_000 < counts[-1] < ROWS
        assert len(counts) == 3
        assert stored(database) == [(n, f'Ulm "{n}"', 4.5) for n in range(ROWS)]
    assert run("send", file, server.url("/readings")).code == 0


@pytest.mark.parametrize(("name", "line"), [("ndjson", 20_001), ("json", None), ("csv", 20_002)])
def test_invalid_row_is_reported_with_its_line(
    server: Serving, database: Path, tmp_path: Path, name: str, line: int | None
) -> None:
    rows = [row(n, "warm" if n == 20_000 else 1) for n in range(ROWS)]
    file = written(tmp_path / f"rows.{name}", rows)
    done = upload(server, file)
    assert done.code == 18  # partial file
    last = records(done)[-1]
    assert (last["stored"], last["row"], last.get("line")) == (20_000, 20_001, line)
    assert "degrees" in last["failed"]
    if line is not None:
        assert "warm" in file.read_text().splitlines()[line - 1]
    assert len(stored(database)) == 20_000


@pytest.mark.parametrize("number", [-1, 2**63, 10**30])
def test_invalid_first_row_is_a_problem(server: Serving, database: Path, tmp_path: Path, number: int) -> None:
    done = upload(server, written(tmp_path / "rows.ndjson", [row(number)]))
    (problem,) = records(done)
    assert (done.code, problem["status"], problem["item"]) == (0, 422, 0)
    assert stored(database) == []


async def test_rows_are_stored_before_the_upload_ends(server: Serving, database: Path) -> None:
    more = asyncio.Event()

    async def rows() -> AsyncIterator[dict[str, object]]:
        yield row(1)
        yield row(2)
        await more.wait()
        yield row(3)
        await more.wait()

    async with (
        ClientSession() as session,
        chunkwise.open_stream(
            session, server.url("/readings"), method="POST", data=chunkwise.body(rows(), "ndjson")
        ) as stream,
    ):
        assert await anext(stream) == {"stored": 2}
        assert [number for number, *_ in stored(database)] == [1, 2]
        more.set()
        assert [event async for event in stream] == [{"stored": 3, "done": True}]
        assert stream.end == "proven"


async def test_rows_of_interrupted_upload_are_stored(server: Serving, database: Path) -> None:
    async def rows() -> AsyncIterator[dict[str, object]]:
        for n in range(5):
            yield row(n)
        await asyncio.sleep(0)
        raise ValueError("no more")

    async def send(session: ClientSession) -> None:
        body = chunkwise.body(rows(), "ndjson")
        async with chunkwise.open_stream(session, server.url("/readings"), method="POST", data=body) as stream:
            async for _ in stream:
                pass

    async with ClientSession() as session:
        with pytest.raises(ValueError, match="no more"):
            await send(session)
    wait_until(lambda: len(stored(database)) == 5, "the rows were never stored", server.running)
