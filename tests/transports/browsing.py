"""Debian's Chromium without a window, and scripts that run in a page of a test's own server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright

from tests.flow.producing import GUARD_SECONDS
from tests.needs import CHROMIUM


@asynccontextmanager
async def started_browser() -> AsyncIterator[Browser]:
    """Start a browser for one test."""
    async with async_playwright() as started:
        browser = await started.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
                "--no-first-run", "--no-proxy-server",
                # The pages of the address bar take half of the full browser's time.
                "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup",
            ],
        )  # fmt: skip
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def browser_page() -> AsyncIterator[Page]:
    """Open a page in a new browser."""
    async with started_browser() as browser:
        yield await browser.new_page()


async def blank(request: web.Request) -> web.StreamResponse:
    """Respond with an empty page. Its scripts may request only this server."""
    return web.Response(text="<!doctype html><title>test</title>", content_type="text/html")


async def evaluate(page: Page, page_url: str, script: str, arguments: Mapping[str, Any]) -> Any:
    """Open a page of the server and run a script in it."""
    await page.goto(page_url)
    async with asyncio.timeout(GUARD_SECONDS):
        return await page.evaluate(script, dict(arguments))


FETCH = """
async ({url, readUrl, mark, headers}) => {
    const response = await fetch(url, {headers});
    const [reader, decoder] = [response.body.getReader(), new TextDecoder()];
    let text = "", error = null, reported = false;
    try {
        for (;;) {
            const {done, value} = await reader.read();
            if (done) break;
            text += decoder.decode(value, {stream: true});
            if (!reported && text.includes(mark)) {
                reported = true;
                await fetch(readUrl);
            }
        }
    } catch (caught) {
        error = String(caught);
    }
    return {text, error, coding: response.headers.get("content-encoding")};
}
"""
"""Reads a response chunk by chunk. Fetches readUrl when it has read the mark."""

EVENTS = """
({url, readUrl, mark}) => new Promise((resolve) => {
    const [source, items] = [new EventSource(url), []];
    let reported = false;
    const end = (how) => () => {
        source.close();
        resolve({items, reported, end: how});
    };
    source.onmessage = (event) => {
        items.push(JSON.parse(event.data));
        if (event.data.includes(mark)) {
            reported = true;
            fetch(readUrl);
        }
    };
    source.addEventListener("bye", end("bye"));
    source.onerror = end("error");
})
"""
"""Reads events until one of the type "bye" or an error. Fetches readUrl when it has read the mark."""

WEBSOCKET = """
({url, readUrl, after, protocols}) => new Promise((resolve) => {
    const [socket, messages] = [new WebSocket(url, protocols), []];
    let [opened, failed] = [false, false];
    const report = () => { if (messages.length === after) fetch(readUrl); };
    socket.onopen = () => {
        opened = true;
        report();
    };
    socket.onmessage = ({data}) => {
        messages.push(data);
        report();
    };
    socket.onerror = () => { failed = true; };
    socket.onclose = ({code, reason, wasClean}) => {
        resolve({messages, code, reason, wasClean, opened, failed, extensions: socket.extensions});
    };
})
"""
"""Reads all messages and the close frame. Fetches readUrl after so many messages."""
