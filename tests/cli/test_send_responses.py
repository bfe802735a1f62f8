"""`chunkwise send` with servers that respond early, stall or send nothing; and the progress of an upload."""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.raw_server import GUARD_SECONDS, head, whole
from tests.cli.running import CHUNKWISE, folder_of, run, started
from tests.cli.test_progress import TERMINAL, screen

PROBLEM = b'{"title":"Unprocessable Content","status":422,"detail":"got oops (format ndjson, item 7)","item":7}'
REFUSAL = whole("application/problem+json", PROBLEM, status="422 Unprocessable Content")


@contextmanager
def talking(talk: Callable[[socket.socket], object]) -> Iterator[str]:
    """Start a server that calls ``talk`` with each connection; yield its URL."""
    stopping = threading.Event()

    def serve(listening: socket.socket) -> None:
        while not stopping.is_set():
            connection, _ = listening.accept()
            with connection, suppress(ConnectionError):
                connection.settimeout(GUARD_SECONDS)
                if not stopping.is_set():
                    talk(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            stopping.set()
            socket.create_connection(listening.getsockname()).close()
            thread.join(GUARD_SECONDS)


def big(folder: Path) -> Path:
    """Return a file that is larger than all buffers."""
    file = folder_of(folder, {"rows.txt": b""}) / "rows.txt"
    with file.open("wb") as opened:
        opened.truncate(2**30)
    return file


def many(folder: Path) -> Path:
    return folder_of(folder, {"rows.ndjson": (b"1" * 999 + b"\n") * 20_000}) / "rows.ndjson"


@pytest.mark.parametrize("read_bytes", [1, 100_000])
@pytest.mark.parametrize("words", [(), ("--format", "json")])
def test_early_rejection_names_the_item(tmp_path: Path, read_bytes: int, words: tuple[str, ...]) -> None:
    def refuse(connection: socket.socket) -> None:
        received = 0
        while received < read_bytes:
            received += len(connection.recv(65536))
        connection.sendall(REFUSAL)

    file = many(tmp_path) if words else big(tmp_path)
    with talking(refuse) as url:
        for _ in range(3):
            done = run("send", file, url, *words)
            assert (done.code, done.out) == (4, b"")
            assert done.message.endswith(": got oops (format ndjson, item 7)")


def test_server_that_reads_nothing_times_out(tmp_path: Path) -> None:
    def take_nothing(connection: socket.socket) -> None:
        established = b"\x01"
        while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == established:
            time.sleep(0.01)  # a full socket does not report a disconnect, so its state is polled

    with talking(take_nothing) as url:
        done = run("send", big(tmp_path), url, "--timeout", "0.5")
    assert (done.code, done.out) == (5, b"")
    assert done.message == "the server read nothing of the upload for 0.5 seconds; set a longer --timeout in seconds"


@pytest.mark.parametrize("framing", [("Transfer-Encoding: chunked",), ()])
def test_bad_file_is_reported_after_response_began(tmp_path: Path, framing: tuple[str, ...]) -> None:
    """Otherwise both sides would wait for each other, or an unfinished response would look complete."""

    def begin(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head("Content-Type: text/plain", *framing))
        while connection.recv(65536):
            pass

    file = folder_of(tmp_path, {"rows.json": "[" + "1, " * 200_000 + "oops]"}) / "rows.json"
    with talking(begin) as url:
        done = run("send", file, url, "--format", "ndjson", "--timeout", "20", timeout=15)
    assert done.code == 6
    assert "item 200000" in done.message


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        ((), r"\b[1-9]\d?% +\d+\.\d/20\.0 MB +[\d.]+ [kM]B/s"),
        (("--format", "json"), r" [\d.]+/\? MB +[\d.]+ [kM]B/s +[1-9][\d,]* items, [1-9][\d,]*/s"),
    ],
)
def test_upload_progress_is_shown_while_sending(tmp_path: Path, words: tuple[str, ...], shows: str) -> None:
    def take_slowly(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**18)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            data = connection.recv(2**18)
            assert data, "the upload was cut off"
            received = (received + data)[-8:]
            time.sleep(0.01)
        connection.sendall(whole("text/plain", b"thanks\n"))

    with (
        screen() as terminal,
        talking(take_slowly) as url,
        started(
            *CHUNKWISE, "send", many(tmp_path), url, *words, stderr=terminal.theirs, env=os.environ | TERMINAL
        ) as sending,
    ):
        terminal.leave()
        shown = terminal.read_all()
        assert sending.end() == (0, b"thanks\n", "")
    assert re.search(shows, shown), shown


def test_server_without_response_times_out(tmp_path: Path) -> None:
    def say_nothing(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    file = folder_of(tmp_path, {"rows.ndjson": b"1\n"}) / "rows.ndjson"
    with talking(say_nothing) as url:
        done = run("send", file, url, "--timeout", "0.3")
    assert (done.code, done.out) == (5, b"")
    assert done.message.startswith("the server sent no response for 0.3 seconds")
