"""A size -> the peak memory of the processes that stream and read a JSON document of that size.

The claim: `items()` over a 1 GB document, and `respond()` of as much, take less than 32 MiB more than over 10 MB. Each
figure is the peak resident set of a process of its own, as the system tells it at the process' end. Benchmarks are
hard: the seconds here are of two processes that share the machine, and only as good as its other work lets them be.

    python benchmarks/memory.py            # 10 MB and 1 GB; some minutes
    python benchmarks/memory.py --quick    # 10 MB and 100 MB

Exit status: 0 the claim holds, 1 it does not, 2 a process failed or took too long.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any

from aiohttp import ClientSession, ClientTimeout, web

import chunkwise

MEGABYTE = 1_000_000
MOST_GROWTH_MIB = 32
ODD_SIZES = (1, 70_001, 13, 4_099, 65_537, 2, 257, 131_071)
"""In which the foreign server cuts its answer, over and over: no item begins where a chunk does."""

BLOCK_ROWS = 1000
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def row(index: int) -> dict[str, Any]:
    """One item: text, numbers and nesting; its JSON has about 150 bytes."""
    return {
        "id": index,
        "name": f"user {index}",
        "mail": f"user.{index}@example.org",
        "score": index / 7,
        "tags": ["a", "b", "c"],
        "address": {"street": "Main street", "number": index % 100, "city": "Überlingen"},
    }


def block() -> bytes:
    """The JSON of some rows, each with a comma behind it."""
    return b"".join(_compact.encode(row(index)).encode() + b"," for index in range(BLOCK_ROWS))


def peak_mib() -> float:
    """Return the peak resident set of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


# The processes: each prints one line of JSON at its end, and ends by itself when its time is over.


async def serve(handler: Any, seconds: float) -> None:
    """Serve until standard input is closed, which it is as soon as the parent ends."""
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), closed.set)
    app = web.Application()
    app.router.add_get("/{megabytes}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    async with asyncio.timeout(seconds):
        await closed.wait()
    await runner.cleanup()
    print(json.dumps({"peak_mib": peak_mib()}))


async def ours(request: web.Request) -> web.StreamResponse:
    """`respond()` of as many rows as make up the size."""
    wanted = int(request.match_info["megabytes"]) * MEGABYTE
    count = wanted * BLOCK_ROWS // len(block())

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for index in range(count):
            yield row(index)

    return await chunkwise.respond(request, rows(), "json")


async def foreign(request: web.Request) -> web.StreamResponse:
    """What a plain aiohttp server sends: the items inside an object, cut anywhere."""
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


async def read(url: str, path: str, seconds: float) -> None:
    """`items()` over an answer."""
    count = 0
    started = time.perf_counter()
    async with ClientSession(timeout=ClientTimeout(total=seconds)) as session, session.get(url) as response:
        stream = chunkwise.items(response, path)
        async for _ in stream:
            count += 1
    taken = time.perf_counter() - started
    told = {"peak_mib": peak_mib(), "items": count, "megabytes": stream.bytes_seen / MEGABYTE, "seconds": taken}
    print(json.dumps(told))


def run_child(role: str, url: str, path: str, seconds: float) -> None:
    """Be one of the processes."""
    if role == "read":
        asyncio.run(read(url, path, seconds))
    else:
        asyncio.run(serve({"ours": ours, "foreign": foreign}[role], seconds))


# The parent.


def child(role: str, seconds: float, *arguments: str) -> subprocess.Popen[str]:
    """Start a process of this script."""
    command = [sys.executable, __file__, "--role", role, "--seconds", str(seconds), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(role: str, path: str, megabytes: int, seconds: float) -> list[dict[str, Any]]:
    """Run a server and a client of their own; return what they told, the server first.

    Raises:
        subprocess.SubprocessError: one of them failed, or took too long.
    """
    server = child(role, seconds)
    client = None
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise subprocess.SubprocessError(f"the server {role!r} did not start")
        client = child("read", seconds, "--url", f"http://127.0.0.1:{port}/{megabytes}", "--path", path)
        of_client, _ = client.communicate(timeout=seconds + 10)
        of_server, _ = server.communicate(timeout=10)  # closes its standard input
    finally:
        for process in (client, server):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
    if client.returncode or server.returncode:
        raise subprocess.SubprocessError(f"the client ended with {client.returncode}, the server {server.returncode}")
    told = json.loads(of_client)
    if told["items"] < BLOCK_ROWS or told["megabytes"] < megabytes * 0.9:
        raise subprocess.SubprocessError(f"only {told['items']} items and {told['megabytes']:.0f} MB came")
    return [{**told, **json.loads(of_server)}, told]


MEASURED = [
    ("ours", "", ["respond() -> JSON array", "items() <- respond()"]),
    ("foreign", "items.item", ["(plain aiohttp server)", "items(path) <- plain aiohttp"]),
]
"""Server, the client's path, and what the two processes are called; those in brackets are not judged."""


def machine() -> str:
    """Versions and hardware, in one line each."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("chunkwise", "aiohttp", "msgspec")]
    scanner = getattr(sys.modules.get("chunkwise.formats.scanner"), "__file__", None) or "?"
    kind = "pure" if scanner.endswith(".py") else "compiled"
    processor = platform.processor()
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110 - stdlib and short
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    return (
        f"{', '.join(versions)}, scanner {kind}, {platform.python_implementation()} {platform.python_version()}\n"
        f"{platform.system()} {platform.release()}, {os.cpu_count()} x {processor}"
    )


def compare(small: int, large: int, seconds: float) -> float:
    """Measure all at both sizes, print the table, and return the largest growth that is judged, in MiB."""
    print(machine(), "\n", flush=True)
    print(f"{'process':30} {'size':>8} {'peak':>11} {'growth':>11} {'seconds':>8} {'items':>10} {'MB/s':>6}")
    most = 0.0
    for role, path, names in MEASURED:
        before = measure(role, path, small, seconds)
        after = measure(role, path, large, seconds)
        for name, at_small, at_large in zip(names, before, after, strict=True):
            growth = at_large["peak_mib"] - at_small["peak_mib"]
            for told, grown in ((at_small, ""), (at_large, f"{growth:+.1f} MiB")):
                print(
                    f"{name:30} {told['megabytes']:5.0f} MB {told['peak_mib']:7.1f} MiB {grown:>11}"
                    f" {told['seconds']:8.1f} {told['items']:10,} {told['megabytes'] / told['seconds']:6.0f}",
                    flush=True,
                )
            if not name.startswith("("):
                most = max(most, growth)
    return most


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=10, metavar="MB", help="the size to compare with (10)")
    parser.add_argument("--large", type=int, metavar="MB", help="the size that must not take much more (1000)")
    parser.add_argument("--quick", action="store_true", help="100 MB instead of 1000")
    parser.add_argument("--seconds", type=float, default=600, help="how long one run may take at most (600)")
    parser.add_argument("--role", choices=["ours", "foreign", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--path", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        run_child(options.role, options.url, options.path, options.seconds)
        return 0
    large = options.large or (100 if options.quick else 1000)
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
