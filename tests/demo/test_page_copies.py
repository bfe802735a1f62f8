"""The texts that the demo's page copies to the clipboard, run by a shell and by Python."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.demo.tabs import LANES, Tab, demo_browser, tab
from tests.flow.producing import GUARD_SECONDS
from tests.needs import needs_chromium, needs_curl

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]

CLIPBOARD = ["clipboard-read", "clipboard-write"]
NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
"""As over plain HTTP from another host."""

CURL = {
    "non-chunked": "Chunk 0\nChunk 1\n",
    "chunked": "Chunk 0\nChunk 1\n",
    "json": '[{"id":1,"name":"Tom"},{"id":2,"name":"Adam"}]',
    "nested": '{"users":[{"id":1,"name":"Tom","roles":["admin","user"]},{"id":2,"name":"Adam","roles":["user"]}],'
    '"settings":{"theme":"dark","notifications":true}}',
    "sse": 'id: 0\ndata: {"id":1,"name":"Tom"}\n\nid: 1\ndata: {"id":2,"name":"Adam"}\n\n'
    'id: 2\nevent: end\ndata: {"items": 2}\n\n',
    "ws": "WebSocket message 0\nWebSocket message 1\n",
}
PYTHON = {
    "non-chunked": "Chunk 0\nChunk 1\n",
    "chunked": "Chunk 0\nChunk 1\nwhole: 2 items, framed\n",
    "json": "{'id': 1, 'name': 'Tom'}\n{'id': 2, 'name': 'Adam'}\nwhole: 2 items, proven\n",
    "nested": "{'id': 1, 'name': 'Tom', 'roles': ['admin', 'user']}\n{'id': 2, 'name': 'Adam', 'roles': ['user']}\n"
    "whole: 2 items, proven\n",
    "sse": "ServerSentEvent(data='{\"id\":1,\"name\":\"Tom\"}', event='message', id='0', retry=None)\n"
    "ServerSentEvent(data='{\"id\":2,\"name\":\"Adam\"}', event='message', id='1', retry=None)\n"
    "ServerSentEvent(data='{\"items\": 2}', event='end', id='2', retry=None)\nwhole: 3 items, proven\n",
    "ws": "WebSocket message 0\nWebSocket message 1\nwhole: 2 items, proven\n",
}
FAILED = {
    "non-chunked": "no answer: 503 Service Unavailable\n",
    "chunked": "Chunk 0\nnot whole: ",
    "json": "{'id': 1, 'name': 'Tom'}\nnot whole: ",
    "nested": "{'id': 1, 'name': 'Tom', 'roles': ['admin', 'user']}\nnot whole: ",
    "sse": "ServerSentEvent(data='{\"id\":1,\"name\":\"Tom\"}', event='message', id='0', retry=None)\nnot whole: ",
    "ws": "WebSocket message 0\nnot whole: ",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo() -> AsyncIterator[tuple[Browser, str]]:
    async with demo_browser() as started:
        yield started


async def copied(shown: Tab, lane: str, what: str) -> str:
    """Copy, and return the content of the clipboard when the page reports it."""
    title = await shown.card(lane).locator("h2").inner_text()
    await shown.card(lane).get_by_role("button", name=f"Copy as {what}: {title}").click()
    await shown.page.get_by_role("status").filter(has_text=f"Copied: {title} as {what}.").wait_for()
    return str(await shown.page.evaluate("navigator.clipboard.readText()"))


async def output_of(*command: str, given: str = "") -> tuple[str, int | None]:
    """Return the output of a program, and its status."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(GUARD_SECONDS):
        out, error = await process.communicate(given.encode())
    assert b"Traceback" not in error
    return out.decode(), process.returncode


@needs_curl
@pytest.mark.parametrize("lane", LANES)
async def test_copied_command_prints_the_response(lane: str, demo: tuple[Browser, str]) -> None:
    async with tab(demo, permissions=CLIPBOARD) as shown:
        await shown.set(items=2, interval=0.05)
        command = await copied(shown, lane, "curl")
        assert await output_of("sh", "-c", command) == (CURL[lane], 0)
        assert f"curl -N '{shown.base}{lane}?items=2&interval=0.05&size=0'\n" in command
        assert command.startswith("# The same route answers plain HTTP" if lane == "ws" else "curl")


@pytest.mark.parametrize("lane", LANES)
async def test_copied_script_prints_the_items_and_whether_they_are_complete(
    lane: str, demo: tuple[Browser, str]
) -> None:
    async with tab(demo, permissions=CLIPBOARD) as shown:
        await shown.set(items=2, interval=0.05)
        assert await output_of(sys.executable, "-", given=await copied(shown, lane, "Python")) == (PYTHON[lane], 0)
        await shown.set(fail=True, interval=0.3)  # slow enough for a response to have started
        out, status = await output_of(sys.executable, "-", given=await copied(shown, lane, "Python"))
        assert (out.startswith(FAILED[lane]), status) == (True, 0), out


@needs_curl
@pytest.mark.parametrize("what", ["curl", "Python"])
async def test_copied_script_prints_each_item_as_it_arrives(what: str, demo: tuple[Browser, str]) -> None:
    async with tab(demo, permissions=CLIPBOARD) as shown:
        await shown.set(items=200, interval=5)  # more seconds than any test waits
        text = await copied(shown, "chunked", what)
    command = [sys.executable, "-c"] if what == "Python" else ["sh", "-c"]
    command.append(text if what == "Python" else f"exec {text}")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=buffered)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(GUARD_SECONDS):
            assert await process.stdout.readline() == b"Chunk 0\n"
    finally:
        process.kill()
        await process.communicate()


async def test_without_a_clipboard_the_text_is_shown_selected(demo: tuple[Browser, str]) -> None:
    async with tab(demo, before=NO_CLIPBOARD) as shown:
        await shown.card("json").locator("[data-copy=curl]").press("Enter")
        area = shown.page.locator("dialog[open] textarea")
        await area.wait_for()
        assert await shown.page.evaluate("getSelection().toString()") == await area.input_value()
        assert (await area.input_value()).startswith("curl -N ")
        await shown.page.keyboard.press("Tab")
        await shown.page.keyboard.press("Enter")  # its Close
        assert await shown.page.locator("dialog[open]").count() == 0
        assert await shown.page.evaluate("document.activeElement.dataset.copy") == "curl"


async def test_settings_out_of_range_are_not_copied(demo: tuple[Browser, str]) -> None:
    async with tab(demo, permissions=CLIPBOARD) as shown:
        await shown.set(items=0)
        await shown.card("json").locator("[data-copy=curl]").click()
        assert await shown.page.evaluate("document.activeElement.name") == "items"
        assert await shown.page.inner_text("#copied") == ""
