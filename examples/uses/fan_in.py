"""Several streams as one: each item when it comes, from whichever stream, with that one's name.

    python examples/uses/fan_in.py                                       # merges three of its own; or NAME=URL ...
    curl -N http://127.0.0.1:8080/merged
    curl -N 'http://127.0.0.1:8080/merged?fail=2'; echo "exit $?"        # one fails behind 2 items: the whole does, 18
    curl -N 'http://127.0.0.1:8080/merged?fail=2&failures=told'          # that is an item, and the others go on
    curl -N -H 'Prefer: stream-end' 'http://127.0.0.1:8080/merged?fail=2'     # and why

No more is held than a batch of each stream: where the reader is slow, all the streams wait. A reader that leaves ends
their requests.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import ClientSession, web

import chunkwise

PORT = int(os.environ.get("PORT", "8080"))
PACES = {"quick": 0.1, "middling": 0.2, "slow": 0.3}
OWN = {name: f"http://127.0.0.1:{PORT}/sensors/{name}" for name in PACES}
URLS: dict[str, str] = dict(word.split("=", 1) for word in sys.argv[1:]) or OWN
PREFERRED = {"Accept": "application/x-ndjson, */*;q=0.5"}  # which has a place for the reason of a failure
SESSION = web.AppKey("session", ClientSession)

Ready = asyncio.Queue[tuple[str, list[Any] | Exception | None]]

routes = web.RouteTableDef()


@routes.get("/merged")
async def merged(request: web.Request) -> web.StreamResponse:
    urls = dict(URLS)
    if (fail := request.query.get("fail", "")).isdecimal():
        urls["middling"] = f"{OWN['middling']}?fail={fail}"
    source = merge(request.app[SESSION], urls, told=request.query.get("failures") == "told")
    return await chunkwise.respond(request, chunkwise.Batches(source), ["ndjson", "sse", "json"], keepalive_seconds=15)


async def merge(session: ClientSession, urls: Mapping[str, str], *, told: bool) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the items of all streams in lists, as they come.

    Args:
        session: asks for them.
        urls: their names and places.
        told: whether the end of each, a failure as well, is an item; otherwise the first that fails fails the whole.
    """
    ready: Ready = asyncio.Queue(maxsize=1)
    readers = [asyncio.create_task(read(session, name, url, ready)) for name, url in urls.items()]
    # No TaskGroup: it would cancel the task of the whole answer, which may be at work outside of this function.
    running = len(readers)
    try:
        while running:
            name, got = await ready.get()
            if isinstance(got, list):
                yield [{"stream": name, "item": item} for item in got]
                continue
            running -= 1
            if got is not None and not told:
                raise web.HTTPBadGateway(text=f"the stream {name} has failed: {got}") from got
            if told:
                yield [{"stream": name, "failed": str(got)} if got else {"stream": name, "ended": True}]
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def read(session: ClientSession, name: str, url: str, ready: Ready) -> None:
    """Hand over the batches of a stream, each when there is room for it, and then what it has failed with, or None."""
    failure = None
    try:
        async with chunkwise.open_stream(session, url, headers=PREFERRED) as stream:
            async for batch in stream.batches():
                await ready.put((name, batch))
    except Exception as error:  # noqa: BLE001 - whatever it is, who merges raises or tells it
        failure = error
    await ready.put((name, failure))


@routes.get("/sensors/{name:quick|middling|slow}")
@chunkwise.streaming
async def sensor(request: web.Request) -> AsyncIterator[dict[str, int]]:
    """Stand in for another server."""
    pace, fail = PACES[request.match_info["name"]], int(request.query.get("fail", "0"))
    for number in range(1, 9):
        await asyncio.sleep(pace)
        yield {"number": number}
        if number == fail:
            raise web.HTTPServiceUnavailable(text="the sensor has been unplugged")


async def open_session(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession() as app[SESSION]:
        yield


app = web.Application()
app.add_routes(routes)
app.cleanup_ctx.append(open_session)
chunkwise.setup(app, grace_seconds=1)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=PORT)
