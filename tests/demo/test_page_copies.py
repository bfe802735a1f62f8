"""The code in the cards of the demo's page: the server's own, and what Copy gives to a shell and to Python."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from chunkwise.demo import endpoints
from tests.demo.tabs import LANES, Tab, demo_browser, tab
from tests.flow.producing import GUARD_SECONDS
from tests.needs import needs_chromium, needs_curl

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]

CLIPBOARD = ["clipboard-read", "clipboard-write"]
NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
"""As over plain HTTP from another host."""

CURL = {
    "non-chunked": "1 Tom\n2 Adam\n",
    "chunked": "1 Tom\n2 Adam\n",
    "json": '[{"id":1,"name":"Tom"},{"id":2,"name":"Adam"}]',
    "nested": '{"users":[{"id":1,"name":"Tom","roles":["admin","user"]},{"id":2,"name":"Adam","roles":["user"]}],'
    '"settings":{"theme":"dark","notifications":true}}',
    "sse": 'id: 0\ndata: {"id":1,"name":"Tom"}\n\nid: 1\ndata: {"id":2,"name":"Adam"}\n\n'
    'id: 2\nevent: end\ndata: {"items": 2}\n\n',
    "ws": "1 Tom\n2 Adam\n",
}
PYTHON = {
    "non-chunked": "1 Tom\n2 Adam\n",
    "chunked": "1 Tom\n2 Adam\ncomplete: 2 items, framed\n",
    "json": "{'id': 1, 'name': 'Tom'}\n{'id': 2, 'name': 'Adam'}\ncomplete: 2 items, proven\n",
    "nested": "{'id': 1, 'name': 'Tom', 'roles': ['admin', 'user']}\n{'id': 2, 'name': 'Adam', 'roles': ['user']}\n"
    "complete: 2 items, proven\n",
    "sse": "ServerSentEvent(data='{\"id\":1,\"name\":\"Tom\"}', event='message', id='0', retry=None)\n"
    "ServerSentEvent(data='{\"id\":2,\"name\":\"Adam\"}', event='message', id='1', retry=None)\n"
    "ServerSentEvent(data='{\"items\": 2}', event='end', id='2', retry=None)\ncomplete: 3 items, proven\n",
    "ws": "1 Tom\n2 Adam\ncomplete: 2 items, proven\n",
}
FAILED = {
    "non-chunked": "failed: 503 Service Unavailable\n",
    "chunked": "1 Tom\nnot complete: ",
    "json": "{'id': 1, 'name': 'Tom'}\nnot complete: ",
    "nested": "{'id': 1, 'name': 'Tom', 'roles': ['admin', 'user']}\nnot complete: ",
    "sse": "ServerSentEvent(data='{\"id\":1,\"name\":\"Tom\"}', event='message', id='0', retry=None)\nnot complete: ",
    "ws": "1 Tom\nnot complete: ",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo() -> AsyncIterator[tuple[Browser, str]]:
    async with demo_browser() as started:
        yield started


async def copied(shown: Tab, lane: str, what: str) -> str:
    """Open a card, copy, and return the content of the clipboard when the button reports it."""
    card = shown.card(lane)
    await card.locator("details").evaluate("details => { details.open = true; }")
    section = card.locator("header", has=shown.page.locator(f"[data-copy={what}]"))
    await section.get_by_role("button").click()
    await section.get_by_role("status").filter(has_text="Copied").wait_for()
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
        assert f"curl -N '{shown.base}{lane}?items=2&interval=0.05" in command
        assert command.startswith("# Over plain HTTP" if lane == "ws" else "curl")


@pytest.mark.parametrize("lane", LANES)
async def test_copied_script_prints_items_and_end(lane: str, demo: tuple[Browser, str]) -> None:
    async with tab(demo, permissions=CLIPBOARD) as shown:
        await shown.set(items=2, interval=0.05)
        assert await output_of(sys.executable, "-", given=await copied(shown, lane, "python")) == (PYTHON[lane], 0)
        await shown.set(fail=True, interval=0.3)  # slow enough for a response to have started
        out, status = await output_of(sys.executable, "-", given=await copied(shown, lane, "python"))
        assert (out.startswith(FAILED[lane]), status) == (True, 0), out


@needs_curl
@pytest.mark.parametrize("what", ["curl", "python"])
async def test_copied_client_prints_items_at_once(what: str, demo: tuple[Browser, str]) -> None:
    async with tab(demo, permissions=CLIPBOARD) as shown:
        await shown.set(items=200, interval=5)  # more seconds than any test waits
        text = await copied(shown, "chunked", what)
    command = [sys.executable, "-c"] if what == "python" else ["sh", "-c"]
    command.append(text if what == "python" else f"exec {text}")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=buffered)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(GUARD_SECONDS):
            assert await process.stdout.readline() == b"1 Tom\n"
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize("lane", LANES)
async def test_server_code_is_the_running_code(lane: str, demo: tuple[Browser, str]) -> None:
    async with tab(demo, permissions=CLIPBOARD) as shown:
        await shown.card(lane).locator("summary").click()
        await shown.card(lane).locator("[data-text=server]", has_text="@routes.get").wait_for()
        text = await copied(shown, lane, "server")
    source = Path(endpoints.__file__).read_text(encoding="utf-8")
    _imports, *functions, _server = [f"{function.rstrip()}\n" for function in text.split("\n\n\n")]
    assert f'@routes.get("/{lane}")\n' in functions[0]
    assert [function for function in functions if function not in source] == []


async def test_missing_code_is_reported_and_retried(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        summary, code = shown.card("json").locator("summary"), shown.card("json").locator("[data-text=server]")
        await shown.page.evaluate(
            "[window.fetch, window.realFetch] = [() => Promise.reject(Error('gone')), window.fetch]"
        )
        await summary.click()
        await code.filter(has_text="The code could not be loaded: gone.").wait_for()
        await shown.page.evaluate("void (window.fetch = window.realFetch)")
        await summary.click()
        await summary.click()
        await code.filter(has_text='@routes.get("/json")').wait_for()


async def test_copied_appears_only_at_its_button(demo: tuple[Browser, str]) -> None:
    async with tab(demo, permissions=CLIPBOARD) as shown:
        for what in ("curl", "python"):
            await copied(shown, "json", what)
            assert [text for text in await shown.page.locator(".copied").all_inner_texts() if text] == ["Copied"]
        await shown.run(items=1, interval=0)
        assert [text for text in await shown.page.locator(".copied").all_inner_texts() if text] == []


async def test_text_is_selected_without_a_clipboard(demo: tuple[Browser, str]) -> None:
    async with tab(demo, before=NO_CLIPBOARD) as shown:
        await shown.card("json").locator("summary").click()
        await shown.card("json").locator("[data-copy=curl]").press("Enter")
        area = shown.page.locator("dialog[open] textarea")
        await area.wait_for()
        assert await shown.page.evaluate("getSelection().toString()") == await area.input_value()
        assert (await area.input_value()).startswith("curl -N ")
        await shown.page.keyboard.press("Tab")
        await shown.page.keyboard.press("Enter")  # its Close button
        assert await shown.page.locator("dialog[open]").count() == 0
        assert await shown.page.evaluate("document.activeElement.dataset.copy") == "curl"
        assert await shown.page.locator(".copied").all_inner_texts() == [""] * 3 * len(LANES)


async def test_code_keeps_the_last_valid_settings(demo: tuple[Browser, str]) -> None:
    async with tab(demo, permissions=CLIPBOARD) as shown:
        await shown.set(items=7, size=3)
        await shown.set(items=0)
        command = await copied(shown, "json", "curl")
    assert command == f"curl -N '{shown.base}json?items=7&interval=0.5&size=3'\n"
