"""Failures of `chunkwise get` -> the items before on stdout, one line on stderr, and the exit code."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chunkwise.cli.exits import MEANINGS, Exit, one_line
from chunkwise.errors import RemoteError
from tests.cli import running
from tests.cli.raw_server import Respond, chunk, chunked, head, responding, responding_in_two, whole
from tests.cli.running import CHUNKWISE, Done, curl, folder_of, run, serving, started
from tests.each_row import each_row
from tests.needs import needs, needs_curl
from tests.transports.tls import CERTIFICATE

NDJSON = "application/x-ndjson"


def get(response: Respond | bytes, *words: object) -> Done:
    with responding(response) as url:
        return run("get", url, *words)


def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/"


# --- bad data


@pytest.mark.parametrize(
    ("content_type", "body", "out", "place"),
    [
        ("application/json", b'[1, {"n": 2}, oops, 4]', b'1\n{"n":2}\n', "(format json, item 2, byte 14)"),
        ("application/json", b'["a", "\xff"]', b'"a"\n', "(format json, item 1, byte 7)"),
        (NDJSON, b"1\n2\noops\n4\n", b"1\n2\n", "(format ndjson, item 2, byte 4)"),
        ("application/json-seq", b"\x1e1\n\x1eoops\n\x1e3\n", b"1\n", "(format json-seq, item 1, byte 4)"),
        ("text/csv", b"a,b\r\n1,2\r\n3\r\n", b'{"a":"1","b":"2"}\n', "(format csv, item 1, byte 10)"),
        ("text/plain", b"one\n\xfftwo\n", b'"one"\n', "(format text, item 1, byte 4)"),
    ],
)
def test_bad_data_is_reported_with_its_position(content_type: str, body: bytes, out: bytes, place: str) -> None:
    done = get(whole(content_type, body))
    assert (done.code, done.out) == (6, out)
    assert done.message.endswith(place)


@needs_curl
def test_broken_served_file_is_reported_on_both_sides(tmp_path: Path) -> None:
    body = '[{"n": 1}, {"n": 2}, oops]'
    with serving(folder_of(tmp_path, {"broken.json": body, "at-once.ndjson": "oops\n"})) as server:
        as_it_is = run("get", server.url("/broken.json"))
        assert (as_it_is.code, as_it_is.out) == (6, b'{"n":1}\n{"n":2}\n')
        assert as_it_is.message.endswith("(format json, item 2, byte 21)")
        assert not server.running.err
        converted = run("get", server.url("/broken.json?format=ndjson"))
        assert (converted.code, converted.out) == (4, b'{"n":1}\n{"n":2}\n')
        assert "failed after 2 items: Internal Server Error" in converted.message
        assert "(format json, item 2, byte 21)" in server.running.err
        assert curl(server.url("/broken.json?format=sse")).code == 18
        at_once = run("get", server.url("/at-once.ndjson?format=csv"))
        assert (at_once.code, at_once.out) == (4, b"")
        assert "500 Internal Server Error" in at_once.message
        assert "(format ndjson, item 0, byte 0)" in at_once.message
        assert "Traceback" not in server.running.err


@pytest.mark.parametrize(
    ("body", "out", "why"),
    [
        (b'{"a":1}\n{"a":2}\n{"a":3,"b":4}\n', b"a\r\n1\r\n2\r\n", "columns b"),
        (b'{"a":1}\n[2]\n', b"a\r\n1\r\n", "a CSV row must be a dict, got list"),
    ],
)
def test_item_that_csv_cannot_hold_is_reported(body: bytes, out: bytes, why: str) -> None:
    done = get(whole(NDJSON, body), "--format", "csv")
    assert (done.code, done.out) == (6, out)
    assert why in done.message
    assert done.message.endswith(f"(item {len(body.splitlines()) - 1})")


@pytest.mark.parametrize(
    ("body", "out", "why"),
    [
        (b"1\n" + b"[" * 600 + b"]" * 600 + b"\n", b"1\n", "512"),
        (b'1\n"' + b"x" * (64 * 2**20 + 1), b"1\n", "67108864"),
    ],
)
def test_item_over_limit_is_reported_with_limit(body: bytes, out: bytes, why: str) -> None:
    done = get(whole(NDJSON, body))
    assert (done.code, done.out) == (7, out)
    assert why in done.message
    assert "item 1" in done.message


# --- cut streams


CUT = {
    "in an item, chunked": (chunked(NDJSON, b"1\n2\n", b'{"n":'), "2 items and 9 bytes"),
    "between two items, chunked": (chunked(NDJSON, b"1\n2\n"), "2 items and 4 bytes"),
    "between two items, with a length": (
        head(f"Content-Type: {NDJSON}", "Content-Length: 100") + b"1\n2\n",
        "2 items and 4 bytes",
    ),
    "in an array of a whole body": (whole("application/json", b"[1, 2, "), "2 items and 7 bytes"),
    "in an event of a whole body": (whole("text/event-stream", b"data: 1\n\ndata: 2\n\ndata"), "2 items and 22 bytes"),
}


@pytest.mark.parametrize("where", CUT)
def test_cut_stream_is_reported_with_counts(where: str) -> None:
    response, received = CUT[where]
    done = get(response)
    assert done.code == 5
    assert done.out.startswith(b"1\n2\n")
    assert received in done.message


def test_messages_name_no_library_arguments() -> None:
    """The server offers ranges of items, but starts with the first item again."""
    fields = ("Content-Type: application/x-ndjson", "Transfer-Encoding: chunked", "Accept-Ranges: items")
    done = get(head(*fields) + chunk(b"1\n"))
    assert (done.code, done.out) == (5, b"1\n")
    broke, message = done.err.splitlines()
    assert broke.endswith("; connecting again")
    assert "requested the rest from item 1, but the server started at item 0: the server cannot resume (" in message
    assert "restart" not in message


def test_stalled_stream_is_reported_with_counts() -> None:
    with responding_in_two(chunked(NDJSON, b"1\n"), b"") as (url, _):
        done = run("get", url, "--timeout", "0.3")
    assert (done.code, done.out) == (5, b"1\n")
    assert "item 1, byte 2" in done.message
    assert "--timeout" in done.message


# --- no stream at all


def test_unreachable_server_is_reported() -> None:
    url = unused_address()
    done = run("get", url)
    assert (done.code, done.out) == (3, b"")
    assert url.removeprefix("http://").strip("/") in done.message


@pytest.mark.parametrize("response", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"])
def test_server_without_http_is_reported(response: bytes) -> None:
    done = get(response)
    assert (done.code, done.out) == (3, b"")
    assert done.message


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (
            whole("application/problem+json", b'{"title": "Out of stock", "detail": "no tea"}', status="503 Sorry"),
            "the server answered 503 Sorry: Out of stock: no tea",
        ),
        (whole("text/html", b"<h1>Not Found</h1>", status="404 Not Found"), "the server answered 404 Not Found"),
        (whole("application/problem+json", b'{"detail": "two\\nlines"}', status="500 Oops"), "500 Oops: two lines"),
        (whole("text/plain", b"cut", status="500 Oops").replace(b": 3", b": 30"), "the server answered 500 Oops"),
    ],
)
def test_error_status_is_reported_with_problem(response: bytes, message: str) -> None:
    done = get(response)
    assert (done.code, done.out) == (4, b"")
    assert message in done.message


def test_charset_other_than_utf_8_is_reported() -> None:
    done = get(whole("application/json; charset=latin-1", b"[]"))
    assert (done.code, done.out) == (9, b"")
    assert done.message.startswith("charset 'latin-1' in content type")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b'{"users": [{"n": 1}]}'), ("text/csv", b"n\r\n1\r\n")],
)
def test_path_that_selects_nothing_is_reported(content_type: str, body: bytes) -> None:
    done = get(whole(content_type, body), "--path", "nothing")
    assert (done.code, done.out) == (8, b"")
    assert "'nothing' was not found" in done.message


# --- files


def test_missing_output_folder_is_reported(tmp_path: Path) -> None:
    done = get(whole(NDJSON, b"1\n"), "-o", tmp_path / "nowhere" / "out")
    assert (done.code, done.out) == (10, b"")
    assert done.message == f"{tmp_path}/nowhere/out.part: No such file or directory"


@needs("/dev/full", present=Path("/dev/full").exists())
def test_full_disk_is_reported() -> None:
    with responding(whole(NDJSON, b"1\n")) as url, Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chunkwise", "get", url], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 10
    assert done.stderr == b"chunkwise: No space left on device\n"


@pytest.fixture
def unreadable(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that no command can read. For root, the commands run without the capability to read any file."""
    file = folder_of(tmp_path_factory.mktemp("unreadable"), {"rows.json": "[1]"}) / "rows.json"
    file.chmod(0)
    if os.access(file, os.R_OK):
        setpriv = shutil.which("setpriv")
        if setpriv is None and not os.environ.get("CI"):
            pytest.skip("needs setpriv, or a user who may not read every file, as root may")
        assert setpriv is not None
        rights = "-dac_override,-dac_read_search"
        monkeypatch.setattr(running, "CHUNKWISE", (setpriv, f"--bounding-set={rights}", *running.CHUNKWISE))
    yield file
    file.chmod(0o600)


