"""Follow a log file as ``tail -F`` does: send each line when it is written, and report what happens to the file.

    python examples/uses/log_tail.py app.log
    while sleep 1; do date >> app.log; done                              # in another terminal
    mv app.log app.log.1                                                 # rotates it; ": > app.log" empties it
    curl -N http://127.0.0.1:8080/log                                    # the last 64 KiB, then all new lines
    chunkwise get http://127.0.0.1:8080/log --path line                  # only the lines

When another file takes the name (rotation), the item ``{"event": "rotated"}`` follows the last line of the old file.
When the file gets shorter, the item is ``{"event": "truncated"}``, and the file is read from its start. Two changes
cannot be detected: a file that is overwritten and is not shorter at the next check, and a new file that gets the inode
number of the removed one.

Each item says at which byte of which file it ends, so that a client can continue after a disconnect. EventSource and
``open_stream`` do so automatically. The feed runs until the server stops, and then it fails.
"""

import os
import sys
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from aiohttp import web

import chunkwise

LOG = Path(sys.argv[1] if len(sys.argv) > 1 else "app.log")
BLOCK_BYTES = 64 * 1024
"""The most bytes of one read, and of the old lines that a new client gets. A longer line is sent in parts."""

LOOK_SECONDS = 0.2

Items = list[dict[str, object]]

routes = web.RouteTableDef()


@routes.get("/log")
async def log(request: web.Request) -> web.StreamResponse:
    source = chunkwise.resumable(lines_after, key=["file", "byte"])
    # Keepalives are sent, because a log may be silent for longer than proxies and clients wait for data.
    return await chunkwise.respond(request, source, ["ndjson", "sse", "json"], keepalive_seconds=15)


def lines_after(position: tuple[Any, ...] | None) -> chunkwise.Batches:
    """Return a source of the items that follow a client's position (inode number and byte offset).

    ``position`` is None for a client that starts to read.
    """
    if position is not None and not all(type(number) is int and 0 <= number < 2**63 for number in position):
        msg = f"got the position {position}, expected an inode number and a byte offset"
        raise ValueError(msg)
    return chunkwise.Batches(follow(LOG, position))


def follow(path: Path, position: tuple[Any, ...] | None) -> Iterator[Items]:
    """Yield lists of lines: first those of the log, then those of each file that replaces it.

    This generator runs in a thread, so it may block.

    An empty list sends nothing, but lets chunkwise close the source after a disconnect. Without empty lists, the thread
    would run until the next line is written.
    """
    past_bytes = BLOCK_BYTES
    while True:
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:  # the log does not exist yet, or has been moved
            past_bytes = sys.maxsize  # if the log is created later, all its bytes are sent
            yield []
            time.sleep(LOOK_SECONDS)
            continue
        with file:
            found = os.fstat(file.fileno())
            start, cut = 0, False
            if position is None:
                start = max(0, found.st_size - past_bytes)
                cut = start > 0
            elif position[0] == found.st_ino:
                start = position[1]
            else:
                yield [{"event": "rotated", "file": found.st_ino, "byte": 0}]
            yield from lines_of(file, path, start, cut=cut)
        # No file has the inode number -1, so the next file is reported as rotated, and read from its start.
        position = (-1, 0)


def lines_of(file: FileIO, path: Path, start: int, *, cut: bool) -> Iterator[Items]:
    """Yield the lines of a file from byte ``start`` on, until another file has its name.

    If ``cut`` is true, the first line is left out, because it may begin before ``start``.
    """
    number = os.fstat(file.fileno()).st_ino
    byte, rest = file.seek(start), b""
    while True:
        if os.fstat(file.fileno()).st_size < byte + len(rest):
            byte, rest, cut = file.seek(0), b"", False
            yield [{"event": "truncated", "file": number, "byte": 0}]
        # First check whether the file was replaced, then read. In the other order, lines that are written between the
        # read and the replacement would be lost.
        replaced = is_replaced(path, number)
        data = file.read(BLOCK_BYTES)
        *whole, rest = (rest + data).split(b"\n")
        lines = [line + b"\n" for line in whole]
        if len(rest) >= BLOCK_BYTES or (rest and replaced and not data):
            lines, rest = [*lines, rest], b""
        items: Items = []
        for line in lines:
            byte += len(line)
            items.append({"line": line.removesuffix(b"\n").decode(errors="replace"), "file": number, "byte": byte})
        yield items[1:] if cut else items
        cut = cut and not items
        if not data:
            if replaced:
                return
            time.sleep(LOOK_SECONDS)


def is_replaced(path: Path, number: int) -> bool:
    """Whether a file with another inode number has the path now; False if no file has the path."""
    try:
        return path.stat().st_ino != number
    except FileNotFoundError:
        return False


app = web.Application()
app.add_routes(routes)
chunkwise.setup(app, grace_seconds=0)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
