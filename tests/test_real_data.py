"""Real files, served by chunkwise and read by several clients: every client gets the items of the file."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from aiohttp import ClientSession

import chunkwise
from tests.cli.running import Serving, curl, run, serving
from tests.needs import DATA, needs_curl, needs_data
from tests.tables import check_rows, check_rows_async, cross, named

MEDIA_TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "json-seq": "application/json-seq",
    "sse": "text/event-stream",
    "csv": "text/csv",
    "text": "text/plain",
}
FILES = ["movies.json", "airports.csv"]

every_file = pytest.mark.parametrize("file", [pytest.param(name, marks=needs_data(name)) for name in FILES])


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(DATA) as running:
        yield running
        assert not running.running.err


@cache
def items_of(file: str) -> list[Any]:
    """Return the items of a file, read with Python's standard library."""
    text = (DATA / file).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline=""))) if file.endswith(".csv") else json.loads(text)


def as_cell(value: Any) -> str:
    """Return the text of a value in a CSV cell (see CsvEncoder)."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def expected(file: str, format: str) -> list[Any]:
    """Return the items that a client must receive. CSV has only text, so its values are text."""
    if format == "csv":
        return [{name: as_cell(value) for name, value in item.items()} for item in items_of(file)]
    return items_of(file)


def lines_of_json(body: str) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


# Functions that read each format without chunkwise.
FOREIGN: dict[str, Callable[[str], list[Any]]] = {
    "json": json.loads,
    "ndjson": lines_of_json,
    "json-seq": lambda body: [json.loads(record) for record in re.findall("\x1e([^\x1e]+)\n", body)],
    "sse": lambda body: [json.loads(data) for data in re.findall("^data: (.*)\n\n", body, re.MULTILINE)],
    "csv": lambda body: list(csv.DictReader(io.StringIO(body, newline=""))),
    "text": lines_of_json,
}


@needs_curl
@needs_data("movies.json")
@needs_data("airports.csv")
def test_curl_gets_every_item_in_every_format(server: Serving) -> None:
    def check(file: str, format: str) -> None:
        got = curl(server.url(f"/{file}"), "-H", f"Accept: {MEDIA_TYPES[format]}", "-w", "%{stderr}%{content_type}")
        assert got.code == 0
        assert got.err.partition(";")[0] == MEDIA_TYPES[format]
        assert FOREIGN[format](got.out.decode()) == expected(file, format)

    check_rows(cross(named(FILES), named(MEDIA_TYPES)), check)


@needs_data("movies.json")
@needs_data("airports.csv")
async def test_aiohttp_gets_every_item_in_every_format(server: Serving) -> None:
    async def check(file: str, format: str) -> None:
        async with ClientSession() as session, session.get(server.url(f"/{file}?format={format}")) as response:
            got = [item async for item in chunkwise.items(response)]
        # The text format returns lines, which contain JSON here.
        assert ([json.loads(line) for line in got] if format == "text" else got) == expected(file, format)

    await check_rows_async(cross(named(FILES), named(MEDIA_TYPES)), check)


@needs_data("movies.json")
@needs_data("airports.csv")
def test_get_command_reads_every_format(server: Serving) -> None:
    def check(file: str, format: str) -> None:
        got = run("get", server.url(f"/{file}?format={format}"))
        assert (got.code, got.err) == (0, "")
        items = lines_of_json(got.out.decode())
        assert ([json.loads(line) for line in items] if format == "text" else items) == expected(file, format)

    check_rows(cross(named(FILES), named(MEDIA_TYPES)), check)


@needs_data("airports.csv")
@pytest.mark.parametrize("output", ["json", "csv"])
def test_get_command_writes_json_and_csv(server: Serving, output: str, tmp_path: Any) -> None:
    got = run("get", server.url("/airports.csv?format=sse"), "--format", output, "-o", tmp_path / "airports")
    assert got == (0, b"", "")
    assert FOREIGN[output]((tmp_path / "airports").read_text(encoding="utf-8")) == items_of("airports.csv")


@needs_curl
@every_file
def test_unconverted_file_has_length_and_etag(server: Serving, file: str) -> None:
    content = (DATA / file).read_bytes()
    got = curl(server.url(f"/{file}"), "-w", "%{stderr}%header{content-length} %header{etag}")
    assert got.out == content
    length, _, etag = got.err.partition(" ")
    assert length == str(len(content))
    assert re.fullmatch(r'"[^"]+"', etag)


@needs_curl
@every_file
def test_unchanged_file_is_not_sent_again(server: Serving, file: str) -> None:
    etag = curl(server.url(f"/{file}"), "-I", "-w", "%{stderr}%header{etag}").err
    got = curl(server.url(f"/{file}"), "-H", f"If-None-Match: {etag}", "-w", "%{stderr}%{http_code}")
    assert (got.out, got.err) == (b"", "304")
    assert curl(server.url(f"/{file}"), "-H", 'If-None-Match: "another"').out == (DATA / file).read_bytes()


@needs_curl
@every_file
@pytest.mark.parametrize(("bytes_asked", "start", "stop"), [("0-0", 0, 1), ("100-1999", 100, 2000), ("-7", -7, None)])
def test_byte_ranges_of_a_file_are_sent(
    server: Serving, file: str, bytes_asked: str, start: int, stop: int | None
) -> None:
    content = (DATA / file).read_bytes()
    got = curl(server.url(f"/{file}"), "-r", bytes_asked, "-w", "%{stderr}%{http_code} %header{content-range}")
    assert got.out == content[start:stop]
    first = start % len(content)
    assert got.err == f"206 bytes {first}-{first + len(got.out) - 1}/{len(content)}"


@needs_curl
@every_file
def test_range_after_the_end_is_refused(server: Serving, file: str) -> None:
    got = curl(server.url(f"/{file}"), "-r", "99999999-", "-w", "%{stderr}%{http_code}")
    assert got.err == "416"


@needs_curl
@every_file
@pytest.mark.parametrize("query", ["", "?format=sse"])
def test_head_response_has_the_headers_of_get(server: Serving, file: str, query: str) -> None:
    def fields(head: bytes) -> list[str]:
        # A HEAD response may omit headers that depend on the generated content (RFC 9110 §9.3.2).
        left_out = ("Date:", "Transfer-Encoding:")
        return sorted(line for line in head.decode().splitlines() if not line.startswith(left_out))

    url = server.url(f"/{file}{query}")
    got = curl(url, "-D", "-", "-o", "/dev/null")
    asked = curl(url, "-I")
    assert asked.code == 0
    assert fields(asked.out) == fields(got.out)
