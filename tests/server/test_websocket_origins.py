"""Which pages may open a WebSocket: browsers send the user's cookies for any page, so the origin is checked."""

from typing import Any

import pytest
from aiohttp import ClientSession, WSServerHandshakeError

import chunkwise
from tests.each_row import each_row
from tests.transports.wire import serving, streams, url_of


async def opened(port: int, origin: str | None, host: str | None = None) -> int:
    """Open a WebSocket as a page does; return the status."""
    headers = {"Host": host} if host else {}
    async with ClientSession() as session:
        try:
            async with session.ws_connect(url_of(port), origin=origin, headers=headers) as ws:
                assert [item async for item in chunkwise.items(ws)] == [1, 2]
        except WSServerHandshakeError as error:
            return error.status
    return 101


@each_row(
    ("origin", "host", "options", "status"),
    [
        (None, None, {}, 101),
        ("http://shop.test", "shop.test", {}, 101),
        ("https://Shop.test", "shop.test", {}, 101),
        ("http://shop.test:8080", "shop.test:8080", {}, 101),
        ("http://shop.test:8080", "shop.test", {}, 403),
        ("http://evil.test", "shop.test", {}, 403),
        ("http://shop.test.evil.test", "shop.test", {}, 403),
        ("null", "shop.test", {}, 403),
        ("", "shop.test", {}, 403),
        ("http://app.test", "shop.test", {"origins": ["http://app.test"]}, 101),
        ("http://shop.test", "shop.test", {"origins": ["http://app.test"]}, 101),
        ("https://app.test", "shop.test", {"origins": ["http://app.test"]}, 403),
        ("null", "shop.test", {"origins": ["*"]}, 101),
    ],
)
async def test_only_allowed_pages_open_a_websocket(
    origin: str | None, host: str | None, options: dict[str, Any], status: int
) -> None:
    async with serving(streams(lambda: [1, 2], **options)) as port:
        assert await opened(port, origin, host) == status


class Rows:
    """A source that records whether an item was requested, and whether it was closed."""

    def __init__(self) -> None:
        self.asked = self.closed = False

    def __aiter__(self) -> "Rows":
        return self

    async def __anext__(self) -> int:
        self.asked = True
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


async def test_refused_page_closes_the_source() -> None:
    rows = Rows()
    async with serving(streams(lambda: rows)) as port:
        assert await opened(port, "http://evil.test", "shop.test") == 403
    assert (rows.asked, rows.closed) == (False, True)


async def test_http_requests_of_any_origin_are_served() -> None:
    async with (
        serving(streams(lambda: [1, 2])) as port,
        ClientSession() as session,
        session.get(url_of(port), headers={"Origin": "http://evil.test"}) as response,
    ):
        assert await response.json() == [1, 2]


@pytest.mark.parametrize("origins", ["https://app.test", ["https://app.test/"], ["app.test"], [""]])
def test_malformed_origins_are_refused(origins: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="origins: got"):
        chunkwise.streaming(origins=origins)
