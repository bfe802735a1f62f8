"""An application -> a server until Ctrl-C or SIGTERM.

Must not know what it serves.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from chunkwise.errors import StreamError


async def listen(app: web.Application, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; failures are told in lines on stderr.

    Args:
        app: the application.
        host: the address to listen on.
        port: its port; 0 for any that is free.
        announce: called with the base of its URLs (``http://127.0.0.1:8080``) once it listens.

    Raises:
        ConnectionError: the port is taken, or may not be listened on.
    """
    _log_in_lines()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await _start(runner, host, port)
        address = runner.addresses[0]
        announce(base_url(*address[:2]))
        await stopped.wait()
    finally:
        await runner.cleanup()


def base_url(host: str, port: int) -> str:
    """Return the base of the URLs at an address."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def program() -> str:
    """Return how to call the program that runs."""
    if Path(sys.argv[0]).name == "__main__.py":
        return "python -m chunkwise"
    return "chunkwise" if shutil.which("chunkwise") == sys.argv[0] else sys.argv[0]


async def _start(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            msg = f"port {port} of {host} is taken: choose another with --port, 0 for any"
        else:
            msg = f"cannot listen on port {port} of {host}: {error.strerror or error}"
        raise ConnectionError(msg) from error


class _OneLine(logging.Formatter):
    """A failure that the file or the client caused is told in a line; of all others the traceback is wanted."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        error = ei[1]
        if isinstance(error, (StreamError, web.HTTPException, OSError)):
            return f"  {getattr(error, 'text', None) or error}"
        return super().formatException(ei)


def _log_in_lines() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("chunkwise: %(message)s"))
    logging.getLogger("chunkwise").addHandler(handler)
    logging.getLogger("chunkwise").propagate = False
