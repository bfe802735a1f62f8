"""Contenders that send 200,000 rows of an async generator as WebSocket messages.

The comparison is unfair in these ways:

- chunkwise sends batches only to clients that offer its subprotocol. A batch is one message with a line for each item.
  Users of aiohttp usually call `send_str` once for each item. They could build batches by hand.
- The target for WebSockets compares chunkwise with a plain aiohttp handler that encodes each item with `json.dumps`,
  like `send_json` of aiohttp. With orjson this handler is faster. Both variants are in the table.

No contender compresses its messages. For all contenders, the measured time ends when the client has read the server's
close frame. So the time for which chunkwise then waits for the client's reply is not measured.
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
    """Send the rows with `chunkwise.respond`: many in a message if the client offers `SUBPROTOCOL`, otherwise one."""
    import chunkwise

    return await chunkwise.respond(request, rows(int(request.match_info["count"])), "json")


async def send_each(request: Any, *, with_orjson: bool) -> Any:
    """Send each row as a message with plain aiohttp."""
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
    """Run an aiohttp server with one of the handlers above. A request to /1000 gets 1000 rows."""
    import chunkwise  # noqa: F401 - so that all aiohttp servers begin with the same memory

    serve_aiohttp({"/{count}": handler})


def read_messages(task: Task, subprotocol: str = "") -> Figures:
    """Read the messages of a WebSocket. If ``task.check`` is set, compare their rows with the expected ones."""
    with connect(task.port) as connection:
        drained = drain_websocket(connection, f"/{task.count}", subprotocol, keep=task.check)
    if task.check:
        got = [msgspec.json.decode(line) for message in drained.messages for line in message.splitlines()]
        if got != [row(index) for index in range(task.count)]:
            raise WrongContent(
                f"the {len(got)} received rows differ in number or content from the {task.count} expected rows"
            )
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
