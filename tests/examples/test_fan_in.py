"""Streams merged into one: in order of arrival, bounded, and failed if one of them fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

import chunkwise
from tests.cli.running import Done, curl, run, started
from tests.examples.using import using
from tests.needs import needs_curl
from tests.transports.proxying import free_port

NAMES = ("quick", "middling", "slow")
NUMBERS = list(range(1, 9))


def merged(lines: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.lines]


def numbers(items: list[dict[str, Any]], name: str) -> list[int]:
    return [item["item"]["number"] for item in items if item["stream"] == name and "item" in item]


@needs_curl
def test_items_are_merged_as_they_arrive() -> None:
    with using("fan_in", failing_with=["HTTPServiceUnavailable", "RemoteError", "HTTPBadGateway"]) as server:
        asked = [server.url(f"/merged{query}") for query in ("", "?fail=2", "?fail=2&failures=items")]
        with ExitStack() as stack:  # all at the same time, because each takes seconds
            reading = [stack.enter_context(started("curl", "-sSN", url)) for url in asked]
            whole, cut, reported = [reader.end() for reader in reading]
        assert whole.code == 0
        items = merged(whole)
        assert {name: numbers(items, name) for name in NAMES} == dict.fromkeys(NAMES, NUMBERS)
        last = [max(place for place, item in enumerate(items) if item["stream"] == name) for name in NAMES]
        assert last == sorted(last)

        assert cut.code == 18  # partial file
        items = merged(cut)
        assert numbers(items, "middling") == [1, 2]
        assert numbers(items, "slow") != NUMBERS
        done = run("get", asked[1])
        assert done.code == 4
        assert "the stream middling failed" in done.message
        assert "the sensor has been unplugged" in done.message

        assert reported.code == 0
        items = merged(reported)
        assert {name: numbers(items, name) for name in NAMES} == {"quick": NUMBERS, "middling": [1, 2], "slow": NUMBERS}
        ends = {item["stream"]: item for item in items if "item" not in item}
        assert "the sensor has been unplugged" in ends.pop("middling")["failed"]
        assert ends == {name: {"stream": name, "ended": True} for name in ("quick", "slow")}


@needs_curl
def test_unreachable_stream_is_a_bad_gateway() -> None:
    with using("fan_in", f"nobody=http://127.0.0.1:{free_port()}/") as server:
        refused = curl(server.url("/merged"), "-i")
        assert refused.out.startswith(b"HTTP/1.1 502 ")
        assert b"the stream nobody failed: " in refused.out


ITEMS = 100_000


@pytest.mark.parametrize("leaves", [True, False])
async def test_slow_reader_pauses_all_streams(*, leaves: bool) -> None:
    made = {"a": 0, "b": 0}
    ends: dict[str, str] = {}

    @chunkwise.streaming(format="ndjson", compress=False)
    async def source(request: web.Request) -> AsyncIterator[dict[str, object]]:
        name = request.match_info["name"]
        for n in range(ITEMS):
            made[name] = n + 1
            yield {"n": n, "padding": "x" * 500}  # 50 MB, more than the buffers of the system

    def ended(request: web.Request, outcome: chunkwise.Outcome) -> None:
        ends[request.match_info["name"]] = outcome.end

    app = web.Application()
    app.router.add_get("/{name}", source)
    chunkwise.setup(app, on_outcome=ended)
    async with TestServer(app) as upstream, ClientSession(read_bufsize=1024) as session:
        with using("fan_in", *(f"{name}={upstream.make_url(f'/{name}')}" for name in made)) as server:
            async with session.get(server.url("/merged"), headers={"Accept-Encoding": "identity"}) as response:
                await response.content.readexactly(100)
                before, quiet = -1, 0
                while quiet < 10:  # the sources wait, or everything is produced
                    await asyncio.sleep(0.1)
                    quiet = quiet + 1 if sum(made.values()) == before else 0
                    before = sum(made.values())
                assert 0 < made["a"] < ITEMS
                assert 0 < made["b"] < ITEMS
                if not leaves:
                    while await response.content.readany():
                        pass
            while len(ends) < 2:
                await asyncio.sleep(0.01)
    assert ends == dict.fromkeys(made, "client_gone" if leaves else "complete")
