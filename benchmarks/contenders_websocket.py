"""200,000 rows from an async generator -> WebSocket messages.

Benchmarks are hard; what is unfair here:

- chunkwise' batches are for who offers its subprotocol: many items in a message, each in a line. A plain `send_str` for
  each item is what aiohttp's users write; nobody keeps them from making batches by hand.
- The one that is judged encodes with `json.dumps`, as aiohttp's own `send_json` does; with orjson it is faster, and
  stands in the table, too.
- chunkwise waits until the client's kernel has all, and for the answer to its close, before its handler ends. The
  clock stops at the close frame, for all.
- No messages are compressed, on either side.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from benchmarks.contender import Contender, Task, Told, WrongContent
from benchmarks.draining import connect, drain_websocket
from benchmarks.rows import row, rows
from benchmarks.serving import serve_aiohttp

SUBPROTOCOL = "chunkwise.ndjson"


async def ours(request: Any) -> Any:
    """`respond`: it is the client that chooses what stands in a message."""
    import chunkwise

    return await chunkwise.respond(request, rows(int(request.match_info["count"])), "json")


async def send_each(request: Any, *, with_orjson: bool) -> Any:
    """A plain aiohttp handler that sends item by item."""
    from aiohttp import web

    encode: Callable[[Any], str] = json.dumps
    if with_orjson:
        import orjson

        def encode(item: Any) -> str:
            text: str = orjson.dumps(item).decode()
            return text

    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for item in rows(int(request.match_info["count"])):
        await websocket.send_str(encode(item))
    await websocket.close()
    return websocket


def serve_handler(_: int, handler: Any) -> None:
    """Serve one of the handlers above."""
    import chunkwise  # noqa: F401 - so that the rivals' processes begin with as much memory

    serve_aiohttp({"/{count}": handler})


def read_messages(task: Task, subprotocol: str = "") -> Told:
    """Drain a WebSocket; look at its messages if asked to."""
    with connect(task.port) as connection:
        drained = drain_websocket(connection, f"/{task.count}", subprotocol, keep=task.check)
    if task.check:
        got = [msgspec.json.decode(line) for message in drained.messages for line in message.splitlines()]
        if got != [row(index) for index in range(task.count)]:
            raise WrongContent(f"{len(got)} items, not the {task.count} that were to come")
    return {"seconds": drained.seconds, "bytes": drained.size, "items": task.count}


BATCHES = "chunkwise respond(), WebSocket, items in batches"
SEND_STR = "aiohttp send_str(json.dumps(item)) an item"

WEBSOCKET = [
    Contender(
        name=BATCHES,
        server=partial(serve_handler, handler=ours),
        client=partial(read_messages, subprotocol=SUBPROTOCOL),
    ),
    Contender(
        name=SEND_STR,
        server=partial(serve_handler, handler=partial(send_each, with_orjson=False)),
        client=read_messages,
    ),
    Contender(
        name="aiohttp send_str(orjson.dumps(item)) an item",
        server=partial(serve_handler, handler=partial(send_each, with_orjson=True)),
        client=read_messages,
        needs=("orjson",),
    ),
    Contender(
        name="chunkwise respond(), WebSocket, an item a message",
        server=partial(serve_handler, handler=ours),
        client=read_messages,
    ),
]
