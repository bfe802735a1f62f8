"""`chunkwise serve`: the responses for a file."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from chunkwise.cli.files import _source
from chunkwise.cli.listening import _OneLine
from chunkwise.cli.publishing import Published
from chunkwise.cli.serve import make_app
from chunkwise.formats import FORMATS
from tests.cli.running import Done, Serving, curl, folder_of, run, serving, started
from tests.each_row import each_row
from tests.needs import needs_curl

pytestmark = needs_curl

ROWS = [{"n": index, "name": f"é{index}"} for index in range(5)]
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    rows = json.dumps(ROWS)
    files: dict[str, str | bytes] = {
        "rows.json": rows,
        "rows.ndjson": "".join(json.dumps(row) + "\n" for row in ROWS),
        "rows.csv": "n,name\r\n" + "".join(f"{row['n']},{row['name']}\r\n" for row in ROWS),
        "words.txt": "one\ntwo\n",
        "tree.json": json.dumps({"users": ROWS, "count": 5}),
        "deep/er/rows.json": rows,
        "empty.json": "[]",
    }
    with serving(folder_of(tmp_path_factory.mktemp("served"), files)) as running:
        yield running
        assert not running.running.err


def status_and_body(url: str, *options: str) -> tuple[str, bytes]:
    got = curl(url, *options, "-w", "%{stderr}%{http_code} %{content_type}")
    assert got.code == 0
    return got.err, got.out


def problem(got: tuple[str, bytes]) -> dict[str, Any]:
    """Return the problem details (RFC 9457) of a response, which must have some."""
    status_line, body = got
    status, content_type = status_line.split(" ", 1)
    details: dict[str, Any] = json.loads(body)
    assert content_type == "application/problem+json"
    assert details["status"] == int(status)
    return details


# --- items are sent one by one


def test_first_line_is_sent_before_the_second_is_made(server: Serving) -> None:
    url = server.url("/rows.json?format=ndjson&interval=60&limit=2")
    with started("curl", "-sSN", url) as reading:
        assert json.loads(reading.stdout.readline()) == ROWS[0]
        assert reading.is_running()
        reading.process.terminate()
        assert not reading.end().out


@pytest.mark.parametrize("file", ["rows.json", "rows.csv"])
def test_first_array_item_is_sent_before_the_second(server: Serving, file: str) -> None:
    with started("curl", "-sSN", server.url(f"/{file}?format=json&interval=60&limit=2")) as reading:
        assert reading.stdout.read(1) == b"["
        received = b""
        while not received.endswith(b"}"):
            received += reading.stdout.read(1)
        assert json.loads(received)["name"] == "é0"
        assert reading.is_running()
        reading.process.terminate()
        assert not reading.end().out


def test_interval_response_is_complete(server: Serving) -> None:
    got = curl(server.url("/rows.json?interval=0.01"), "-N")
    assert got.code == 0
    assert json.loads(got.out) == ROWS


@pytest.mark.parametrize("interval", ["-1", "61", "nan", "inf", "x", ""])
def test_invalid_interval_is_rejected(server: Serving, interval: str) -> None:
    details = problem(status_and_body(server.url(f"/rows.json?interval={interval}")))
    assert details["status"] == 400
    assert details["detail"] == f"interval: expected 0 to 60 seconds, got {interval!r}"


# --- path and limit


def test_path_selects_inner_values(server: Serving) -> None:
    assert json.loads(curl(server.url("/tree.json?path=users.item.n")).out) == [0, 1, 2, 3, 4]
    assert json.loads(curl(server.url("/rows.ndjson?path=name&format=json")).out) == [row["name"] for row in ROWS]
    assert json.loads(curl(server.url("/rows.csv?path=n&format=json")).out) == ["0", "1", "2", "3", "4"]


def test_path_that_selects_nothing_is_not_found(server: Serving) -> None:
    details = problem(status_and_body(server.url("/tree.json?path=users.item.age")))
    assert details["status"] == 404
    assert "'users.item.age' was not found" in details["detail"]


@pytest.mark.parametrize("file", ["words.txt", "rows.csv"])
def test_path_unsupported_by_format_is_rejected(server: Serving, file: str) -> None:
    assert problem(status_and_body(server.url(f"/{file}?path=a.b&format=json")))["status"] == 400


@pytest.mark.parametrize(("limit", "count"), [("0", 0), ("1", 1), ("3", 3), ("5", 5), ("6", 5), ("9" * 18, 5)])
def test_limit_is_the_most_items_sent(server: Serving, limit: str, count: int) -> None:
    assert json.loads(curl(server.url(f"/rows.json?limit={limit}")).out) == ROWS[:count]
    assert len(curl(server.url(f"/rows.csv?limit={limit}&format=ndjson")).lines) == count


@pytest.mark.parametrize("limit", ["-1", "1.5", "x", "", "%C2%B2", "9" * 19])
def test_invalid_limit_is_rejected(server: Serving, limit: str) -> None:
    details = problem(status_and_body(server.url(f"/rows.json?limit={limit}")))
    assert details["status"] == 400
    assert details["detail"].startswith("limit: expected a whole number of items, got ")


# --- formats


@each_row("file", ["rows.json", "rows.csv", "words.txt"])
@each_row("accept", [BROWSER, "*/*", ""])
def test_accept_anything_gets_the_file_unchanged(server: Serving, file: str, accept: str) -> None:
    # An empty header removes curl's default.
    status, body = status_and_body(server.url(f"/{file}"), "-H", f"Accept: {accept}" if accept else "Accept:")
    assert status.startswith("200 ")
    assert curl(server.url(f"/{file}"), "-H", "Accept: application/json").out != b""
    suffix_types = {"rows.json": "application/json", "rows.csv": "text/csv", "words.txt": "text/plain"}
    assert status.split(" ")[1].rstrip(";") == suffix_types[file]
    assert body.startswith({"rows.json": b"[", "rows.csv": b"n,name", "words.txt": b"one"}[file])


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/jsonl", "application/x-ndjson"),
        ("text/csv;q=0.5, text/event-stream", "text/event-stream"),
        ("text/*", "text/event-stream"),
        ("application/json;q=0, */*;q=0.1", "application/x-ndjson"),
    ],
)
def test_accept_header_selects_the_format(server: Serving, accept: str, content_type: str) -> None:
    status, _ = status_and_body(server.url("/rows.json"), "-H", f"Accept: {accept}")
    assert status.split(";")[0] == f"200 {content_type}"


def test_format_parameter_overrides_accept_header(server: Serving) -> None:
    status, _ = status_and_body(server.url("/rows.json?format=csv"), "-H", "Accept: application/json")
    assert status.startswith("200 text/csv")


def test_every_response_varies_by_accept(server: Serving) -> None:
    for path in ("/", "/rows.json", "/rows.json?format=sse"):
        assert curl(server.url(path), "-w", "%{stderr}%header{vary}").err.startswith("Accept")


def test_unknown_format_error_lists_all_formats(server: Serving) -> None:
    details = problem(status_and_body(server.url("/rows.json?format=xml")))
    assert details["status"] == 400
    assert "'xml'" in details["detail"]
    assert "ndjson" in details["detail"]


def test_unacceptable_formats_are_listed_with_406(server: Serving) -> None:
    details = problem(status_and_body(server.url("/rows.json"), "-H", "Accept: image/png"))
    assert details["status"] == 406
    assert "text/csv" in details["available"]


def test_empty_file_is_complete_in_every_format(server: Serving) -> None:
    for name, body in {"json": b"[]", "ndjson": b"", "json-seq": b"", "sse": b"", "csv": b"", "text": b""}.items():
        got = curl(server.url(f"/empty.json?format={name}"))
        assert (got.code, got.out) == (0, body)


# --- routes


@each_row("path", ["/nothing.json", "/deep", "/deep/", "/rows", "/rows.json/", "//rows.json", "/%00"])
def test_unknown_route_is_not_found(server: Serving, path: str) -> None:
    assert problem(status_and_body(server.url(path)))["status"] == 404


def test_route_of_file_is_its_path_in_folder(server: Serving) -> None:
    assert json.loads(curl(server.url("/deep/er/rows.json")).out) == ROWS


def test_only_reading_is_allowed(server: Serving) -> None:
    status, _ = status_and_body(server.url("/rows.json"), "-d", "x")
    assert status.startswith("405")


# --- files that cannot be read


BROKEN = '[{"n": 1},\n {"n": 2},\n {"n": oops}]'
PLACE = "(format json, item 2, byte 29)"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    files: dict[str, str | bytes] = {
        "broken.json": BROKEN,
        "at-once.json": "{oops",
        "cut.json": '[1, 2, {"n": ',
        "odd.json": '[{"n": 1}, {"m": 2}]',
        "deep.json": "[1," + "[" * 600,
    }
    with serving(folder_of(tmp_path_factory.mktemp("broken"), files)) as running:
        yield running


def told_since(server: Serving, before: str) -> str:
    return server.running.err.removeprefix(before)


@pytest.mark.parametrize(
    ("file", "received", "why"),
    [
        ("broken.json", b'{"n":1}\n{"n":2}\n', PLACE),
        ("cut.json", b"1\n2\n", "format json, 2 items and 13 bytes"),
        ("deep.json", b"1\n", "item 1, byte"),
    ],
)
def test_broken_file_sends_items_then_breaks_off(broken: Serving, file: str, received: bytes, why: str) -> None:
    before = broken.running.err
    got = curl(broken.url(f"/{file}?format=ndjson"))
    assert got.out == received
    assert got.code == 18  # curl's exit code for a partial file
    message = told_since(broken, before)
    assert why in message
    assert "Traceback" not in message


def test_file_broken_at_start_is_a_500_with_position(broken: Serving) -> None:
    details = problem(status_and_body(broken.url("/at-once.json?format=ndjson")))
    assert details["status"] == 500
    assert "the file cannot be read" in details["detail"]
    assert "item 0, byte 1" in details["detail"]


def test_unencodable_item_breaks_response_off(broken: Serving) -> None:
    before = broken.running.err
    got = curl(broken.url("/odd.json?format=csv"))
    assert (got.code, got.out) == (18, b"n\r\n1\r\n")
    message = told_since(broken, before)
    assert "columns m" in message
    assert "item 1" in message
    assert "Traceback" not in message


def test_unconverted_broken_file_is_sent_unchanged(broken: Serving) -> None:
    assert curl(broken.url("/broken.json")) == Done(0, BROKEN.encode(), "")


def becomes_nothing(file: Path) -> None:
    file.unlink()


def becomes_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def becomes_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("change", [becomes_nothing, becomes_a_folder, becomes_a_pipe])
def test_removed_file_is_a_404_without_its_path(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = folder_of(tmp_path, {"gone.json": "[1]", "stays.json": "[2]"})
    with serving(folder) as running:
        change(folder / "gone.json")
        for query in ("", "?format=csv", "?format=text", "?range=items=1-", "?path=item.a"):
            details = problem(status_and_body(running.url(f"/gone.json{query}")))
            assert (details["status"], details["detail"]) == (
                404,
                "nothing is published at /gone.json; the URL / lists all files and tables",
            )
        assert [entry["url"] for entry in json.loads(curl(running.url("/")).out)] == ["/stays.json"]
        assert not running.running.err


async def test_file_removed_before_reading_is_not_found(tmp_path: Path) -> None:
    """The file exists when the request is checked, but not when the server opens it."""
    file = tmp_path / "gone.json"
    file.write_text("[1]")
    entry = Published("/gone.json", file, FORMATS["json"], None)
    source = _source(entry, "", None, 0.0, FORMATS["csv"]).start(0)
    file.unlink()
    with pytest.raises(web.HTTPNotFound) as raised:
        await anext(aiter(source))
    assert str(tmp_path) not in str(raised.value.text)


class Going(Published):
    """A file that is removed as soon as `is_there` has checked it."""

    def is_there(self) -> bool:
        there = super().is_there()
        self.file.unlink(missing_ok=True)
        return there


@pytest.mark.parametrize("query", ["", "?format=csv", "?limit=1"])
async def test_file_removed_while_opening_is_not_found(tmp_path: Path, query: str) -> None:
    file = tmp_path / "gone.json"
    file.write_text("[1]")
    app = make_app([Going("/gone.json", file, FORMATS["json"], None)])
    headers = {"Range": "bytes=1-", "If-Range": formatdate(usegmt=True)}
    async with (
        TestServer(app) as server,
        ClientSession() as session,
        session.get(server.make_url(f"/gone.json{query}"), headers=headers) as got,
    ):
        assert got.status == 404
        assert str(tmp_path) not in await got.text()


def test_failure_before_first_item_is_logged(broken: Serving) -> None:
    before = broken.running.err
    curl(broken.url("/at-once.json?format=ndjson"))
    [message] = told_since(broken, before).splitlines()
    assert message.startswith("chunkwise: GET /at-once.json?format=ndjson: 500: the file cannot be read: ")
    assert "item 0, byte 1" in message
    before = broken.running.err
    assert problem(status_and_body(broken.url("/at-once.json?path=item.a&format=json")))["status"] == 500
    assert told_since(broken, before).count("\n") == 1


def test_named_pipe_is_served(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.ndjson"
    os.mkfifo(pipe)
    with serving(pipe) as running, started("curl", "-sS", running.url("/pipe.ndjson?format=json")) as reading:
        pipe.write_text("1\n2\n")
        assert reading.end().out == b"[1,2]"


def test_client_disconnect_is_not_an_error(tmp_path: Path) -> None:
    with serving(folder_of(tmp_path, {"rows.json": "[" + ",".join(["1"] * 100_000) + "]"})) as running:
        with started("curl", "-sSN", running.url("/rows.json?format=sse"), stdout=subprocess.PIPE) as reading:
            reading.stdout.readline()
        with started("curl", "-sSN", running.url("/rows.json?format=ndjson&interval=0.01")) as reading:
            reading.stdout.readline()
        assert curl(running.url("/rows.json?limit=1")).out == b"[1]"
        assert not running.running.err


def test_unexpected_failure_shows_its_traceback() -> None:
    texts = []
    for error in (LookupError("unforeseen"), OSError("the file is gone")):
        try:
            raise error
        except Exception:
            texts.append(_OneLine().formatException(sys.exc_info()))
    assert texts[0].startswith("Traceback")
    assert texts[1] == "  the file is gone"


def test_websocket_sends_whole_file_or_selection(tmp_path: Path) -> None:
    folder_of(tmp_path, {"rows.json": json.dumps(ROWS)})
    with serving(tmp_path) as served:
        url = served.url("/rows.json").replace("http:", "ws:")
        whole, selected = run("get", url), run("get", f"{url}?path=item.name&limit=2")
    assert (whole.code, [json.loads(line) for line in whole.lines]) == (0, ROWS)
    assert (selected.code, [json.loads(line) for line in selected.lines]) == (0, [row["name"] for row in ROWS[:2]])
