"""`chunkwise serve`: which files have a route, and the index that lists them."""

import gzip
import json
import os
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from aiohttp.test_utils import TestClient, TestServer

from chunkwise.cli.publishing import find_files
from chunkwise.cli.serve import make_app
from tests.cli.running import CHUNKWISE, Serving, curl, folder_of, run, run_any, serving
from tests.each_row import each_row
from tests.needs import needs_curl, needs_linux

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
ODD_NAMES = [
    "plain.json",
    "with two spaces.json",
    'say "quoted".json',
    "it's.json",
    "<b>bold<.json",
    "a&amp;b&c.json",
    "ünïcödé 日本.json",
    "100%.json",
    "%41.json",
    "A.json",
    "#hash.json",
    "what?format=csv.json",
    "plus+plus.json",
    "semi;colon.json",
    "[1-3]{a,b}.json",
    "back\\slash.json",
    "back/slash.json",
    "new\nline.json",
    "..json.json",
    "UPPER.JSON",
    os.fsdecode(b"\xff not unicode.json"),
]


class Links(HTMLParser):
    """The addresses of a page's links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if (tag, name) == ("a", "href")]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    names = [name for name in ODD_NAMES if not name.startswith(".")]
    folder = folder_of(
        tmp_path_factory.mktemp("odd"), {name: json.dumps([name.encode(errors="replace").decode()]) for name in names}
    )
    with serving(folder) as running:
        yield running
        assert not running.running.err


@needs_curl
def test_every_link_of_a_browsers_index_works_for_any_file_name(odd: Serving) -> None:
    got = curl(odd.url("/"), "-H", f"Accept: {BROWSER}", "-w", "%{stderr}%{content_type}")
    assert got.err == "text/html; charset=utf-8"
    links = [urljoin(odd.url("/"), link) for link in Links(got.out.decode()).found]
    plain = [link for link in links if "?format=" not in link]
    contents = [json.loads(curl(link).out)[0] for link in plain]
    assert sorted(contents) == sorted(
        name.encode(errors="replace").decode() for name in ODD_NAMES if not name.startswith(".")
    )
    assert len(links) == 6 * len(plain)
    for link in plain:
        assert json.loads(curl(f"{link}?format=ndjson").out) == json.loads(curl(link).out)[0]
    assert [link for link in links if link.endswith("?format=ndjson")] == [f"{link}?format=ndjson" for link in plain]


@needs_curl
@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/png"])
def test_other_clients_get_the_same_index_in_json(odd: Serving, accept: str) -> None:
    got = curl(odd.url("/"), "-H", f"Accept: {accept}", "-w", "%{stderr}%{content_type}")
    assert got.err.partition(";")[0] == "application/json"
    entries = json.loads(got.out)
    page = curl(odd.url("/"), "-H", "Accept: text/html").out.decode()
    assert [entry["url"] for entry in entries] == [link for link in Links(page).found if "?format=" not in link]
    for entry in entries:
        assert entry["bytes"] == len(curl(urljoin(odd.url("/"), entry["url"])).out)
        assert entry["format"] == "json"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A folder with what must not be served, inside and around it."""
    around = tmp_path_factory.mktemp("around")
    folder = folder_of(
        around / "served",
        {"open.json": "[1]", ".hidden.json": "[0]", ".git/config.json": "[0]", "in/.hid/x.json": "[0]", "x.exe": "0"},
    )
    folder_of(around, {"secret.json": "[0]", "secrets/more.json": "[0]"})
    (folder / "inside.json").symlink_to(folder / "open.json")
    (folder / "outside.json").symlink_to(around / "secret.json")
    (folder / "relative.json").symlink_to("../secret.json")
    (folder / "secrets").symlink_to(around / "secrets")
    (folder / "nowhere.json").symlink_to(around / "nothing.json")
    (folder / "folder.json").mkdir()
    with serving(folder) as running:
        yield running


@needs_curl
def test_only_the_visible_files_of_the_folder_are_listed(guarded: Serving) -> None:
    entries = json.loads(curl(guarded.url("/")).out)
    assert [entry["url"] for entry in entries] == ["/inside.json", "/open.json"]
    assert curl(guarded.url("/inside.json")).out == b"[1]"


