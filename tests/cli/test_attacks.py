"""What attacks on the command line found, once."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer

from chunkwise.cli.exits import one_line
from chunkwise.cli.publishing import find_files
from chunkwise.cli.serve import make_app
from chunkwise.errors import RemoteError
from tests.cli.raw_server import answering, whole
from tests.cli.running import folder_of, run


def test_output_to_a_pipe_is_written_to_the_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with answering(whole("application/json", b"[1,2]")) as url:
        done = run("get", url, "-o", str(pipe))
    reader.join(20)
    assert (done.code, read, pipe.is_fifo()) == (0, [b"1\n2\n"], True)


def test_output_to_a_link_is_written_to_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with answering(whole("application/json", b"[1]")) as url:
        done = run("get", url, "-o", str(tmp_path / "link"))
    assert done.code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"1\n"


def test_a_servers_words_give_the_terminal_no_commands() -> None:
    line = one_line(RemoteError("the server answered 500: \x1b]0;pwn\x07", status=500))
    assert line.isprintable()
    assert r"\x1b]0;pwn\x07" in line


async def test_a_file_that_became_a_link_out_of_its_folder_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("[1]")
    folder = folder_of(tmp_path / "published", {"rows.json": b"[2]"})
    published = find_files([folder])
    (folder / "rows.json").unlink()
    (folder / "rows.json").symlink_to(tmp_path / "secret.json")
    async with TestClient(TestServer(make_app(published))) as client, client.get("/rows.json") as response:
        assert response.status == 404
