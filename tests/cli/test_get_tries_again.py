"""`chunkwise get` after disconnects: one line on stderr for each outage, and an error if the server stays down."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chunkwise.cli import app
from chunkwise.client import reconnecting
from tests.cli.raw_server import LAST_CHUNK, chunk, head

GUARD_SECONDS = 40


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(reconnecting, "_MAX_PAUSE_SECONDS", 0.01)


@contextmanager
def going_away(*responses: bytes) -> Iterator[str]:
    """Send each response on its own connection and close it; then stop listening."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(GUARD_SECONDS)

        def serve() -> None:
            for place, response in enumerate(responses):
                connection, _ = server.accept()
                with connection:
                    request = b""
                    while not request.endswith(b"\r\n\r\n"):
                        request += connection.recv(65536)
                    if place == len(responses) - 1:
                        server.close()
                    connection.sendall(response)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def part(first: int, *lines: bytes, status: str = "206 Partial Content") -> bytes:
    """Return an unfinished response whose first item has the index ``first``."""
    fields = ("Content-Type: application/x-ndjson", "Transfer-Encoding: chunked", "Accept-Ranges: items")
    start = head(*fields, f"Content-Range: items {first}-*/*", status=status)
    return start + b"".join(chunk(line + b"\n") for line in lines)


WHOLE = part(0, b"0", b"1", status="200 OK").replace(b"Content-Range: items 0-*/*\r\n", b"")


def broke(items: int) -> str:
    return rf"chunkwise: the stream was cut: .*\(format ndjson, {items} items? and \d+ bytes[^)]*\); connecting again"


def check_lines(patterns: list[str], err: str) -> None:
    lines = err.splitlines()
    assert len(lines) == len(patterns), err
    for pattern, line in zip(patterns, lines, strict=True):
        assert re.fullmatch(pattern, line), (pattern, line)


def test_outage_is_one_line_for_any_number_of_tries(capsys: pytest.CaptureFixture[str]) -> None:
    responses = (WHOLE, part(2), head(status="503 Busy"), part(2, b"2"), part(3), part(3, b"3", b"4") + LAST_CHUNK)
    with going_away(*responses) as address:
        assert app.run(["get", f"http://{address}/"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "0\n1\n2\n3\n4\n"
    check_lines([broke(2), broke(3)], printed.err)


@pytest.mark.parametrize("responses", [(WHOLE,), (WHOLE, part(2))])
def test_server_that_stays_down_is_unreachable(
    responses: tuple[bytes, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with going_away(*responses) as address:
        assert app.run(["get", f"http://{address}/"]) == 5
    printed = capsys.readouterr()
    assert printed.out == "0\n1\n"
    received = r" \(format ndjson, 2 items and \d+ bytes[^)]*\)"
    last = rf"chunkwise: cannot connect to {address}: Connection refused; gave up after 10 tries in \d\.\d s{received}"
    check_lines([broke(2), last], printed.err)


def test_unresumable_disconnect_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    with going_away(WHOLE.replace(b"Accept-Ranges: items\r\n", b"")) as address:
        assert app.run(["get", f"http://{address}/"]) == 5
    printed = capsys.readouterr()
    assert "connecting again" not in printed.err
    assert printed.err.count("\n") == 1
