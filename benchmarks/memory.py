"""Measure the peak memory of the processes that send and read a stream, for a small and a large stream.

The claim: for a stream of 1 GB, the process that sends it and the process that reads it each take less than 32 MiB more
memory than for one of 10 MB. The claim covers responses with `respond()` and `items()`, uploads, and WebSockets.
Each memory figure is the largest resident memory of a separate process, which the process reports at its end. The
seconds in the table depend on what else runs on the machine.

    python -m benchmarks.memory            # 10 MB and 1 GB; some minutes
    python -m benchmarks.memory --quick    # 10 MB and 100 MB

Exit status: 0 the claim holds, 1 the claim does not hold, 2 a process failed or took too long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import ClientSession, ClientTimeout, web

import chunkwise
from benchmarks.contender import peak_mib
from benchmarks.machine import in_words
from benchmarks.rows import row, row_text
from chunkwise.flow.inbound import Inbound
from chunkwise.formats.messages import SUBPROTOCOL

ROOT = Path(__file__).parents[1]
MEGABYTE = 1_000_000
MOST_GROWTH_MIB = 32
ODD_SIZES = (1, 70_001, 13, 4_099, 65_537, 2, 257, 131_071)
"""The plain aiohttp server repeats these chunk sizes, so that chunks and items rarely start at the same byte."""

BLOCK_ROWS = 1000


def block() -> bytes:
    """Return the JSON of `BLOCK_ROWS` rows, each followed by a comma."""
    return b"".join(row_text(index).encode() + b"," for index in range(BLOCK_ROWS))


# The server and client processes. Each one prints a line of JSON at its end. Its time limit is ``seconds``.


async def serve(handler: Any, seconds: float) -> None:
    """Serve until standard input is closed, which also happens if the parent process ends."""
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), closed.set)
    app = web.Application()
    app.router.add_route("*", "/{megabytes}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    async with asyncio.timeout(seconds):
        await closed.wait()
    await runner.cleanup()
    print(json.dumps({"peak_mib": peak_mib()}))


async def rows_of(megabytes: int) -> AsyncIterator[dict[str, Any]]:
    """Yield rows whose JSON has about ``megabytes`` MB in all."""
    for index in range(megabytes * MEGABYTE * BLOCK_ROWS // len(block())):
        yield row(index)


async def ours(request: web.Request) -> web.StreamResponse:
    """Send rows with `respond()`, over HTTP or a WebSocket."""
    return await chunkwise.respond(request, rows_of(int(request.match_info["megabytes"])), "json")


async def taking(request: web.Request) -> web.StreamResponse:
    """Read an upload with `items()`; respond with the number of its items and its size in MB."""
    stream = chunkwise.items(request)
    async for _ in stream:
        pass
    return web.json_response({"items": stream.items_seen, "megabytes": stream.bytes_seen / MEGABYTE})


async def foreign(request: web.Request) -> web.StreamResponse:
    """Send rows inside a JSON object with plain aiohttp, in chunks of the sizes in `ODD_SIZES`."""
    wanted = int(request.match_info["megabytes"]) * MEGABYTE
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"took": 12, "items": [')
    sizes, data, rows, sent = cycle(ODD_SIZES), b"", block(), 0
    while sent < wanted:
        data += rows
        sent += len(rows)
        while len(data) > max(ODD_SIZES):
            size = next(sizes)
            await response.write(data[:size])
            data = data[size:]
    await response.write(data[:-1] + b'], "more": false}')
    await response.write_eof()
    return response


async def read(session: ClientSession, url: str, path: str) -> dict[str, float]:
    """Read a response with `items()`."""
    async with session.get(url) as response:
        return await count(chunkwise.items(response, path))


async def send(session: ClientSession, url: str, path: str) -> dict[str, float]:  # noqa: ARG001 - as all clients have it
    """Upload rows with a request body of `chunkwise.body()`."""
    megabytes = int(url.rpartition("/")[2])
    async with session.post(url, data=chunkwise.body(rows_of(megabytes), "ndjson")) as response:
        result: dict[str, float] = await response.json()
        return result


async def hear(session: ClientSession, url: str, path: str) -> dict[str, float]:
    """Read a WebSocket whose messages have one item each, with `items()`."""
    async with session.ws_connect(url) as websocket:
        return await count(chunkwise.items(websocket, path))


async def hear_lines(session: ClientSession, url: str, path: str) -> dict[str, float]:
    """Read a WebSocket with `items()`; each message has several lines, with an item on each line."""
    async with session.ws_connect(url, protocols=[SUBPROTOCOL]) as websocket:
        return await count(chunkwise.items(websocket, path))


async def count(stream: Inbound) -> dict[str, float]:
    """Read a stream to its end; return the number of its items and its size in MB."""
    async for _ in stream:
        pass
    return {"items": stream.items_seen, "megabytes": stream.bytes_seen / MEGABYTE}


async def run_client(client: Any, url: str, path: str, seconds: float) -> None:
    """Run a client, and print its peak memory, items, MB and seconds as JSON."""
    started = time.perf_counter()
    async with ClientSession(timeout=ClientTimeout(total=seconds)) as session, asyncio.timeout(seconds):
        result = await client(session, url, path)
    print(json.dumps({"peak_mib": peak_mib(), **result, "seconds": time.perf_counter() - started}))


SERVERS = {"ours": ours, "foreign": foreign, "taking": taking}
CLIENTS = {"read": read, "send": send, "hear": hear, "hear lines": hear_lines}


def run_child(role: str, url: str, path: str, seconds: float) -> None:
    """Run a server or a client in this process; ``role`` is a name in `SERVERS` or `CLIENTS`."""
    if role in CLIENTS:
        asyncio.run(run_client(CLIENTS[role], url, path, seconds))
    else:
        asyncio.run(serve(SERVERS[role], seconds))


# The parent process starts the server and client processes, and compares their figures.


def child(role: str, seconds: float, *arguments: str) -> subprocess.Popen[str]:
    """Start this module in a new process, as the server or client that ``role`` names."""
    command = [sys.executable, "-m", "benchmarks.memory", "--role", role, "--seconds", str(seconds), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Pair(NamedTuple):
    """A server and a client: their roles, the JSON path that the client selects, and their names in the table."""

    server: str
    client: str
    path: str
    names: tuple[str, str]
    """The growth of a process whose name is in parentheses is not part of the claim."""


MEASURED = [
    Pair("ours", "read", "", ("respond() -> JSON array", "items() <- respond()")),
    Pair("foreign", "read", "items.item", ("(plain aiohttp server)", "items(path) <- plain aiohttp")),
    Pair("taking", "send", "", ("items(request) <- body()", "body() -> NDJSON")),
    Pair("ours", "hear", "", ("respond() -> WebSocket", "items() <- WebSocket")),
    Pair("ours", "hear lines", "", ("respond() -> WebSocket, lines", "items() <- WebSocket, lines")),
]


def measure(pair: Pair, megabytes: int, seconds: float) -> list[dict[str, Any]]:
    """Run a server and a client in new processes; return their figures, the server first.

    Raises:
        subprocess.SubprocessError: a process failed or took too long.
    """
    server = child(pair.server, seconds)
    client = None
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise subprocess.SubprocessError(f"the server {pair.server!r} did not start")
        client = child(pair.client, seconds, "--url", f"http://127.0.0.1:{port}/{megabytes}", "--path", pair.path)
        of_client, _ = client.communicate(timeout=seconds + 10)
        # `communicate` closes the server's standard input, which stops the server.
        of_server, _ = server.communicate(timeout=10)
    finally:
        for process in (client, server):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
    if client.returncode or server.returncode:
        raise subprocess.SubprocessError(
            f"the client ended with status {client.returncode}, the server with {server.returncode}, expected 0 and 0"
        )
    result = json.loads(of_client)
    if result["items"] < BLOCK_ROWS or result["megabytes"] < megabytes * 0.9:
        raise subprocess.SubprocessError(
            f"received {result['items']} items and {result['megabytes']:.0f} MB, expected about {megabytes} MB"
        )
    return [{**result, **json.loads(of_server)}, result]


def compare(small: int, large: int, seconds: float, say: Callable[[str], None] = print) -> float:
    """Measure all pairs with both stream sizes, print a table, and return the largest growth of peak memory in MiB.

    Raises:
        subprocess.SubprocessError: a process failed or took too long.
    """
    say(f"{'process':30} {'size':>8} {'peak':>11} {'growth':>11} {'seconds':>8} {'items':>10} {'MB/s':>6}")
    most = 0.0
    for pair in MEASURED:
        before = measure(pair, small, seconds)
        after = measure(pair, large, seconds)
        for name, at_small, at_large in zip(pair.names, before, after, strict=True):
            growth = at_large["peak_mib"] - at_small["peak_mib"]
            for result, grown in ((at_small, ""), (at_large, f"{growth:+.1f} MiB")):
                say(
                    f"{name:30} {result['megabytes']:5.0f} MB {result['peak_mib']:7.1f} MiB {grown:>11}"
                    f" {result['seconds']:8.1f} {result['items']:10,} {result['megabytes'] / result['seconds']:6.0f}"
                )
            if not name.startswith("("):
                most = max(most, growth)
    return most


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=10, metavar="MB", help="the size to compare with (10)")
    parser.add_argument("--large", type=int, metavar="MB", help="the size to measure (1000)")
    parser.add_argument("--quick", action="store_true", help="100 MB instead of 1000")
    parser.add_argument("--seconds", type=float, default=600, help="the limit for each process, in seconds (600)")
    parser.add_argument("--role", choices=[*SERVERS, *CLIENTS], help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--path", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        run_child(options.role, options.url, options.path, options.seconds)
        return 0
    large = options.large or (100 if options.quick else 1000)
    print(in_words(), "\n", flush=True)
    try:
        most = compare(options.small, large, options.seconds)
    except subprocess.SubprocessError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 2
    holds = most < MOST_GROWTH_MIB
    verdict = "holds" if holds else "DOES NOT HOLD"
    print(f"\npeak memory grows by {most:.1f} MiB at most, expected less than {MOST_GROWTH_MIB}: the claim {verdict}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
