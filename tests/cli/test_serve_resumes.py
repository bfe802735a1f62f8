"""`chunkwise serve`: ranges of a file, unchanged and converted, and downloads after any number of disconnects."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise.client import reconnecting
from chunkwise.errors import TruncatedError
from chunkwise.testing import FaultProxy, cut_at, reset_at
from tests.cli.running import GUARD_SECONDS, Serving, curl, folder_of, run, serving, started
from tests.each_row import each_row
from tests.needs import needs_curl

COUNT = 20
ROWS = [{"n": str(index), "name": f"é{index}"} for index in range(COUNT)]
LINES = ["one", "", "\ufeffthree", "four\r", "fünf"]


def files_of(rows: list[dict[str, str]]) -> dict[str, str | bytes]:
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    return {
        "rows.json": json.dumps(rows, indent=1),
        "rows.ndjson": "\r\n\n".join(texts),
        "rows.json-seq": "".join(f"\x1e{text}\n" for text in texts),
        "rows.csv": "\ufeffn,name\r\n" + "".join(f'"{row["n"]}",{row["name"]}\r\n' for row in rows),
        "rows.sse": "".join(
            f"id: x{row['n']}\nevent: row\ndata: {text}\n\n" for row, text in zip(rows, texts, strict=True)
        ),
        "tree.json": json.dumps({"count": len(rows), "users": rows}),
        "words.txt": "".join(f"{line}\r\n" for line in LINES),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(folder_of(tmp_path_factory.mktemp("served"), files_of(ROWS))) as running:
        yield running
        assert not running.running.err


class Response:
    """A response that curl received, with its headers."""

    def __init__(self, server: Serving, path: str, *options: str) -> None:
        got = curl(server.url(path), "-D", "/dev/stderr", "-H", "Accept-Encoding:", *options)
        assert got.code == 0
        head, *lines = got.err.splitlines()
        self.status = int(head.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.body = got.out


def decoded(name: str, body: bytes, path: str = "") -> list[Any]:
    decoder = chunkwise.FORMATS[name].decoder(path)
    return decoder.feed(body) + decoder.finish(framed=True)


# --- ranges


@needs_curl
@each_row("file", ["rows.json", "rows.ndjson", "rows.json-seq", "rows.csv", "rows.sse"])
@each_row("name", [name for name in chunkwise.FORMATS if name != "text"])
def test_file_range_is_sent_in_every_format(server: Serving, file: str, name: str) -> None:
    whole = Response(server, f"/{file}?limit=99&format={name}")
    assert whole.status == 200
    assert whole.headers["accept-ranges"] == "items"
    assert decoded(name, whole.body) == ROWS
    for start in (0, 1, 13, COUNT, COUNT + 5):
        rest = Response(server, f"/{file}?limit=99&format={name}", "-H", f"Range: items={start}-")
        assert rest.status == 206
        assert rest.headers["content-range"] == f"items {start}-*/*"
        assert decoded(name, rest.body) == ROWS[start:]
        assert rest.headers["etag"] == whole.headers["etag"]


@needs_curl
@pytest.mark.parametrize("file", ["rows.json", "rows.ndjson", "rows.json-seq", "rows.csv", "words.txt"])
def test_unconverted_file_has_byte_and_item_ranges(server: Serving, file: str) -> None:
    content = files_of(ROWS)[file]
    assert isinstance(content, str)
    whole = Response(server, f"/{file}")
    assert (whole.status, whole.body) == (200, content.encode())
    assert whole.headers["accept-ranges"] == "bytes, items"
    name = file.partition(".")[2].replace("txt", "text")
    items = decoded(name, whole.body)
    for start in range(len(items) + 2):
        rest = Response(server, f"/{file}", "-H", f"Range: items={start}-", "-H", f"If-Range: {whole.headers['etag']}")
        assert (rest.status, rest.headers["content-range"]) == (206, f"items {start}-*/*")
        assert decoded(name, rest.body) == items[start:]
        assert rest.headers["etag"] == f"W/{whole.headers['etag']}"
        assert rest.headers["content-type"] == whole.headers["content-type"]
    part = Response(server, f"/{file}", "-H", "Range: bytes=4-8")
    assert (part.status, part.body) == (206, content.encode()[4:9])
    assert part.headers["accept-ranges"] == "bytes, items"
    assert Response(server, f"/{file}", "-I").headers["accept-ranges"] == "bytes, items"
    some = Response(server, f"/{file}?range=items=1-2")
    assert (some.status, decoded(name, some.body)) == (206, items[1:3])


@needs_curl
def test_sse_file_has_no_item_ranges(server: Serving) -> None:
    whole = Response(server, "/rows.sse", "-H", "Range: items=3-")
    assert (whole.status, whole.body.count(b"event: row")) == (200, COUNT)
    assert whole.headers["accept-ranges"] == "bytes"
    assert decoded("ndjson", Response(server, "/rows.sse?format=ndjson", "-H", "Range: items=3-").body) == ROWS[3:]


@needs_curl
@pytest.mark.parametrize("asked", ["lines=3-", "items", "x", "=3-"])
def test_unknown_range_unit_is_ignored(server: Serving, asked: str) -> None:
    assert Response(server, "/rows.json", "-H", f"Range: {asked}").status == 200


@needs_curl
def test_range_needs_the_current_etag(server: Serving) -> None:
    etag = Response(server, "/rows.csv").headers["etag"]
    for condition, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200)):
        assert Response(server, "/rows.csv", "-H", "Range: bytes=4-8", "-H", f"If-Range: {condition}").status == status
    for condition, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 206)):
        assert Response(server, "/rows.csv", "-H", "Range: items=4-", "-H", f"If-Range: {condition}").status == status


@needs_curl
def test_if_range_must_match_exactly(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"rows.csv": "n\n1\n2\n"})
    os.utime(folder / "rows.csv", (1_700_000_000.5,) * 2)
    with serving(folder) as running:
        whole = Response(running, "/rows.csv")
        etag, modified = whole.headers["etag"], whole.headers["last-modified"]
        assert modified == "Tue, 14 Nov 2023 22:13:21 GMT"
        part = ("-H", "Range: bytes=4-")
        for condition, status in (
            (etag, 206),
            (modified, 206),
            (f"W/{etag}", 200),
            (f'{etag}, "other"', 200),
            (etag.strip('"'), 200),
            ("Tue, 14 Nov 2023 22:13:20 GMT", 200),
            ("Tue, 14 Nov 2023 22:13:22 GMT", 200),
            ("Fri, 01 Jan 2100 00:00:00 GMT", 200),
            ("zz", 200),
            ("'a'", 200),
        ):
            response = Response(running, "/rows.csv", *part, "-H", f"If-Range: {condition}")
            assert (condition, response.status) == (condition, status)
            assert response.body == (whole.body[4:] if status == 206 else whole.body)
        # The header is present, but empty.
        assert Response(running, "/rows.csv", *part, "-H", "If-Range;").status == 200
        # The file is replaced by an older file, such as a backup.
        older = folder_of(tmp_path / "other", {"older": "m\n3\n4\n"}) / "older"
        os.utime(older, (1_600_000_000,) * 2)
        older.replace(folder / "rows.csv")
        for condition in (etag, modified):
            response = Response(running, "/rows.csv", *part, "-H", f"If-Range: {condition}")
            assert (response.status, response.body) == (200, b"m\n3\n4\n")


@needs_curl
def test_range_counts_items_after_path_and_limit(server: Serving) -> None:
    names = [row["name"] for row in ROWS]
    rest = Response(server, "/tree.json?path=users.item.name&limit=10&interval=0.001", "-H", "Range: items=7-")
    assert (rest.status, json.loads(rest.body)) == (206, names[7:10])
    assert json.loads(Response(server, "/tree.json?path=users.item.name", "-H", "Range: items=18-").body) == names[18:]
    assert json.loads(Response(server, "/rows.csv?path=name&format=json", "-H", "Range: items=18-").body) == names[18:]
    assert json.loads(Response(server, "/rows.json?limit=5", "-H", "Range: items=9-").body) == []
    missing = Response(server, "/tree.json?path=users.item.age", "-H", "Range: items=7-")
    assert missing.status == 404


@needs_curl
def test_text_without_line_ends_is_not_resumable(server: Serving) -> None:
    response = Response(server, "/tree.json?path=users.item.name&format=text", "-H", "Range: items=7-")
    assert (response.status, response.body.decode()) == (200, "".join(row["name"] for row in ROWS))
    assert "accept-ranges" not in response.headers
    assert Response(server, "/words.txt?limit=2").body == b"one\n\n"


async def test_websocket_url_selects_a_range(server: Serving) -> None:
    async with ClientSession() as session:
        url = server.url("/rows.csv?range=items=17-").replace("http", "ws")
        async with session.ws_connect(url) as websocket:
            assert [item async for item in chunkwise.items(websocket)] == ROWS[17:]


# --- disconnects


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(reconnecting, "_MAX_PAUSE_SECONDS", 0.01)


MANY = [{"n": str(index), "name": f"é{index}" * (index % 7)} for index in range(20_000)]
MARKED = [f"\ufeff{row['name']}" for row in MANY]  # each line starts with a byte order mark, so each range does
CUTS = 40


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = folder_of(tmp_path_factory.mktemp("many"), files_of(MANY))
    (folder / "words.txt").write_text("\n".join(["\ufeff" + MARKED[0], *MARKED[1:]]))
    with serving(folder) as running:
        yield running


def port_of(server: Serving) -> int:
    return int(server.base.rpartition(":")[2])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/rows.json", MANY),
        ("/rows.ndjson", MANY),
        ("/rows.json-seq", MANY),
        ("/rows.csv", MANY),
        ("/words.txt", MARKED),
        ("/rows.csv?format=json", MANY),
        ("/rows.json?format=csv", MANY),
        ("/rows.json?format=sse", MANY),
        ("/rows.sse?format=ndjson", MANY),
        ("/tree.json?path=users.item&format=ndjson", MANY),
        ("/tree.json?path=users.item.name", [row["name"] for row in MANY]),
        ("/words.txt?limit=15000", MARKED[:15_000]),
    ],
)
@pytest.mark.usefixtures("hurry")
async def test_file_is_complete_after_many_disconnects(many: Serving, path: str, expected: list[Any]) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)  # noqa: T201 - shown where the test fails
    chosen = random.Random(seed)
    faults = [(cut_at if chosen.random() < 0.5 else reset_at)(chosen.randrange(9_000), of="body") for _ in range(CUTS)]
    async with (
        FaultProxy("127.0.0.1", port_of(many), faults) as proxy,
        ClientSession() as session,
        asyncio.timeout(GUARD_SECONDS),
        chunkwise.open_stream(session, proxy.url(path), max_reconnects=CUTS) as stream,
    ):
        items = [item async for item in stream]
    assert items == expected
    assert stream.reconnects > 5  # the whole file may be received before the last cut
    assert stream.end != "unknown"


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/rows.json", ("--format", "json")),
        ("/rows.ndjson", ()),
        ("/rows.csv", ("--format", "csv")),
        ("/rows.ndjson", ("--path", "name")),
        ("/tree.json?path=users.item&format=sse", ()),
    ],
)
async def test_get_writes_whole_file_after_disconnects(
    many: Serving, tmp_path: Path, path: str, options: tuple[str, ...]
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "output"
    assert run("get", many.url(path), "-o", whole, *options).code == 0
    async with FaultProxy("127.0.0.1", port_of(many), [cut_at(30_000), reset_at(20_000), cut_at(9_000)]) as proxy:
        done = await asyncio.to_thread(run, "get", proxy.url(path), "-o", output, *options)
    assert done.code == 0
    assert all(line.endswith("; connecting again") for line in done.err.splitlines())
    assert 1 <= done.err.count("\n") <= 3
    assert output.read_bytes() == whole.read_bytes()
    assert proxy.connections >= 4


async def read_on(batches: AsyncIterator[list[Any]], items: list[Any]) -> None:
    async for batch in batches:
        items += batch


@pytest.mark.parametrize("query", ["", "?format=ndjson"])
@pytest.mark.usefixtures("hurry")
async def test_versions_of_changed_file_are_never_mixed(tmp_path: Path, query: str) -> None:
    folder = folder_of(tmp_path, files_of(MANY))
    file = folder / "rows.csv"
    with serving(folder) as running:
        async with (
            FaultProxy("127.0.0.1", port_of(running), [cut_at(20_000)]) as proxy,
            ClientSession() as session,
            chunkwise.open_stream(session, proxy.url(f"/rows.csv{query}")) as stream,
        ):
            batches = stream.batches()
            items = await anext(batches)
            other = folder / "other"
            other.write_bytes(file.read_bytes().replace("é".encode(), "ü".encode()))
            other.replace(file)
            with pytest.raises(TruncatedError, match="changed: got the ETag"):
                await read_on(batches, items)
    assert items == MANY[: len(items)]


@needs_curl
def test_file_changed_while_sent_is_an_error(tmp_path: Path) -> None:
    """30 MB do not fit into the buffers, so the server has not read the whole file yet when it changes."""
    folder = folder_of(tmp_path, {"rows.ndjson": f'"{"x" * 1021}"\n' * 30_000})
    with serving(folder) as running, started("curl", "-sSN", running.url("/rows.ndjson?format=json")) as reading:
        assert reading.stdout.read(2) == b'["'
        with (folder / "rows.ndjson").open("a") as writing:
            writing.write("1\n")
        assert reading.end().code == 18
        assert "the file has changed" in running.running.err
        assert "Traceback" not in running.running.err
