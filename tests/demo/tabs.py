"""The demo's page in a browser, served on a real socket: what a user does, and what the page shows.

Each tab checks when it is closed that the page requested nothing from another host, and that its console holds no more
than the browser's own messages about the failures that the test caused.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, ViewportSize

from chunkwise.demo.app import make_app
from tests.flow.producing import GUARD_SECONDS
from tests.transports.browsing import started_browser

LANES = ["non-chunked", "chunked", "json", "nested", "sse", "ws"]
STREAMED = LANES[1:]

# Chromium logs these by itself, and no page can prevent that.
_FAILURES = re.compile(
    r"Failed to load resource: (net::ERR_INCOMPLETE_CHUNKED_ENCODING"
    r"|the server responded with a status of 503 \(Service Unavailable\))"
    r"|WebSocket connection to '\S*' failed: Error during WebSocket handshake: Unexpected response code: 503"
)

# Content of each lane, by its name.
_SHOWN = """
() => Object.fromEntries(Array.from(document.querySelectorAll("article"), (card) => {
    const row = document.querySelector(`.row[data-lane="${card.dataset.lane}"]`);
    const part = (name) => card.querySelector(`[data-part="${name}"]`).textContent;
    return [card.dataset.lane, {
        state: card.dataset.state, first: part("first"), total: part("total"),
        bytes: Number(part("bytes").replaceAll(",", "")), items: Number(part("items").replaceAll(",", "")),
        ticks: row.querySelectorAll(".tick").length, end: row.querySelector("[data-part=end]").checkVisibility(),
        headline: part("headline"), how: part("how"), preview: part("preview"),
        when: row.querySelector("[data-part=when]").textContent,
    }];
}))
"""

# The tree as a value; objects and arrays still open are marked.
_TREE = """
() => {
    const valueOf = (item) => {
        const [list, open] = [item.querySelector(":scope > ul"), item.querySelector(":scope > .open") !== null];
        if (!list) return JSON.parse(item.querySelector(":scope > :is(.text, .scalar)").textContent);
        const children = Array.from(list.children, (child) => [nameOf(child), valueOf(child)]);
        const value = item.textContent.replace(nameOf(item) ?? "", "").trim().startsWith("{")
            ? Object.fromEntries(children) : children.map(([, value]) => value);
        return open ? {open: value} : value;
    };
    const nameOf = (item) => item.querySelector(":scope > .key")?.textContent;
    return valueOf(document.querySelector(".tree > li"));
}
"""


# Pages in the background do not run by themselves.
_BACKGROUND = "Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true})"


class Shown(NamedTuple):
    """Content of a lane, on its card and in its row of the chart."""

    state: str
    first: str
    total: str
    bytes: int
    items: int
    ticks: int
    end: bool
    headline: str
    how: str
    preview: str
    when: str


class Tab(NamedTuple):
    """The page."""

    page: Page
    base: str
    failures: set[bool]
    """Whether a failure was requested, at any time."""

    async def set(self, *, fail: bool = False, **numbers: float) -> None:
        """Set the controls. A change of ``fail`` starts a run."""
        await self.open_settings()
        for name, number in numbers.items():
            await self.page.fill(f"[name={name}]", str(number))
        await self.page.set_checked("[name=fail]", fail)
        self.failures.add(fail)

    async def open_settings(self) -> None:
        await self.page.locator("#settings").evaluate("details => { details.open = true; }")

    async def run(self, *, fail: bool = False, **numbers: float) -> dict[str, Shown]:
        """Run, and return the content of each lane after the run."""
        await self.set(fail=fail, **numbers)
        await self.page.press("[name=items]", "Enter")  # works while a run is going on, too
        assert await self.page.evaluate("document.querySelector('form').checkValidity()")
        return await self.over()

    async def over(self) -> dict[str, Shown]:
        """Wait for the end of a run."""
        await self.page.wait_for_selector("#stop", state="hidden")
        return await self.shown()

    async def shown(self) -> dict[str, Shown]:
        return {lane: Shown(**shown) for lane, shown in (await self.page.evaluate(_SHOWN)).items()}

    async def tree(self) -> Any:
        """The nested lane's tree, as a value; objects and arrays that are open are ``{"open": value}``."""
        return await self.page.evaluate(_TREE)

    def card(self, lane: str) -> Locator:
        return self.page.locator(f'article[data-lane="{lane}"]')

    async def wait_for_states(self, state: str, lanes: int) -> None:
        """Wait until that many lanes are in a state."""
        await self.page.locator(f'article[data-state="{state}"]').nth(lanes - 1).wait_for()


@asynccontextmanager
async def demo_browser() -> AsyncIterator[tuple[Browser, str]]:
    """A browser, and where the demo is served."""
    async with TestServer(make_app(), host="127.0.0.1") as server, started_browser() as browser:
        yield browser, str(server.make_url("/"))


@asynccontextmanager
async def tab(
    demo: tuple[Browser, str],
    *,
    width: int = 1200,
    height: int = 900,
    before: str = "",
    runs: bool = False,
    **options: Any,
) -> AsyncIterator[Tab]:
    """Open the page in a new tab. Check its console and its requests when it is closed.

    Args:
        demo: a browser, and where the demo is served.
        width: of its window.
        height: of its window.
        before: a script that runs before the page's own.
        runs: whether the page is visible, and so runs once by itself.
        options: of the browser's context.
    """
    browser, base = demo
    context = await browser.new_context(viewport=ViewportSize(width=width, height=height), **options)
    context.set_default_timeout(GUARD_SECONDS * 1000)
    logged: list[ConsoleMessage] = []
    errors: list[Exception] = []
    requested: list[str] = []
    try:
        page = await context.new_page()
        # playwright takes no method of a built-in type for a listener
        page.on("console", lambda message: logged.append(message))  # noqa: PLW0108
        page.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108
        page.on("request", lambda request: requested.append(request.url))
        page.on("websocket", lambda websocket: requested.append(websocket.url))
        for script in (before, "" if runs else _BACKGROUND):
            if script:
                await page.add_init_script(script)
        await page.goto(base)
        failures: set[bool] = set()
        yield Tab(page, base, failures)
        failures.add(await page.is_checked("[name=fail]"))
        assert errors == []
        unexpected = [each.text for each in logged if not (True in failures and _FAILURES.match(each.text))]
        assert unexpected == []
        own = (base, base.replace("http", "ws", 1), "data:")
        assert [url for url in requested if not url.startswith(own)] == []
        assert f"{base}page/page.js" in requested
    finally:
        await context.close()
