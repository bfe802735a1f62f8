"""Run the server of a contender in this process, and report its figures to the parent process.

The server prints a line of JSON when it is ready, and another one at its end. The parent process closes the server's
standard input to stop it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.contender import cpu_seconds, peak_mib, resident_kib

BACKLOG = 1024
"""The number of connections that may wait to be accepted; the same for all servers."""


def report(**result: float) -> None:
    """Print figures as a line of JSON, which the parent process reads."""
    print(json.dumps(result), flush=True)


def report_ready(port: int) -> None:
    """Report that the server is ready: its port, and its memory and processor time so far."""
    report(port=port, resident_mib=resident_kib() / 1024, cpu_seconds=cpu_seconds())


def report_end() -> None:
    """Report the peak memory and the processor time at the end of the server."""
    report(peak_mib=peak_mib(), cpu_seconds=cpu_seconds())


def listen() -> socket.socket:
    """Return a socket that listens on a port of the system's choice."""
    return socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)


Handler = Callable[[Any], Awaitable[Any]]


def serve_aiohttp(routes: dict[str, Handler]) -> None:
    """Serve handlers with aiohttp, on asyncio's own loop, without an access log."""
    asyncio.run(_serve_aiohttp(routes))


async def _serve_aiohttp(routes: dict[str, Handler]) -> None:
    from aiohttp import web

    app = web.Application()
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), closed.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    listening = listen()
    await web.SockSite(runner, listening, backlog=BACKLOG).start()
    report_ready(listening.getsockname()[1])
    await closed.wait()
    report_end()
    await runner.cleanup()


def serve_bytes(ready: int, make: Callable[[int], bytes], content_type: str) -> None:
    """Respond to /1000 with the bytes ``make(1000)``.

    ``ready`` is the number in the measured request. Its bytes are made before the server starts, so that the client
    does not measure their creation.
    """
    made = {ready: make(ready)}

    async def handle(request: Any) -> Any:
        from aiohttp import web

        count = int(request.match_info["count"])
        data = memoryview(made.get(count) or make(count))
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for start in range(0, len(data), 65536):
            await response.write(data[start : start + 65536])
        await response.write_eof()
        return response

    serve_aiohttp({"/{count}": handle})


def serve_asgi(app: Any) -> None:
    """Serve an ASGI application with uvicorn's fastest settings: uvloop, httptools, no access log."""
    import uvicorn

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    listening = listen()

    def stop() -> None:
        sys.stdin.read()
        report_end()
        server.should_exit = True

    threading.Thread(target=stop, daemon=True).start()
    report_ready(listening.getsockname()[1])
    server.run(sockets=[listening])


def serve_sockets(respond: Callable[[socket.socket], None]) -> None:
    """Accept connections with blocking sockets, one after the other. ``respond`` handles one connection to its end."""
    listening = listen()

    def loop() -> None:
        while True:
            connection, _ = listening.accept()
            with connection:
                respond(connection)

    threading.Thread(target=loop, daemon=True).start()
    report_ready(listening.getsockname()[1])
    sys.stdin.read()
    report_end()