@needs_curl
def test_unreadable_file_does_not_block_other_files(unreadable: Path) -> None:
    with responding(whole("text/plain", b"thanks")) as url:
        for done in (run("serve", unreadable), run("send", unreadable, url)):
            assert (done.code, done.message) == (10, f"{unreadable}: Permission denied")
    with serving(folder_of(unreadable.parent, {"other.json": "[2]"})) as server:
        assert curl(server.url("/other.json")).out == b"[2]"
        converted = curl(server.url("/rows.json?format=ndjson"), "-w", "%{stderr}%{http_code}")
        assert converted.err == "500"
        assert "Permission denied" in json.loads(converted.out)["detail"]
        assert curl(server.url("/rows.json"), "-w", "%{stderr}%{http_code}").err == "403"


# --- arguments


@each_row(
    ("words", "message"),
    [
        (["fetch"], "No such command 'fetch'"),
        (["get"], "Missing argument 'URL'"),
        (["get", "movies.json"], "expected a URL such as http://127.0.0.1:8080/movies.json, got movies.json"),
        (
            ["get", "ftp://127.0.0.1/x"],
            "expected a URL such as http://127.0.0.1:8080/movies.json, got ftp://127.0.0.1/x",
        ),
        (["get", "http://127.0.0.1:9/", "--format", "xml"], "'xml' is not one of 'ndjson', 'json', 'csv'"),
        (["get", "http://127.0.0.1:9/", "--timeout", "-1"], "--timeout"),
        (["get", "http://127.0.0.1:9/", "-o", "."], "'.' is a directory"),
        (["serve"], "Missing argument 'PATH|DATABASE...'"),
        (["serve", ".", "--port", "70000"], "--port"),
    ],
)
def test_wrong_arguments_are_reported(words: list[str], message: str) -> None:
    done = run(*words, cwd=Path(__file__).parents[2])
    assert (done.code, done.out) == (2, b"")
    assert message in done.message


