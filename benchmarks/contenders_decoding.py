"""A document of 200,000 rows over HTTP -> the values at a path, read with an aiohttp client.

The comparison is partly unfair. Consider these points when you read the figures:

- All contenders are limited by the creation of Python objects. If the items are dicts, or Structs of all fields, a
  faster scanner saves little time. If few objects are created, a faster scanner saves more.
- chunkwise and msgspec check the items against a type if there is one. ijson returns dicts. The time to
  convert the dicts to Structs is not measured.
- ijson's numbers are floats here (``use_float=True``). By default they are Decimals, which take longer. Its backend is
  yajl, in C. chunkwise also checks UTF-8, depth and item size, and raises an error if the document is incomplete.
- json-stream is not asynchronous. It gets the whole body at once, so it does not have to handle chunks. Its tokenizer
  is in Rust, and its items are converted to dicts (`to_standard_types`), since they can be read only once.
- The contenders that read the whole body hold it in memory, together with all items, and Python's garbage collector
  visits them repeatedly, as it does by default. Their first item is available after the last byte.
- "ready windows" reads the same bytes with the same client. After each read it decodes the rows that are complete,
  whose ends it knows in advance. It scans and checks nothing, so its time is the limit that a scanner could reach. It
  holds the whole document in memory, to know these ends.
- The server is another process on the other core, and sends prepared bytes, 64 KiB at a time.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache, partial
from typing import Any

import msgspec

from benchmarks.contender import Client, Contender, Figures, Task
from benchmarks.rows import ANSWER, BEFORE_ITEMS, document, row
from benchmarks.serving import serve_bytes
from benchmarks.taking import Taken

ready_document = cache(document)


class Address(msgspec.Struct):
    """The address, an object inside each row, with all its fields."""

    street: str
    number: int
    city: str


class Row(msgspec.Struct):
    """A row with all its fields."""

    id: int
    name: str
    mail: str
    score: float
    tags: list[str]
    address: Address


class RowOfTwo(msgspec.Struct):
    """A row with two of its fields; decoding skips the others."""

    id: int
    name: str


def serve_document(ready: int) -> None:
    """Serve documents of any number of rows; the one with ``ready`` rows is prepared before the first request."""
    serve_bytes(ready, lambda count: document(count).text, "application/json")


Read = Callable[[Any, Task, Taken], Awaitable[None]]
"""Reads the items of an aiohttp response."""


async def ours(response: Any, _: Task, taken: Taken, *, path: str = "items.item", type: Any = Any) -> None:
    """Read the items one by one with `chunkwise.items`."""
    import chunkwise

    await taken.one_by_one(chunkwise.items(response, path, type=type))


async def ours_in_lists(response: Any, _: Task, taken: Taken) -> None:
    """Read the items in batches with `chunkwise.items`."""
    import chunkwise

    await taken.in_lists(chunkwise.items(response, "items.item").batches())


async def ijson_items(response: Any, _: Task, taken: Taken, *, path: str = "items.item") -> None:
    """Read the items with ijson's `items_async`."""
    import ijson

    await taken.one_by_one(ijson.items_async(response.content, path, use_float=True))


async def ijson_push(response: Any, _: Task, taken: Taken) -> None:
    """Send each chunk of the response to ijson's `items_coro`."""
    import ijson

    items = ijson.sendable_list()
    target = ijson.items_coro(items, "items.item", use_float=True)
    async for data in response.content.iter_any():
        target.send(data)
        taken.all_of(items)
        del items[:]
    target.close()


async def json_stream_items(response: Any, _: Task, taken: Taken) -> None:
    """Read the whole body, then its items with json-stream."""
    import json_stream

    body = io.BytesIO(await response.read())
    taken.all_of(json_stream.to_standard_types(item) for item in json_stream.load(body)["items"])


async def whole(response: Any, _: Task, taken: Taken, *, engine: str) -> None:
    """Decode the whole body in one call of `json`, orjson or msgspec."""
    body = await response.read()
    if engine == "msgspec":
        taken.all_of(msgspec.json.decode(body)["items"])
    elif engine == "orjson":
        import orjson

        taken.all_of(orjson.loads(body)["items"])
    else:
        taken.all_of(json.loads(body)["items"])


async def ready_windows(response: Any, task: Task, taken: Taken) -> None:
    """After each chunk, decode the rows that it completes; the ends of the rows are known in advance."""
    text, ends = ready_document(task.count)
    await taken.in_lists(_windows(response, text, ends))


async def _windows(response: Any, text: bytes, ends: list[int]) -> AsyncIterator[list[Any]]:
    decode = msgspec.json.Decoder(list[Any]).decode
    start, came = len(BEFORE_ITEMS), 0
    async for data in response.content.iter_any():
        came += len(data)
        if place := bisect_right(ends, came):
            end = ends[place - 1]
            if end > start:
                yield decode(b"[" + text[start:end] + b"]")
                start = end + 1


