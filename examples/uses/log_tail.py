"""A log that grows, as ``tail -F`` follows it: each line when it is written, and what happens to the file is told.

    python examples/uses/log_tail.py app.log
    while sleep 1; do date >> app.log; done                              # in another terminal
    mv app.log app.log.1                                                 # while it is followed; or: : > app.log
    curl -N http://127.0.0.1:8080/log                                    # the last 64 KiB, and what comes
    chunkwise get http://127.0.0.1:8080/log --path line                  # the lines only

Another file that takes the name (rotation) is an item ``{"event": "rotated"}``, behind all lines of the old one; a file
that gets shorter is ``{"event": "truncated"}``, and is read from its start. (One that was written over between two
looks at it, and is no shorter then, nobody can tell from one that grew; nor a file that was removed from a new one that
has got its number.) Each item says where it ends, by which a client that was cut goes on: an EventSource and
``open_stream`` do so by themselves. The feed never ends; a server that stops cuts it.
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
"""Read at once, shown of the past, and more than this of a line comes in pieces."""

LOOK_SECONDS = 0.2

Items = list[dict[str, object]]

routes = web.RouteTableDef()


@routes.get("/log")
async def log(request: web.Request) -> web.StreamResponse:
    source = chunkwise.resumable(behind, key=["file", "byte"])
    # A log may be silent for longer than proxies and clients wait for a sign of life.
    return await chunkwise.respond(request, source, ["ndjson", "sse", "json"], keepalive_seconds=15)


def behind(place: tuple[Any, ...] | None) -> chunkwise.Batches:
    """Return the source of all behind a place, which comes from a client."""
    if place is not None and not all(type(number) is int and 0 <= number < 2**63 for number in place):
        msg = f"got the place {place}, expected the numbers of a file and a byte"
        raise ValueError(msg)
    return chunkwise.Batches(follow(LOG, place))


def follow(path: Path, place: tuple[Any, ...] | None) -> Iterator[Items]:
    """Yield the lines of one file after the other, in lists; it runs in a thread, so that it may block.

    An empty list is no item, but a place where the source can be closed: who has left must not wait for the next line.
    """
    past_bytes = BLOCK_BYTES
    while True:
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:  # not yet, or not again
            past_bytes = sys.maxsize  # what is new then is shown from its start
            yield []
            time.sleep(LOOK_SECONDS)
            continue
        with file:
            found = os.fstat(file.fileno())
            start, cut = 0, False
            if place is None:
                start = max(0, found.st_size - past_bytes)
                cut = start > 0
            elif place[0] == found.st_ino:
                start = place[1]
            else:
                yield [{"event": "rotated", "file": found.st_ino, "byte": 0}]
            yield from lines_of(file, path, start, cut=cut)
        place = (-1, 0)  # no file's


def lines_of(file: FileIO, path: Path, start: int, *, cut: bool) -> Iterator[Items]:
    """Yield the lines of a file from a byte on, until another has its name; the first may be cut, and is left out."""
    number = os.fstat(file.fileno()).st_ino
    byte, rest = file.seek(start), b""
    while True:
        if os.fstat(file.fileno()).st_size < byte + len(rest):
            byte, rest, cut = file.seek(0), b"", False
            yield [{"event": "truncated", "file": number, "byte": 0}]
        replaced = is_replaced(path, number)  # before it is read: what was written until then is read, too
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
    """Whether another file has the name; none yet is no other."""
    try:
        return path.stat().st_ino != number
    except FileNotFoundError:
        return False


app = web.Application()
app.add_routes(routes)
chunkwise.setup(app, grace_seconds=0)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
