"""`chunkwise serve` exits on a signal, and its unfinished responses look incomplete to every client."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise.errors import RemoteError
from tests.cli.running import CHUNKWISE, folder_of, serving, started
from tests.each_row import each_row
from tests.needs import needs_curl

MANY_BYTES = 64 * 2**20  # more than fits into the sockets of both sides

each_signal = each_row("number", [signal.SIGINT, signal.SIGTERM])


@each_signal
def test_signal_stops_idle_server_with_exit_0(tmp_path: Path, number: signal.Signals) -> None:
    with serving(folder_of(tmp_path, {"rows.json": "[1, 2]"})) as server:
        server.running.signal(number)
        done = server.running.end()
    assert (done.code, done.err) == (0, "")


@needs_curl
@each_signal
async def test_signal_cuts_stream_visibly(tmp_path: Path, number: signal.Signals) -> None:
    with serving(folder_of(tmp_path, {"rows.json": "[1, 2]"})) as server:
        url = server.url("/rows.json?interval=60&format=ndjson")
        with started("curl", "-sSN", url) as foreign:
            async with ClientSession() as session, session.get(url, headers={"Prefer": "stream-end"}) as response:
                ours = aiter(chunkwise.items(response))
                assert foreign.stdout.readline() == b"1\n"
                assert await anext(ours) == 1
                server.running.signal(number)
                with pytest.raises(RemoteError, match="failed after 1 item: Going Away: the server is shutting down"):
                    await anext(ours)
            done = server.running.end()
            assert foreign.end().code == 18  # curl's exit code for a partial file
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("options", [(), ("--path", "n")])
def test_get_resumes_after_server_restart(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The second server knows nothing of the stream that the first server started."""
    rows = [{"n": index} for index in range(60)]
    folder = folder_of(tmp_path, {"rows.csv": "n\n" + "".join(f"{row['n']}\n" for row in rows)})
    with serving(folder) as first:
        url = first.url("/rows.csv?interval=0.01&format=ndjson")
        with started(*CHUNKWISE, "get", url, *options) as ours:
            begun = [ours.stdout.readline() for _ in range(3)]
            first.running.signal(signal.SIGKILL)
            first.running.end()
            with serving(folder, "--port", first.base.rpartition(":")[2]):
                done = ours.end()
    assert done.code == 0
    assert "the stream was cut" in done.message
    assert done.message.endswith("; connecting again")
    got = [json.loads(line) for line in (*begun, *done.lines)]
    assert got == ([str(row["n"]) for row in rows] if options else [{"n": str(row["n"])} for row in rows])


def test_signal_cuts_file_download_visibly(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"large.json": "[1]"})
    with (folder / "large.json").open("r+b") as file:
        file.truncate(MANY_BYTES)
    with serving(folder) as server:
        host, port = server.base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b"GET /large.json HTTP/1.1\r\nHost: x\r\n\r\n")
            received = client.recv(1024)
            assert re.search(rb"Content-Length: (\d+)", received)
            server.running.signal(signal.SIGTERM)
            done = server.running.end()
            size = 0
            while data := client.recv(2**20):
                size += len(data)
    assert (done.code, done.err) == (0, "")
    assert size < MANY_BYTES


def test_start_message_has_commands_to_try(tmp_path: Path) -> None:
    with serving(folder_of(tmp_path, {"it's ours.json": json.dumps([1])})) as server:
        server.running.signal(signal.SIGTERM)
        printed = server.running.end().out.decode()
    assert f"curl -N '{server.base}/it%27s%20ours.json?interval=0.2'" in printed
    assert f"chunkwise get '{server.base}/it%27s%20ours.json'" in printed
