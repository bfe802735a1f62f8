"""WebSockets through a real nginx that is configured for them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web
from websockets import InvalidStatus
from websockets.asyncio.client import connect

import chunkwise
from chunkwise import TruncatedError
from tests.flow.producing import GUARD_SECONDS
from tests.needs import needs_nginx
from tests.server.test_nginx import Stepping, step_through
from tests.server.test_websocket_clients import Client, Rows, Told, by_aiohttp, by_websockets, served
from tests.transports.proxying import READ_SECONDS, running_nginx
from tests.transports.reading import read

pytestmark = needs_nginx

CONFIG = f"""
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade;
proxy_set_header Host $http_host;
location ~ ^/patient/(?<upstream>\\d+)(?<path>/.*) {{
    proxy_pass http://127.0.0.1:$upstream$path;
}}
location ~ ^/impatient/(?<upstream>\\d+)(?<path>/.*) {{
    proxy_pass http://127.0.0.1:$upstream$path;
    proxy_read_timeout {READ_SECONDS}s;
}}
"""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run nginx with WebSocket support; yield its host and port."""
    with running_nginx(tmp_path_factory.mktemp("nginx"), CONFIG) as port:
        yield f"127.0.0.1:{port}"


async def test_nginx_passes_items_one_by_one(nginx: str) -> None:
    source = Stepping(3)
    async with (
        served(Rows(0), source.rows, proxy=f"{nginx}/patient/") as it,
        ClientSession() as session,
        session.ws_connect(it.url()) as websocket,
    ):
        stream = chunkwise.items(websocket)
        await step_through("json", source, stream)
        assert await read(stream) == ([], None)
        assert (await it.server.outcome()).end == "complete"


@pytest.mark.parametrize("client", [by_websockets, by_aiohttp])
@pytest.mark.parametrize("error", [None, ValueError()], ids=["whole", "failing"])
async def test_nginx_passes_the_close_code(nginx: str, client: Client, error: Exception | None) -> None:
    async with served(Rows(3, error), proxy=f"{nginx}/patient/") as it:
        end = (1011, "Internal Server Error") if error else (1000, "complete; items=3")
        assert await client(it) == Told(it.rows.items, *end)
        assert (await it.server.outcome()).end == ("failed" if error else "complete")


async def test_nginx_passes_a_refused_handshake(nginx: str) -> None:
    rows = Rows(0, web.HTTPConflict(text="too late"))
    rows.go.set()
    async with served(rows, proxy=f"{nginx}/patient/", commit_after_seconds=GUARD_SECONDS) as it:
        with pytest.raises(InvalidStatus) as caught:
            await connect(it.url(), proxy=None)
        assert caught.value.response.status_code == 409
        assert msgspec.json.decode(caught.value.response.body or b"")["detail"] == "too late"


async def test_pings_prevent_the_nginx_timeout(nginx: str) -> None:
    async def late() -> AsyncIterator[int]:
        yield 0
        await asyncio.sleep(2.5 * READ_SECONDS)
        yield 1

    async def got(keepalive_seconds: float) -> tuple[list[Any], Any, str]:
        async with (
            served(Rows(0), late, proxy=f"{nginx}/impatient/", keepalive_seconds=keepalive_seconds) as it,
            ClientSession() as session,
            session.ws_connect(it.url()) as websocket,
        ):
            came, error = await read(chunkwise.items(websocket))
            return came, error, (await it.server.outcome()).end

    kept, (came, error, end) = await asyncio.gather(got(0.3), got(0))
    assert kept == ([0, 1], None, "complete")
    assert (came, end) == ([0], "client_gone")
    assert isinstance(error, TruncatedError)
