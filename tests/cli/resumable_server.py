"""A server of resumable rows that prints its port. It is slow, so that tests can kill it while a client reads."""

import asyncio
import sys
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

COUNT = 2000


async def rows(start: int) -> AsyncIterator[dict[str, str]]:
    for index in range(start, COUNT):
        if index % 20 == 0:
            await asyncio.sleep(0.01)
        yield {"n": str(index), "text": f'é, "{index}"\n' * (index % 4)}


async def by_key(after: tuple[str] | None) -> AsyncIterator[dict[str, str]]:
    async for row in rows(0 if after is None else int(after[0]) + 1):
        yield row


etag = sys.argv[1]


async def indexed(request: web.Request) -> web.StreamResponse:
    return await chunkwise.respond(request, chunkwise.resumable(rows, etag=etag))


async def keyed(request: web.Request) -> web.StreamResponse:
    return await chunkwise.respond(request, chunkwise.resumable(by_key, key=["n"], etag=etag))


async def tagged(request: web.Request) -> web.StreamResponse:
    # Each record of the first half has two values at tags.item, each record of the second half has none.
    async def records(start: int) -> AsyncIterator[dict[str, list[str]]]:
        async for row in rows(start):
            yield {"tags": [f"{row['n']}a", f"{row['n']}b"] if int(row["n"]) < COUNT // 2 else []}

    return await chunkwise.respond(request, chunkwise.resumable(records, etag=etag))


async def plain(request: web.Request) -> web.StreamResponse:
    return await chunkwise.respond(request, rows(0))


async def failing(request: web.Request) -> web.StreamResponse:
    async def three(start: int) -> AsyncIterator[dict[str, str]]:
        for index in range(start, 3):
            yield {"n": str(index)}
        raise ValueError("on purpose")

    return await chunkwise.respond(request, chunkwise.resumable(three, etag=etag), "ndjson")


async def main() -> None:
    app = web.Application()
    app.router.add_get("/indexed", indexed)
    app.router.add_get("/keyed", keyed)
    app.router.add_get("/tagged", tagged)
    app.router.add_get("/plain", plain)
    app.router.add_get("/failing", failing)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201
    await asyncio.Event().wait()


asyncio.run(main())
