"""A followed log: new lines are sent, changes of the file are reported, disconnected clients continue."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise.client.stream import Stream
from chunkwise.testing import FaultProxy, cut_at
from tests.cli.running import Serving, curl, started, wait_until
from tests.examples.using import using
from tests.needs import needs_curl, needs_linux

PLAIN = {"Accept-Encoding": "identity"}  # so that the position of a disconnect is known


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def server(log: Path) -> Iterator[Serving]:
    with using("log_tail", log) as serving:
        yield serving


@asynccontextmanager
async def followed(url: str, **options: Any) -> AsyncIterator[Stream]:
    async with ClientSession(headers=PLAIN) as session, chunkwise.open_stream(session, url, **options) as stream:
        yield stream


def write(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


async def test_complete_lines_of_new_file_are_sent(log: Path, server: Serving) -> None:
    async with followed(server.url("/log")) as stream:  # the response starts before the file exists
        write(log, "one\ntwo\u2028still two\nthr")
        assert [(await anext(stream))["line"] for _ in "ab"] == ["one", "two\u2028still two"]
        write(log, "ee\n")
        item = await anext(stream)
        assert item == {"line": "three", "file": log.stat().st_ino, "byte": log.stat().st_size}


async def test_rotation_is_reported_after_last_line(log: Path, server: Serving) -> None:
    write(log, "old\n")
    async with followed(server.url("/log")) as stream:
        assert (await anext(stream))["line"] == "old"
        moved = log.rename(log.with_suffix(".1"))
        write(moved, "late\n")  # by the process that still has it open
        assert (await anext(stream))["line"] == "late"
        write(moved, "unfinished")
        write(log, "new\n")
        assert (await anext(stream))["line"] == "unfinished"
        assert await anext(stream) == {"event": "rotated", "file": log.stat().st_ino, "byte": 0}
        assert (await anext(stream))["line"] == "new"


async def test_emptied_file_is_reported(log: Path, server: Serving) -> None:
    write(log, "something long\nand unfinis")
    async with followed(server.url("/log")) as stream:
        assert (await anext(stream))["line"] == "something long"
        log.write_text("")
        assert (await anext(stream))["event"] == "truncated"
        write(log, "more\n")
        assert (await anext(stream))["line"] == "more"


async def test_disconnected_client_continues(log: Path, server: Serving) -> None:
    lines = [f"line {n}" for n in range(300)]
    write(log, "".join(f"{line}\n" for line in lines))
    faults = [cut_at(count) for count in (2_000, 5_000, 300, 7_000)]
    async with (
        FaultProxy("127.0.0.1", int(server.base.rpartition(":")[2]), faults) as proxy,
        followed(proxy.url("/log")) as stream,
    ):
        assert [(await anext(stream))["line"] for _ in lines] == lines
        assert stream.reconnects >= len(faults) - 1


async def test_position_in_another_file_is_reported(log: Path, server: Serving) -> None:
    write(log, "new\n")
    number = log.stat().st_ino
    elsewhere = {"Range": "items=7-", "Items-After": f"[{number + 1}, 4]"}
    async with followed(server.url("/log"), headers=elsewhere, max_reconnects=0) as stream:
        assert (await anext(stream))["event"] == "rotated"
        assert (await anext(stream))["line"] == "new"
    shorter = {"Range": "items=7-", "Items-After": f"[{number}, 400]"}
    async with followed(server.url("/log"), headers=shorter, max_reconnects=0) as stream:
        assert (await anext(stream))["event"] == "truncated"
        assert (await anext(stream))["line"] == "new"
    for key in ('["a", 1]', "[1, -1]", "[1, true]", f"[1, {2**63}]"):
        with pytest.raises(chunkwise.RemoteError, match="expected a key of this source") as refused:
            async with followed(server.url("/log"), headers={"Range": "items=7-", "Items-After": key}) as stream:
                await anext(stream)
        assert refused.value.status == 400


async def test_long_log_starts_at_its_last_lines(log: Path, server: Serving) -> None:
    lines = [f"{n:06} {'x' * 93}" for n in range(10_000)]
    write(log, "".join(f"{line}\n" for line in lines))
    async with followed(server.url("/log")) as stream:
        first = (await anext(stream))["line"]
        start = lines.index(first)
        assert 64 * 1024 - 200 < 101 * (len(lines) - start) <= 64 * 1024
        assert [(await anext(stream))["line"] for _ in lines[start + 1 :]] == lines[start + 1 :]


async def test_very_long_line_is_sent_in_parts(log: Path, server: Serving) -> None:
    async with followed(server.url("/log")) as stream:
        log.write_bytes(b"x" * 1_000_000 + b"\nshort\n")
        pieces = []
        while (line := (await anext(stream))["line"]) != "short":
            pieces.append(line)
        assert "".join(pieces).rstrip() == "x" * 1_000_000
        assert max(map(len, pieces)) <= 128 * 1024


@needs_linux
@needs_curl
@pytest.mark.parametrize("there", [True, False])
def test_disconnect_from_silent_log_ends_thread(log: Path, server: Serving, *, there: bool) -> None:
    if there:
        write(log, "one\n")
    tasks = Path(f"/proc/{server.running.process.pid}/task")

    def threads() -> int:
        return len(list(tasks.iterdir()))

    before = threads()
    with started("curl", "-sN", server.url("/log")) as reading:
        if there:
            assert reading.stdout.readline().startswith(b'{"line":"one"')
        wait_until(lambda: threads() == before + 1, "the source has no thread", server.running)
    wait_until(lambda: threads() == before, "the thread of the source is still there", server.running)


@needs_curl
def test_csv_is_not_offered(server: Serving) -> None:
    assert curl(server.url("/log"), "-H", "Accept: text/csv").out.startswith(b'{"title":"Not Acceptable"')