@needs_curl
@each_row(
    "path",
    [
        "/.hidden.json",
        "/.git/config.json",
        "/in/.hid/x.json",
        "/x.exe",
        "/outside.json",
        "/relative.json",
        "/secrets/more.json",
        "/folder.json",
        "/../secret.json",
        "/%2e%2e/secret.json",
        "/..%2fsecret.json",
        "/in/../../secret.json",
        "/in/../.hidden.json",
        "/./.hidden.json",
        "//../secret.json",
        "/served/open.json",
    ],
)
def test_nothing_else_is_served(guarded: Serving, path: str) -> None:
    got = curl(guarded.url(path), "--path-as-is", "-w", "%{stderr}%{http_code}")
    assert got.err == "404"
    assert got.out != b"[0]"


@needs_curl
def test_a_compressed_neighbour_is_another_file_and_never_sent_in_a_files_place(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"one.json": "[1]", "one.json.gz": gzip.compress(b"[2]"), "one.json.br": b"[3]"})
    with serving(folder / "one.json") as running:
        got = curl(running.url("/one.json"), "-H", "Accept-Encoding: gzip, br", "-w", "%{stderr}%header{vary}")
    assert (got.out, got.err) == (b"[1]", "Accept")


@needs_curl
def test_files_that_are_named_have_the_routes_of_their_names(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a/one.json": "[1]", "b/two.csv": "n\n2\n", "c/in/three.ndjson": "3\n"})
    with serving(folder / "a/one.json", folder / "b/two.csv", folder / "c") as running:
        entries = json.loads(curl(running.url("/")).out)
        assert [entry["url"] for entry in entries] == ["/in/three.ndjson", "/one.json", "/two.csv"]


def test_two_files_with_one_route_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a/rows.json": "[1]", "b/rows.json": "[2]"})
    done = run("serve", folder / "a/rows.json", folder / "b")
    assert done.code == 2
    assert done.told.endswith("would both be /rows.json: publish the folder that holds both")


def test_a_folder_without_any_file_to_serve_is_refused(tmp_path: Path) -> None:
    done = run("serve", folder_of(tmp_path / "empty", {"x.exe": "0", ".hidden.json": "[0]", "in/x": ""}))
    assert done.code == 9
    assert done.told.startswith(f"nothing to publish in {tmp_path / 'empty'}: expected files that end in .json")


def test_a_database_among_the_files_is_refused_with_the_option_that_publishes_it(tmp_path: Path) -> None:
    file = folder_of(tmp_path, {"shop.DB": b""}) / "shop.DB"
    done = run("serve", file)
    assert (done.code, done.told) == (
        9,
        f"'shop.DB' is no file of items: expected sqlite:///{file} for the tables of a database",
    )


def test_a_file_of_no_known_format_is_refused(tmp_path: Path) -> None:
    done = run("serve", folder_of(tmp_path, {"x.exe": "0"}) / "x.exe")
    assert done.code == 9
    assert "'x.exe'" in done.told


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = run("serve", tmp_path / "nothing.json")
    assert (done.code, done.told) == (10, f"{tmp_path / 'nothing.json'}: no such file or folder")


@needs_linux
def test_only_this_machine_can_connect_by_default(tmp_path: Path) -> None:
    """All of 127.0.0.0/8 is this machine's on Linux: 127.0.0.2 stands for its address in the network."""
    folder = folder_of(tmp_path, {"rows.json": "[1]"})
    with serving(folder) as running:
        address, _, port = running.base.removeprefix("http://").partition(":")
        assert address == "127.0.0.1"
        with socket.socket() as elsewhere:
            assert elsewhere.connect_ex(("127.0.0.2", int(port))) != 0
    with serving("--host", "0.0.0.0", folder) as running, socket.socket() as elsewhere:
        assert elsewhere.connect_ex(("127.0.0.2", int(running.base.rpartition(":")[2]))) == 0


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_any(*CHUNKWISE, "serve", "--port", port, folder_of(tmp_path, {"rows.json": "[1]"}))
    assert done.code == 3
    assert done.told == f"port {port} of 127.0.0.1 is taken: choose another with --port, 0 for any"


def test_a_host_of_another_machine_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"rows.json": "[1]"})
    for host in ("203.0.113.1", "no such host"):
        done = run_any(*CHUNKWISE, "serve", "--host", host, "--port", 0, folder)
        assert done.code == 3
        assert host in done.told


async def test_a_file_replaced_by_a_link_out_of_its_folder_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("[1]")
    folder = folder_of(tmp_path / "published", {"rows.json": b"[2]"})
    published = find_files([folder])
    (folder / "rows.json").unlink()
    (folder / "rows.json").symlink_to(tmp_path / "secret.json")
    async with TestClient(TestServer(make_app(published))) as client, client.get("/rows.json") as response:
        assert response.status == 404