# --- Ctrl-C and the terminal


def test_ctrl_c_keeps_items_and_prints_one_line() -> None:
    with (
        responding_in_two(chunked("application/x-ndjson", b"1\n2\n"), b"") as (url, _),
        started(*CHUNKWISE, "get", url) as getting,
    ):
        assert getting.stdout.readline() == b"1\n"
        getting.signal(signal.SIGINT)
        done = getting.end()
    assert (done.code, done.out, done.message) == (130, b"2\n", "interrupted")


def test_terminal_commands_in_errors_are_escaped() -> None:
    line = one_line(RemoteError("the server answered 500: \x1b]0;pwn\x07", status=500))
    assert line.isprintable()
    assert r"\x1b]0;pwn\x07" in line


# --- all exit codes


def test_every_exit_code_has_a_meaning() -> None:
    assert list(MEANINGS) == list(Exit)
    assert len(set(MEANINGS.values())) == len(Exit)


# --- TLS


def test_missing_tls_and_untrusted_tls_errors_differ(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_text(CERTIFICATE)
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(response: Callable[[socket.socket], object]) -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                response(connection)

        def plain(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        port = listening.getsockname()[1]
        for response, vouched in (
            (plain, True),
            (lambda connection: serves.wrap_socket(connection, server_side=True), False),
        ):
            thread = threading.Thread(target=serve, args=(response,))
            thread.start()
            done = run("get", f"https://127.0.0.1:{port}/")
            thread.join()
            assert done.message.startswith(f"the TLS handshake with 127.0.0.1:{port} failed: ")
            assert ("certificate" not in done.message) is vouched
            assert done.code == Exit.NETWORK
