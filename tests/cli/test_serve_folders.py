"""`chunkwise serve`: which files have a route."""

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from chunkwise.cli.publishing import find_files
from chunkwise.cli.serve import make_app
from tests.cli.running import CHUNKWISE, Serving, curl, folder_of, run, run_any, serving
from tests.each_row import each_row
from tests.needs import needs_curl, needs_linux


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A folder with files that must not be served, in it and around it."""
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
def test_visible_files_of_a_folder_are_listed(guarded: Serving) -> None:
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
def test_other_paths_are_not_found(guarded: Serving, path: str) -> None:
    got = curl(guarded.url(path), "--path-as-is", "-w", "%{stderr}%{http_code}")
    assert got.err == "404"
    assert got.out != b"[0]"


@needs_curl
def test_compressed_neighbour_is_not_sent(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"one.json": "[1]", "one.json.gz": gzip.compress(b"[2]"), "one.json.br": b"[3]"})
    with serving(folder / "one.json") as running:
        got = curl(running.url("/one.json"), "-H", "Accept-Encoding: gzip, br", "-w", "%{stderr}%header{vary}")
    assert (got.out, got.err) == (b"[1]", "Accept")


@needs_curl
def test_named_files_have_their_names_as_routes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a/one.json": "[1]", "b/two.csv": "n\n2\n", "c/in/three.ndjson": "3\n"})
    with serving(folder / "a/one.json", folder / "b/two.csv", folder / "c") as running:
        entries = json.loads(curl(running.url("/")).out)
        assert [entry["url"] for entry in entries] == ["/in/three.ndjson", "/one.json", "/two.csv"]


def test_two_files_with_one_route_are_rejected(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a/rows.json": "[1]", "b/rows.json": "[2]"})
    done = run("serve", folder / "a/rows.json", folder / "b")
    assert done.code == 2
    assert done.message.endswith("would both be /rows.json: publish the folder that holds both")


def test_folder_without_known_files_is_refused(tmp_path: Path) -> None:
    done = run("serve", folder_of(tmp_path / "empty", {"x.exe": "0", ".hidden.json": "[0]", "in/x": ""}))
    assert done.code == 9
    assert done.message.startswith(f"nothing to publish in {tmp_path / 'empty'}: expected files that end in .json")


def test_database_file_is_refused_with_its_url(tmp_path: Path) -> None:
    file = folder_of(tmp_path, {"shop.DB": b""}) / "shop.DB"
    done = run("serve", file)
    assert (done.code, done.message) == (
        9,
        f"'shop.DB' is a database: use sqlite:///{file} to serve its tables",
    )


def test_file_of_unknown_format_is_refused(tmp_path: Path) -> None:
    done = run("serve", folder_of(tmp_path, {"x.exe": "0"}) / "x.exe")
    assert done.code == 9
    assert "'x.exe'" in done.message


def test_missing_file_is_refused(tmp_path: Path) -> None:
    done = run("serve", tmp_path / "nothing.json")
    assert (done.code, done.message) == (10, f"{tmp_path / 'nothing.json'}: no such file or folder")


@needs_linux
def test_default_host_is_this_machine(tmp_path: Path) -> None:
    """On Linux, all of 127.0.0.0/8 is this machine: 127.0.0.2 is like its address in the network."""
    folder = folder_of(tmp_path, {"rows.json": "[1]"})
    with serving(folder) as running:
        address, _, port = running.base.removeprefix("http://").partition(":")
        assert address == "127.0.0.1"
        with socket.socket() as elsewhere:
            assert elsewhere.connect_ex(("127.0.0.2", int(port))) != 0
    with serving("--host", "0.0.0.0", folder) as running, socket.socket() as elsewhere:
        assert elsewhere.connect_ex(("127.0.0.2", int(running.base.rpartition(":")[2]))) == 0


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_any(*CHUNKWISE, "serve", "--port", port, folder_of(tmp_path, {"rows.json": "[1]"}))
    assert done.code == 3
    assert (
        done.message
        == f"port {port} of 127.0.0.1 is in use: choose another one with --port, or any free one with --port 0"
    )


def test_host_of_another_machine_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"rows.json": "[1]"})
    for host in ("203.0.113.1", "no such host"):
        done = run_any(*CHUNKWISE, "serve", "--host", host, "--port", 0, folder)
        assert done.code == 3
        assert host in done.message


async def test_file_replaced_by_a_link_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("[1]")
    folder = folder_of(tmp_path / "published", {"rows.json": b"[2]"})
    published = find_files([folder])
    (folder / "rows.json").unlink()
    (folder / "rows.json").symlink_to(tmp_path / "secret.json")
    async with TestClient(TestServer(make_app(published))) as client, client.get("/rows.json") as response:
        assert response.status == 404
