"""`chunkwise serve` ends when it is told to, and no client takes what was cut for whole."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.cli.running import CHUNKWISE, folder_of, serving, started
from tests.needs import needs_curl

MANY_BYTES = 64 * 2**20  # more than the sockets of both sides hold

each_signal = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@each_signal
def test_a_signal_ends_it_well_and_quietly(tmp_path: Path, number: signal.Signals) -> None:
    with serving(folder_of(tmp_path, {"rows.json": "[1, 2]"})) as server:
        server.running.signal(number)
        done = server.running.end()
    assert (done.code, done.err) == (0, "")


@needs_curl
@each_signal
def test_a_signal_ends_a_stream_in_flight_and_its_client_sees_that_it_is_cut(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(folder_of(tmp_path, {"rows.json": "[1, 2]"})) as server:
        url = server.url("/rows.json?interval=60&format=ndjson")
        with started("curl", "-sSN", url) as foreign, started(*CHUNKWISE, "get", url) as ours:
            assert foreign.stdout.readline() == b"1\n"
            assert ours.stdout.readline() == b"1\n"
            server.running.signal(number)
            done = server.running.end()
            assert foreign.end().code == 18  # "partial file"
            got = ours.end()
    assert (done.code, done.err) == (0, "")
    assert got.code == 4
    assert "failed after 1 items: Going Away: the server is shutting down" in got.told


def test_a_signal_ends_a_file_in_flight_and_its_client_sees_that_it_is_cut(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"large.json": "[1]"})
    with (folder / "large.json").open("r+b") as file:
        file.truncate(MANY_BYTES)
    with serving(folder) as server:
        host, port = server.base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b"GET /large.json HTTP/1.1\r\nHost: x\r\n\r\n")
            came = client.recv(1024)
            assert re.search(rb"Content-Length: (\d+)", came)
            server.running.signal(signal.SIGTERM)
            done = server.running.end()
            size = 0
            while data := client.recv(2**20):
                size += len(data)
    assert (done.code, done.err) == (0, "")
    assert size < MANY_BYTES


def test_it_says_where_it_is_with_lines_to_try(tmp_path: Path) -> None:
    with serving(folder_of(tmp_path, {"it's ours.json": json.dumps([1])})) as server:
        server.running.signal(signal.SIGTERM)
        printed = server.running.end().out.decode()
    assert f"curl -N '{server.base}/it%27s%20ours.json?interval=0.2'" in printed
    assert f"chunkwise get '{server.base}/it%27s%20ours.json'" in printed
