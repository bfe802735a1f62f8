"""The demo's page takes no response for complete that was cut, even if the browser reports no error."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chunkwise.demo.app import make_app
from tests.demo.tabs import Shown, tab
from tests.needs import needs_chromium
from tests.transports.browsing import started_browser

pytestmark = needs_chromium

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
RESPONSES = {
    "chunked, cut in the head": OK + b"Transfer-Encoding: chunked\r\n",
    "chunked, with fewer items": OK + b"Transfer-Encoding: chunked\r\n\r\n6\r\n1 Tom\n\r\n0\r\n\r\n",
    "a length, cut in the head": OK + b"Content-Length: 31\r\n",
    "a length, with fewer items": OK + b"Content-Length: 6\r\n\r\n1 Tom\n",
    "neither, with fewer items": OK + b"Connection: close\r\n\r\n1 Tom\n",
    "neither, with all items": OK + b"Connection: close\r\n\r\n1 Tom\n2 Adam\n3 Sam\n4 Eve\n5 Kim\n",
}


async def lanes_of(response: bytes) -> dict[str, Shown]:
    """Run the page once with a server that sends these bytes to the text lanes, and closes the connection."""

    @web.middleware
    async def cut(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path not in ("/chunked", "/non-chunked"):
            return await handler(request)
        assert request.transport is not None
        request.transport.write(response)
        request.transport.close()
        return web.Response()

    app = make_app()
    app.middlewares.append(cut)
    async with (
        TestServer(app, host="127.0.0.1") as server,
        started_browser() as browser,
        tab((browser, str(server.make_url("/")))) as page,
    ):
        return await page.run(interval=0)


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
async def test_cut_response_is_never_shown_as_complete(response: bytes) -> None:
    shown = await lanes_of(response)
    states = {lane: each.state for lane, each in shown.items()}
    text = {states.pop("chunked"), states.pop("non-chunked")}
    assert text <= {"wrong", "undetected"}
    assert set(states.values()) == {"whole"}
    assert shown["chunked"].headline.startswith("✗ ")
