"""Scripts and downloads of the how-to pages work in a browser as the pages say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, chdir
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from playwright.async_api import Page

from tests.flow.producing import GUARD_SECONDS
from tests.needs import needs_chromium
from tests.pages import ROOT, as_a_program, blocks, run
from tests.transports.browsing import blank, browser_page

HOW_TO = ROOT / "docs" / "how-to"
SERVES = 'web.run_app(app, host="127.0.0.1", port=8081)\n'

pytestmark = needs_chromium


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with browser_page() as page:
        yield page


@asynccontextmanager
async def serving(name: str, folder: Path) -> AsyncIterator[TestServer]:
    """Serve the program of a page, which has a blank page if it has none of its own."""
    source = HOW_TO / name
    names: dict[str, Any] = {}
    found = [block.code for block in as_a_program(blocks(source)) if block.language == "python"]
    code = "".join(found).partition(SERVES)[0]
    with chdir(folder):
        run(code, names, source)
        app = names["app"]
        if "page" not in names:
            app.router.add_get("/", blank)
        server = TestServer(app)
        async with server, asyncio.timeout(GUARD_SECONDS):
            yield server


async def test_page_shows_the_tokens_of_its_events(page: Page, tmp_path: Path) -> None:
    async with serving("sse.md", tmp_path) as server:
        await page.goto(str(server.make_url("/")))
        await page.wait_for_function("events.readyState === EventSource.CLOSED")
        assert await page.inner_text("p") == "Once upon a time"


@pytest.mark.parametrize(
    ("path", "printed"),
    [
        ("/numbers", ["{n: 0}", "{n: 1}", "{n: 2}", "complete"]),
        ("/failing", ["{n: 0}", "incomplete: 1011 Internal Server Error"]),
    ],
)
async def test_script_of_a_websocket_sees_whether_it_is_complete(
    page: Page, tmp_path: Path, path: str, printed: list[str]
) -> None:
    [script] = [block.code for block in blocks(HOW_TO / "websocket.md") if block.language == "js"]
    lines: list[str] = []
    page.on("console", lambda message: lines.append(message.text))
    async with serving("websocket.md", tmp_path) as server:
        await page.goto(str(server.make_url("/")))
        script = script.replace("ws://localhost:8081/numbers", str(server.make_url(path)).replace("http:", "ws:"))
        async with page.expect_console_message(lambda message: "complete" in message.text):
            await page.evaluate(f"() => {{ {script} }}")
    assert lines == printed


async def test_export_is_saved_under_its_name(page: Page, tmp_path: Path) -> None:
    async with serving("export-csv.md", tmp_path) as server:
        await page.goto(str(server.make_url("/")))
        async with page.expect_download() as started:
            await page.click("text=Export")
        download = await started.value
        assert (download.suggested_filename, await download.failure()) == ("products.csv", None)
        assert (await download.path()).read_bytes().startswith(b"id,name,price\r\n1,cup,7.0\r\n")


async def test_browser_reports_a_broken_export(page: Page, tmp_path: Path) -> None:
    async with serving("export-csv.md", tmp_path) as server:
        await page.goto(str(server.make_url("/")))
        await page.evaluate("document.querySelector('a').href = '/broken'")
        async with page.expect_download() as started:
            await page.click("text=Export")
        download = await started.value
        assert download.suggested_filename == "broken.csv"
        assert await download.failure() is not None
