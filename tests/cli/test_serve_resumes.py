"""`chunkwise serve`: the rest of a file, from any item on, as it is and converted; cut as often as one likes."""

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


class Answer:
    """What curl has got, with its headers."""

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


# --- what is asked for


@needs_curl
@each_row("file", ["rows.json", "rows.ndjson", "rows.json-seq", "rows.csv", "rows.sse"])
@each_row("name", [name for name in chunkwise.FORMATS if name != "text"])
def test_a_range_of_a_file_is_sent_in_every_format(server: Serving, file: str, name: str) -> None:
    whole = Answer(server, f"/{file}?limit=99&format={name}")
    assert whole.status == 200
    assert whole.headers["accept-ranges"] == "items"
    assert decoded(name, whole.body) == ROWS
    for start in (0, 1, 13, COUNT, COUNT + 5):
        rest = Answer(server, f"/{file}?limit=99&format={name}", "-H", f"Range: items={start}-")
        assert rest.status == 206
        assert rest.headers["content-range"] == f"items {start}-*/*"
        assert decoded(name, rest.body) == ROWS[start:]
        assert rest.headers["etag"] == whole.headers["etag"]


@needs_curl
@pytest.mark.parametrize("file", ["rows.json", "rows.ndjson", "rows.json-seq", "rows.csv", "words.txt"])
def test_the_file_itself_is_to_be_had_by_bytes_and_by_items(server: Serving, file: str) -> None:
    content = files_of(ROWS)[file]
    assert isinstance(content, str)
    whole = Answer(server, f"/{file}")
    assert (whole.status, whole.body) == (200, content.encode())
    assert whole.headers["accept-ranges"] == "bytes, items"
    name = file.partition(".")[2].replace("txt", "text")
    items = decoded(name, whole.body)
    for start in range(len(items) + 2):
        rest = Answer(server, f"/{file}", "-H", f"Range: items={start}-", "-H", f"If-Range: {whole.headers['etag']}")
        assert (rest.status, rest.headers["content-range"]) == (206, f"items {start}-*/*")
        assert decoded(name, rest.body) == items[start:]
        assert rest.headers["etag"] == f"W/{whole.headers['etag']}"
        assert rest.headers["content-type"] == whole.headers["content-type"]
    part = Answer(server, f"/{file}", "-H", "Range: bytes=4-8")
    assert (part.status, part.body) == (206, content.encode()[4:9])
    assert part.headers["accept-ranges"] == "bytes, items"
    assert Answer(server, f"/{file}", "-I").headers["accept-ranges"] == "bytes, items"
    some = Answer(server, f"/{file}?range=items=1-2")
    assert (some.status, decoded(name, some.body)) == (206, items[1:3])


@needs_curl
def test_events_of_a_file_have_ids_and_names_that_no_rest_of_its_items_would_have(server: Serving) -> None:
    whole = Answer(server, "/rows.sse", "-H", "Range: items=3-")
    assert (whole.status, whole.body.count(b"event: row")) == (200, COUNT)
    assert whole.headers["accept-ranges"] == "bytes"
    assert decoded("ndjson", Answer(server, "/rows.sse?format=ndjson", "-H", "Range: items=3-").body) == ROWS[3:]


@needs_curl
@pytest.mark.parametrize("asked", ["lines=3-", "items", "x", "=3-"])
def test_an_unknown_range_unit_is_ignored(server: Serving, asked: str) -> None:
    assert Answer(server, "/rows.json", "-H", f"Range: {asked}").status == 200


@needs_curl
def test_a_part_of_another_version_is_not_sent(server: Serving) -> None:
    etag = Answer(server, "/rows.csv").headers["etag"]
    for condition, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200)):
        assert Answer(server, "/rows.csv", "-H", "Range: bytes=4-8", "-H", f"If-Range: {condition}").status == status
    for condition, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 206)):
        assert Answer(server, "/rows.csv", "-H", "Range: items=4-", "-H", f"If-Range: {condition}").status == status


