"""Merge several streams into one: each item is sent when it arrives, with the name of its stream.

    python examples/uses/fan_in.py                                       # merges three streams of this server
    python examples/uses/fan_in.py NAME=URL NAME=URL                     # or merges the streams at these URLs
    curl -N http://127.0.0.1:8080/merged
    curl -N 'http://127.0.0.1:8080/merged?fail=2'; echo "exit $?"        # one stream fails, so all do: exit code 18
    curl -N -H 'Prefer: stream-end' 'http://127.0.0.1:8080/merged?fail=2'     # the last line has the reason
    curl -N 'http://127.0.0.1:8080/merged?fail=2&failures=items'         # the failure is an item, the others continue

At most one batch of each stream is in memory: if the reader is slow, all streams wait. If the reader disconnects, the
requests for the streams end.
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
# NDJSON is preferred, because it can carry the reason of a failure.
PREFERRED = {"Accept": "application/x-ndjson, */*;q=0.5"}
SESSION = web.AppKey("session", ClientSession)

Ready = asyncio.Queue[tuple[str, list[Any] | Exception | None]]

routes = web.RouteTableDef()


@routes.get("/merged")
async def merged(request: web.Request) -> web.StreamResponse:
    urls = dict(URLS)
    if (fail := request.query.get("fail", "")).isdecimal():
        urls["middling"] = f"{OWN['middling']}?fail={fail}"
    source = merge(request.app[SESSION], urls, failures_as_items=request.query.get("failures") == "items")
    return await chunkwise.respond(request, chunkwise.Batches(source), ["ndjson", "sse", "json"], keepalive_seconds=15)


async def merge(
    session: ClientSession, urls: Mapping[str, str], *, failures_as_items: bool
) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the items of all streams as they arrive, in lists.

    Args:
        session: the session for the requests.
        urls: the names and URLs of the streams.
        failures_as_items: whether to yield an item when a stream ends or fails. Otherwise the first failure is raised.
    """
    ready: Ready = asyncio.Queue(maxsize=1)
    readers = [asyncio.create_task(read(session, name, url, ready)) for name, url in urls.items()]
    # An async generator should not use a TaskGroup: if a task that reads a stream failed, the group would cancel the
    # task that sends the response, even while the sending task runs code outside of the generator.
    running = len(readers)
    try:
        while running:
            name, got = await ready.get()
            if isinstance(got, list):
                yield [{"stream": name, "item": item} for item in got]
                continue
            running -= 1
            if got is not None and not failures_as_items:
                raise web.HTTPBadGateway(text=f"the stream {name} failed: {got}") from got
            if failures_as_items:
                yield [{"stream": name, "failed": str(got)} if got else {"stream": name, "ended": True}]
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def read(session: ClientSession, name: str, url: str, ready: Ready) -> None:
    """Put the batches of a stream into the queue ``ready``, then its error, or None if the stream is complete."""
    failure = None
    try:
        async with chunkwise.open_stream(session, url, headers=PREFERRED) as stream:
            async for batch in stream.batches():
                await ready.put((name, batch))
    except Exception as error:  # noqa: BLE001 - `merge` raises or reports the error
        failure = error
    await ready.put((name, failure))


@routes.get("/sensors/{name:quick|middling|slow}")
@chunkwise.streaming
async def sensor(request: web.Request) -> AsyncIterator[dict[str, int]]:
    """Send numbers, as an example of a stream to merge. In practice, another server sends such a stream."""
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
