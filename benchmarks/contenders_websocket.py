"""200,000 rows from an async generator -> WebSocket messages.

The comparison is unfair in these ways:

- chunkwise sends batches, many items in one message with a line each, only to clients that offer its subprotocol. One
  `send_str` for each item is what users of aiohttp usually write. They could build batches by hand.
- The handler in the question encodes with `json.dumps`, as aiohttp's own `send_json` does. With orjson it is faster.
  Both are in the table.
- Before its handler ends, chunkwise waits until the client's kernel has all data and for the client's close. For all
  contenders, the clock stops at the server's close frame.
- No messages are compressed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from benchmarks.contender import Contender, Figures, Task, WrongContent
from benchmarks.draining import connect, drain_websocket
from benchmarks.rows import row, rows
from benchmarks.serving import serve_aiohttp

SUBPROTOCOL = "chunkwise.ndjson"


async def ours(request: Any) -> Any:
    """Respond with `respond`; the client's subprotocol decides how many items a message has."""
    import chunkwise

    return await chunkwise.respond(request, rows(int(request.match_info["count"])), "json")


async def send_each(request: Any, *, with_orjson: bool) -> Any:
    """Respond with plain aiohttp, and send item by item."""
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
    import chunkwise  # noqa: F401 - so that all processes begin with the same memory

    serve_aiohttp({"/{count}": handler})


def read_messages(task: Task, subprotocol: str = "") -> Figures:
    """Read a WebSocket to its end; compare its messages if the task says so."""
    with connect(task.port) as connection:
        drained = drain_websocket(connection, f"/{task.count}", subprotocol, keep=task.check)
    if task.check:
        got = [msgspec.json.decode(line) for message in drained.messages for line in message.splitlines()]
        if got != [row(index) for index in range(task.count)]:
            raise WrongContent(f"{len(got)} items, which differ from the {task.count} expected")
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
