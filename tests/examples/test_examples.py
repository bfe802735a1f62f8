"""The examples run unchanged: each server in its own process, read by curl and by the example clients."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.running import Done, run, run_any, started
from tests.demo.tutorial import EVENTS, LINES, MESSAGES, ROUTES, USERS, encoded
from tests.needs import needs_curl
from tests.tables import check_rows, named
from tests.transports.proxying import answers, free_port

THIS = Path(__file__)
ROOT = THIS.parents[2]
SERVERS = ROOT / "examples" / "servers"
CLIENTS = ROOT / "examples" / "clients"


class Read(NamedTuple):
    """The output of one reader, in the parts in which it arrived."""

    pieces: list[bytes]
    done: Done

    @property
    def text(self) -> str:
        return b"".join(self.pieces).decode()


class Server(NamedTuple):
    """The path of an example server's route, and options for curl."""

    path: str
    options: tuple[str, ...] = ()


SERVER_OF = {
    "chunked": Server("/chunked"),
    "non_chunked": Server("/non-chunked"),
    "json_array": Server("/json"),
    "nested": Server("/nested"),
    "sse": Server("/sse"),
    "events": Server("/events"),
    "large": Server("/large?items=3"),
    "websocket": Server("/ws"),
    "upper": Server("/upper", ("-T", str(ROOT / "LICENSE"))),
    "failure": Server("/fail"),
}
CLIENT_OF = {  # client -> the server that it reads
    "chunks": "chunked",
    "items": "json_array",
    "inside": "nested",
    "events": "nested",
    "upload": "upper",
    "websocket": "websocket",
    "failure": "failure",
}


def read(command: list[str], found: dict[str, Read], name: str) -> None:
    with started(*command) as reading:
        pieces = []
        while data := os.read(reading.stdout.fileno(), 65536):
            pieces.append(data)
        found[name] = Read(pieces, reading.end())


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Read]]:
    """Return the output of curl and the clients. All run at the same time, because each takes seconds."""
    with ExitStack() as stack:
        ports = {name: free_port() for name in SERVER_OF}
        servers = {
            name: stack.enter_context(
                started(sys.executable, SERVERS / f"{name}.py", env={**os.environ, "PORT": str(port)})
            )
            for name, port in ports.items()
        }
        for name, port in ports.items():
            assert answers(port, servers[name].is_running), servers[name].err
        received: dict[str, Read] = {}
        readers = []
        for name, (path, options) in SERVER_OF.items():
            command = ["curl", "-sSN", *options, f"http://127.0.0.1:{ports[name]}{path}"]
            readers.append(threading.Thread(target=read, args=(command, received, name)))
        for name, server in CLIENT_OF.items():
            scheme = "ws" if name == "websocket" else "http"
            url = f"{scheme}://127.0.0.1:{ports[server]}{SERVER_OF[server].path}"
            command = [sys.executable, str(CLIENTS / f"{name}.py"), url]
            readers.append(threading.Thread(target=read, args=(command, received, f"client {name}")))
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        for name, running in servers.items():
            assert "Traceback" not in running.err or name == "failure", running.err
        yield received


OF_THE_DEMO = {route.path: route for route in ROUTES if not route.options}


@needs_curl
def test_servers_respond_as_the_demo(found: dict[str, Read]) -> None:
    def check(name: str) -> None:
        got = found[name]
        route = OF_THE_DEMO.get(SERVER_OF[name].path)
        if route is not None:
            assert (got.text, got.done.code) == (encoded(route.whole).decode(), route.code)
        else:
            whole = {"non_chunked": "".join(LINES), "large": EVENTS, "upper": (ROOT / "LICENSE").read_text().upper()}
            assert (got.text, got.done.code) == (whole[name], 0)
        if name == "non_chunked":
            assert len(got.pieces) == 1
        elif route is not None:  # the last item is produced seconds later
            assert encoded(route.first).startswith(got.pieces[0])
            assert len(got.pieces) > 2 - (name == "failure")

    check_rows(named(SERVER_OF), check)


READ = {
    "chunks": "".join(LINES).upper(),
    "items": "".join(f"{{'id': {n}, 'name': '{name}'}}\n" for n, name in enumerate(("Tom", "Adam", "Sam"), 1))
    + "3 items, end proven\n",
    "inside": "admin\nuser\nuser\n",
    "upload": "GRÜSSE\nAUS\nDEM\nSTROM\n",
    "websocket": "".join(f"{message}\n" for message in MESSAGES) + "closed: 1000 complete; items=5\n",
}


def test_clients_print_items_as_they_arrive(found: dict[str, Read]) -> None:
    def check(name: str) -> None:
        got = found[f"client {name}"]
        assert (got.done.code, got.done.err) == (0, "")
        assert len(got.pieces) > 1
        if name == "failure":
            *items, error = got.text.splitlines()
            assert items == ["{'id': 1, 'name': 'Tom'}", "{'id': 2, 'name': 'Adam'}"]
            assert re.match("RemoteError: .*the database has gone away", error)
        elif name == "events":
            assert got.text.startswith(" start_map None\n map_key users\nusers start_array None\n")
            assert got.text.endswith("settings end_map None\n end_map None\n")
            assert "users.item.roles.item string admin\n" in got.text
        else:
            assert got.text == READ[name]

    check_rows(named(CLIENT_OF), check)


def test_every_example_is_run_and_listed() -> None:
    readme = (ROOT / "examples" / "README.md").read_text()
    files = {file.relative_to(ROOT / "examples").as_posix() for file in (ROOT / "examples").rglob("*.py")}
    assert files == {
        *(f"servers/{name}.py" for name in SERVER_OF),
        *(f"clients/{name}.py" for name in CLIENT_OF),
        *(test.name.replace("test_", "uses/") for test in THIS.parent.glob("test_*.py") if test != THIS),
    }
    for file in files:
        assert f"[{file}]({file})" in readme
        source = (ROOT / "examples" / file).read_text()
        assert f"python examples/{file}" in source


@needs_curl
def test_docstring_commands_work() -> None:
    port = free_port()
    with started(sys.executable, SERVERS / "json_array.py", env={**os.environ, "PORT": str(port)}) as server:
        assert answers(port, server.is_running), server.err
        base = f"http://127.0.0.1:{port}/json"
        assert run_any("curl", "-sN", "-H", "Accept: application/x-ndjson", base).lines == [u.encode() for u in USERS]
        assert run_any("curl", "-sN", "-H", "Accept: text/event-stream", base).out.startswith(b"id: 0\ndata: ")
        assert run("get", base.replace("http", "ws")).lines == [user.encode() for user in USERS]
