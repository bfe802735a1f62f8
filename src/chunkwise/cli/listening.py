"""An application -> a server that runs until Ctrl-C or SIGTERM."""

import asyncio
import errno
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from chunkwise import StreamError


async def listen(app: web.Application, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve an application until Ctrl-C or SIGTERM, and log failures on stderr.

    When the server accepts connections, ``announce`` is called with its base URL (``http://127.0.0.1:8080``). Port 0
    means any free port. If the port is in use or not allowed, ConnectionError is raised.
    """
    _log_in_lines()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await _start(runner, host, port)
        announce(base_url(*runner.addresses[0][:2]))
        await stopped.wait()
    finally:
        await runner.cleanup()


def base_url(host: str, port: int) -> str:
    """Return the base URL of the server at an address."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def program() -> str:
    """Return the command that the user typed to start this program, for messages."""
    if Path(sys.argv[0]).name == "__main__.py":
        return "python -m chunkwise"
    return "chunkwise" if shutil.which("chunkwise") == sys.argv[0] else sys.argv[0]


async def _start(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            msg = f"port {port} of {host} is in use: choose another one with --port, or any free one with --port 0"
        else:
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror or error
            msg = f"cannot listen on port {port} of {host}: {why}; check --host and --port"
        raise ConnectionError(msg) from error


class _OneLine(logging.Formatter):
    """Formats a failure as one line if a file or a client caused it, and with its traceback otherwise."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name that logging calls
        error = ei[1]
        if isinstance(error, (StreamError, web.HTTPException, OSError)):
            return f"  {getattr(error, 'text', None) or error}"
        return super().formatException(ei)


def _log_in_lines() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("chunkwise: %(message)s"))
    logging.getLogger("chunkwise").addHandler(handler)
    logging.getLogger("chunkwise").propagate = False