@needs_curl
def test_a_range_is_sent_only_if_its_condition_matches_the_file_exactly(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"rows.csv": "n\n1\n2\n"})
    os.utime(folder / "rows.csv", (1_700_000_000.5,) * 2)
    with serving(folder) as running:
        whole = Answer(running, "/rows.csv")
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
            answer = Answer(running, "/rows.csv", *part, "-H", f"If-Range: {condition}")
            assert (condition, answer.status) == (condition, status)
            assert answer.body == (whole.body[4:] if status == 206 else whole.body)
        assert Answer(running, "/rows.csv", *part, "-H", "If-Range;").status == 200  # there, and empty
        # An older file, as a backup is: it was there before the one that the client has.
        older = folder_of(tmp_path / "other", {"older": "m\n3\n4\n"}) / "older"
        os.utime(older, (1_600_000_000,) * 2)
        older.replace(folder / "rows.csv")
        for condition in (etag, modified):
            answer = Answer(running, "/rows.csv", *part, "-H", f"If-Range: {condition}")
            assert (answer.status, answer.body) == (200, b"m\n3\n4\n")


@needs_curl
def test_a_range_counts_the_items_that_path_and_limit_select(server: Serving) -> None:
    names = [row["name"] for row in ROWS]
    rest = Answer(server, "/tree.json?path=users.item.name&limit=10&interval=0.001", "-H", "Range: items=7-")
    assert (rest.status, json.loads(rest.body)) == (206, names[7:10])
    assert json.loads(Answer(server, "/tree.json?path=users.item.name", "-H", "Range: items=18-").body) == names[18:]
    assert json.loads(Answer(server, "/rows.csv?path=name&format=json", "-H", "Range: items=18-").body) == names[18:]
    assert json.loads(Answer(server, "/rows.json?limit=5", "-H", "Range: items=9-").body) == []
    missing = Answer(server, "/tree.json?path=users.item.age", "-H", "Range: items=7-")
    assert missing.status == 404


@needs_curl
def test_items_that_text_does_not_separate_cannot_be_resumed(server: Serving) -> None:
    answer = Answer(server, "/tree.json?path=users.item.name&format=text", "-H", "Range: items=7-")
    assert (answer.status, answer.body.decode()) == (200, "".join(row["name"] for row in ROWS))
    assert "accept-ranges" not in answer.headers
    assert Answer(server, "/words.txt?limit=2").body == b"one\n\n"


async def test_a_websocket_asks_in_its_url(server: Serving) -> None:
    async with ClientSession() as session:
        url = server.url("/rows.csv?range=items=17-").replace("http", "ws")
        async with session.ws_connect(url) as websocket:
            assert [item async for item in chunkwise.items(websocket)] == ROWS[17:]


# --- cut


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(reconnecting, "_MAX_PAUSE_SECONDS", 0.01)


MANY = [{"n": str(index), "name": f"é{index}" * (index % 7)} for index in range(20_000)]
MARKED = [f"\ufeff{row['name']}" for row in MANY]  # a byte order mark, wherever the rest begins
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
async def test_a_file_that_is_cut_many_times_is_downloaded_whole(many: Serving, path: str, expected: list[Any]) -> None:
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
async def test_get_has_the_whole_file_though_its_connection_breaks(
    many: Serving, tmp_path: Path, path: str, options: tuple[str, ...]
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "output"
    assert run("get", many.url(path), "-o", whole, *options).code == 0
    async with FaultProxy("127.0.0.1", port_of(many), [cut_at(30_000), reset_at(20_000), cut_at(9_000)]) as proxy:
        done = await asyncio.to_thread(run, "get", proxy.url(path), "-o", output, *options)
    assert done.code == 0
    assert all(line.endswith("; trying again") for line in done.err.splitlines())
    assert 1 <= done.err.count("\n") <= 3
    assert output.read_bytes() == whole.read_bytes()
    assert proxy.connections >= 4


async def read_on(batches: AsyncIterator[list[Any]], items: list[Any]) -> None:
    async for batch in batches:
        items += batch


@pytest.mark.parametrize("query", ["", "?format=ndjson"])
@pytest.mark.usefixtures("hurry")
async def test_a_file_that_has_changed_between_two_parts_is_never_a_mixture(tmp_path: Path, query: str) -> None:
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
def test_a_file_that_changes_while_it_is_sent_ends_in_an_error(tmp_path: Path) -> None:
    """30 MB are more than the buffers of a client that does not read: the server is still reading them."""
    folder = folder_of(tmp_path, {"rows.ndjson": f'"{"x" * 1021}"\n' * 30_000})
    with serving(folder) as running, started("curl", "-sSN", running.url("/rows.ndjson?format=json")) as reading:
        assert reading.stdout.read(2) == b'["'
        with (folder / "rows.ndjson").open("a") as writing:
            writing.write("1\n")
        assert reading.end().code == 18
        assert "the file has changed" in running.running.err
        assert "Traceback" not in running.running.err