def run_reader(task: Task, read: Read, expected: Callable[[int], list[Any]], imports: tuple[str, ...] = ()) -> Figures:
    """Request the document, read its items with ``read``, and return the figures."""
    # aiohttp is imported here and not at the top, because processes of other subjects import this file too, and the
    # memory of aiohttp would be measured as theirs.
    from aiohttp import ClientSession, ClientTimeout

    for name in imports:
        importlib.import_module(name)
    taken = Taken(keep=task.check)
    if read is ready_windows:
        ready_document(task.count)

    async def run() -> tuple[float, int]:
        async with ClientSession(timeout=ClientTimeout(total=None)) as session:
            started = time.perf_counter()
            async with session.get(f"http://127.0.0.1:{task.port}/{task.count}") as response:
                await read(response, task, taken)
            return time.perf_counter() - started, response.content.total_bytes

    seconds, size = asyncio.run(run())
    wanted = expected(task.count) if task.check else []
    taken.expect(wanted, 1 if expected is answer_only else task.count)
    return {"seconds": seconds, "bytes": size, "items": taken.count}


def decode_windows(task: Task) -> Figures:
    """Decode prepared windows of 64 KiB of complete rows each, without a network."""
    text, ends = ready_document(task.count)
    windows, start = [], len(BEFORE_ITEMS)
    while start < ends[-1]:
        end = ends[min(bisect_right(ends, start + 65536), len(ends)) - 1]
        windows.append(b"[" + text[start:end] + b"]")
        start = end + 1
    taken = Taken(keep=task.check)
    decode = msgspec.json.Decoder(list[Any]).decode
    started = time.perf_counter()
    for window in windows:
        taken.all_of(decode(window))
    seconds = time.perf_counter() - started
    taken.expect(all_rows(task.count) if task.check else [], task.count)
    return {"seconds": seconds, "bytes": len(text), "items": taken.count}


# The functions below return the items that a client must receive.


def all_rows(count: int) -> list[Any]:
    """Return the rows as dicts."""
    return [row(index) for index in range(count)]


def rows_as(type: Any, count: int) -> list[Any]:
    """Return the rows as Structs."""
    return [msgspec.convert(row(index), type) for index in range(count)]


def ids(count: int) -> list[Any]:
    """Return the id of each row."""
    return list(range(count))


def answer_only(_: int) -> list[Any]:
    """Return a list with the one value that follows the rows of the document."""
    return [ANSWER]


def _client(read: Read, expected: Callable[[int], list[Any]] = all_rows, imports: str = "") -> Client:
    return partial(run_reader, read=read, expected=expected, imports=tuple(imports.split()))


OURS = "chunkwise items(): dicts"
STRUCTS = "chunkwise items(): Structs of all fields"
STRUCTS_OF_TWO = "chunkwise items(): Structs of two fields"
IDS = "chunkwise items(): items.item.id"
SKIPS = "chunkwise items(): more.answer, after all items"
IJSON = "ijson items_async(use_float=True): dicts"
IJSON_PUSH = "ijson push: dicts"
IJSON_IDS = "ijson items_async: items.item.id"
IJSON_SKIPS = "ijson items_async: more.answer"
JSON_STREAM = "json-stream: dicts"
WHOLE_ORJSON = "read all, orjson.loads"
WINDOWS = "ready windows, msgspec (limit)"

_ours = partial(_client, imports="chunkwise")

DICTS = [
    Contender(name=OURS, server=serve_document, client=_ours(ours)),
    Contender(name="chunkwise items().batches(): dicts", server=serve_document, client=_ours(ours_in_lists)),
    Contender(name=IJSON, server=serve_document, client=_client(ijson_items, imports="ijson")),
    Contender(name=IJSON_PUSH, server=serve_document, client=_client(ijson_push, imports="ijson")),
    Contender(
        name=JSON_STREAM,
        server=serve_document,
        client=_client(json_stream_items, imports="json_stream"),
        needs=("json_stream",),
    ),
    Contender(name="read all, json.loads", server=serve_document, client=_client(partial(whole, engine="json"))),
    Contender(
        name=WHOLE_ORJSON,
        server=serve_document,
        client=_client(partial(whole, engine="orjson"), imports="orjson"),
        needs=("orjson",),
    ),
    Contender(name="read all, msgspec", server=serve_document, client=_client(partial(whole, engine="msgspec"))),
    Contender(name=WINDOWS, server=serve_document, client=_client(ready_windows)),
    Contender(name="... without a network", client=decode_windows),
]

TYPED = [
    Contender(
        name=STRUCTS,
        server=serve_document,
        client=_ours(partial(ours, type=Row), expected=partial(rows_as, Row)),
    ),
    Contender(
        name=STRUCTS_OF_TWO,
        server=serve_document,
        client=_ours(partial(ours, type=RowOfTwo), expected=partial(rows_as, RowOfTwo)),
    ),
]

PATHS = [
    Contender(name=IDS, server=serve_document, client=_ours(partial(ours, path="items.item.id"), expected=ids)),
    Contender(
        name=IJSON_IDS,
        server=serve_document,
        client=_client(partial(ijson_items, path="items.item.id"), ids, imports="ijson"),
    ),
    Contender(name=SKIPS, server=serve_document, client=_ours(partial(ours, path="more.answer"), expected=answer_only)),
    Contender(
        name=IJSON_SKIPS,
        server=serve_document,
        client=_client(partial(ijson_items, path="more.answer"), answer_only, imports="ijson"),
    ),
]
