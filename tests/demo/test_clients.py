"""`chunkwise demo --client`: the tutorial's clients, and the time at which each line was received."""

import asyncio
import re
import sys
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chunkwise.demo.clients import CLIENTS, read_chunks
from tests.cli.running import run, run_any
from tests.cli.test_app import WITHOUT
from tests.demo.tutorial import LINES, MESSAGES, running_demo
from tests.tables import check_rows


@pytest.fixture(scope="module")
def output() -> list[str]:
    with running_demo() as demo:
        port = demo.base.rpartition(":")[2]
        done = run("demo", "--client", "--port", port, "--interval", "0.2")
    assert (done.code, done.err) == (0, "")
    return done.out.decode().splitlines()


def part(output: list[str], client: Callable[..., object]) -> list[tuple[float, str]]:
    """Return the times and texts that a client shows."""
    start = output.index(str(client.__doc__)) + 1
    stop = output.index("", start) if "" in output[start:] else len(output)
    found = [re.fullmatch(r" *(\d+\.\d{3}) s  (.*)", line) for line in output[start:stop]]
    return [(float(line[1]), line[2]) for line in found if line]


SHOWN = {
    "read_chunks": [line.strip().upper() for line in LINES],
    "read_items": [repr({"id": n, "name": name}) for n, name in enumerate(("Tom", "Adam", "Sam"), 1)]
    + ["3 items, end proven"],
    "read_inside": ["'admin'", "'user'", "'user'"],
    "send_and_read": ["GRÜSSE", "AUS", "DEM", "STROM"],
    "read_websocket": [*MESSAGES, "closed: 1000 complete; items=5"],
}


def test_clients_show_items_and_times(output: list[str]) -> None:
    def check(client: Callable[..., object]) -> None:
        shown = part(output, client)
        times = [seconds for seconds, _ in shown]
        assert times == sorted(times)
        assert len(set(times)) > 2
        texts = [text for _, text in shown]
        if client.__name__ == "read_failure":
            assert len(texts) == 3
            assert texts[2].startswith("RemoteError: ")
            assert "the producer fails on purpose after 2 items" in texts[2]
        elif client.__name__ == "read_events":
            assert texts[0] == " start_map None"
            assert "users.item.roles.item string admin" in texts
            assert texts[-1] == " end_map None"
        else:
            assert texts == SHOWN[client.__name__]

    check_rows({client.__name__: client for client in CLIENTS}, check)


async def test_split_characters_are_decoded() -> None:
    text = "aäé日🎉" * 500  # characters of 1, 2, 3 and 4 bytes: chunks of 1024 bytes split some

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(text.encode()), 1000):
            await response.write(text.encode()[start : start + 1000])
            await asyncio.sleep(0.001)
        return response

    app = web.Application()
    app.router.add_get("/chunked", handler)
    shown: list[str] = []
    async with TestServer(app) as server:
        await read_chunks(str(server.make_url("")).rstrip("/"), "", shown.append)
    assert "".join(shown) == text.upper()
    assert len(shown) > 3


def test_missing_websockets_skips_one_client() -> None:
    with running_demo() as demo:
        port = demo.base.rpartition(":")[2]
        words = ("demo", "--client", "--port", port, "--interval", "0")
        done = run_any(sys.executable, "-c", WITHOUT.format("websockets"), *words)
    assert (done.code, done.err) == (0, "")
    assert done.lines[-1].strip() == b"this client needs the extra 'demo': pip install 'chunkwise[demo]'"
    assert b"STROM" in done.out


def test_other_missing_module_is_an_error() -> None:
    with running_demo() as demo:
        words = ("demo", "--client", "--port", demo.base.rpartition(":")[2], "--interval", "0")
        done = run_any(sys.executable, "-c", WITHOUT.format("websockets.asyncio.client"), *words)
    assert done.code == 1
    assert done.message.startswith("ModuleNotFoundError: ")
    assert b"extra" not in done.out
