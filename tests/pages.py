"""A Markdown page -> its examples, run as a reader would run them.

All Python blocks of a page are one program. `web.run_app` serves in a thread, so the blocks after it run too, and port
8081 is replaced by a free one. Handlers in later blocks are moved to before the routes are added. In `console` blocks,
each command after a `$` is run by a shell. A JavaScript block that begins with a file name is saved under that name.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from unittest.mock import patch

from aiohttp import web

ROOT = Path(__file__).parents[1]
GUARD_SECONDS = 40
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ADDS = "app.add_routes(routes)\n"
_SERVES = "web.run_app("
_HANDLES = re.compile(r"^(?:@routes\.|app\.router\.add_)", re.MULTILINE)
_SAID = re.compile(r"print\(.*\)  # (.*?)(?:;.*)?$", re.MULTILINE)


class Block(NamedTuple):
    """A block of code.

    Attributes:
        language: the language that the page names.
        code: its text.
        line: how many lines of the page are before it.
    """

    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page that name a language."""
    text = page.read_text()
    return [Block(found[1], found[2], text.count("\n", 0, found.start(2))) for found in _BLOCK.finditer(text)]


def as_a_program(found: list[Block]) -> list[Block]:
    """Return the blocks as one program: later handlers are moved to before the routes are added or served."""
    programs = (
        (place, mark)
        for place, block in enumerate(found)
        for mark in (_ADDS, _SERVES)
        if block.language == "python" and mark in block.code
    )
    place, mark = next(programs, (0, ""))
    if not mark:
        return found
    block = found[place]
    begins, ends = block.code.split(mark, 1)
    later = found[place + 1 :]
    handlers = [other for other in later if other.language == "python" and _HANDLES.search(other.code)]
    return [
        *found[:place],
        block._replace(code=begins),
        *handlers,
        Block(block.language, mark + ends, block.line + begins.count("\n")),
        *[other for other in later if other not in handlers],
    ]


def section(page: Path, heading: str) -> str:
    """Return the text after a heading of the second level, up to the next one."""
    return page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def examples(page: Path, heading: str) -> list[str]:
    """Return the Python blocks of a section."""
    return [found[2] for found in _BLOCK.finditer(section(page, heading)) if found[1] == "python"]


def run(code: str, names: dict[str, Any], page: Path, line: int = 0) -> None:
    exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), names)


class Reader:
    """Runs a page from its first block to its last."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._names: dict[str, Any] = {}
        self._output = io.StringIO()
        self._serving = ExitStack()
        self._socket = self._serving.enter_context(socket.socket())
        self._socket.bind(("127.0.0.1", 0))
        self._port = self._socket.getsockname()[1]

    @property
    def printed(self) -> list[str]:
        """The lines that the Python blocks have printed."""
        return self._output.getvalue().splitlines()

    def read(self) -> None:
        """Run all blocks; an assertion fails if a command prints something else than the page shows."""
        with self._serving, patch.object(web, "run_app", self._serve), redirect_stdout(self._output):
            for block in as_a_program(blocks(self._page)):
                code = re.sub(r"\b8081\b", str(self._port), block.code)
                if block.language == "python":
                    run(code, self._names, self._page, block.line)
                elif block.language == "console":
                    self._type(code)
                elif named := re.match(r"// (\S+\.mjs)\n", code):
                    Path(named[1]).write_text(code)

    def _serve(self, app: web.Application, *, port: int, host: str | None = None) -> None:
        assert host in {None, "127.0.0.1", "localhost"}
        assert port == self._port
        self._serving.enter_context(in_a_thread(app, self._socket))

    def _type(self, console: str) -> None:
        for step in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            command, _, expected = step.partition("\n")
            environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_PROXY": "*"}
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=GUARD_SECONDS,
                env=environment,
                check=False,
            )
            printed = done.stdout.decode().replace("\r\n", "\n")
            # "..." matches any text. The last line may or may not have a line end.
            pattern = re.escape(expected.strip("\n")).replace(r"\.\.\.", ".*")
            assert re.fullmatch(pattern, printed.strip("\n"), re.DOTALL), f"$ {command}\n{printed}"


@contextmanager
def in_a_thread(app: web.Application, bound: socket.socket) -> Iterator[None]:
    """Serve an application in a thread, on its own event loop."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1)
        stop = asyncio.Event()
        try:
            await runner.setup()
            await web.SockSite(runner, bound).start()
        except BaseException as error:
            started.set_exception(error)
            raise
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await runner.cleanup()

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, stop = started.result(GUARD_SECONDS)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(GUARD_SECONDS)


def expected(page: Path) -> list[str]:
    """Return the lines that Python blocks print: in comments after `print(...)`, or in `output` or `text` blocks below.

    The line "..." of such a block stands for lines that are not shown.
    """
    lines: list[str] = []
    before = ""
    for block in blocks(page):
        if block.language == "python":
            lines += _SAID.findall(block.code)
        elif block.language == "output" or (block.language == "text" and before == "python"):
            lines += [line for line in block.code.splitlines() if line != "..."]
        before = block.language
    return lines
