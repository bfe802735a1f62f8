"""The demo's page in a browser: the lanes of complete and failed runs, and how to start and stop them."""

import logging
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.demo.tabs import LANES, STREAMED, demo_browser, tab
from tests.needs import needs_chromium

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]

LONG_SECONDS = 5
"""A pace slow enough for a test to look before the second item is produced."""

LAST_CHUNK = r"Proven by HTTP: the last chunk arrived\."
KNOWN_COMPLETE = {
    "non-chunked": r"Proven by HTTP: all 19 bytes of the Content-Length arrived\.",
    "chunked": LAST_CHUNK,
    "json": LAST_CHUNK + r" The JSON is complete, too\.",
    "nested": LAST_CHUNK + r" The JSON is complete, too\.",
    "sse": r"Proven by the event “end”, which counts 3 items\.",
    "ws": r"Proven by close code 1000 with the reason “complete; items=3”\.",
}
NO_LAST_CHUNK = r"The last chunk is missing: read\(\) failed with “TypeError: network error”\."
REFUSED = r"The status is 503, not 200: “the producer fails on purpose after {} items”\."
KNOWN_FAILED = {
    "non-chunked": REFUSED.format(2),
    "chunked": NO_LAST_CHUNK,
    "json": NO_LAST_CHUNK + r" The JSON is not complete\.",
    "nested": NO_LAST_CHUNK + r" The JSON is not complete\.",
    "sse": r"The last event, “end”, is missing\. Without it, EventSource reports every end as an error\.",
    "ws": r"The connection ended with close code 1011 with the reason “Service Unavailable”\.",
}
KNOWN_REFUSED = {
    "non-chunked": REFUSED.format(0),
    "chunked": REFUSED.format(0),
    "json": REFUSED.format(0),
    "nested": REFUSED.format(0),
    "sse": r"EventSource reported an error before the first event\. It does not give the status\.",
    "ws": r"The connection ended with close code 1006 without a reason\.",
}
NAMES = ["Tom", "Adam", "Sam", "Eve", "Kim"]
USERS = [
    {"id": 1, "name": "Tom", "roles": ["admin", "user"]},
    *[{"id": n, "name": name, "roles": ["user"]} for n, name in enumerate(NAMES[1:], 2)],
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo() -> AsyncIterator[tuple[Browser, str]]:
    async with demo_browser() as started:
        yield started


async def test_opening_runs_all_lanes_once(demo: tuple[Browser, str]) -> None:
    async with tab(demo, runs=True) as shown:
        lanes = await shown.over()
        status = await shown.page.text_content("#status")
        assert await shown.page.inner_text("h1") == "The same five items, sent six ways"
    assert {name: lane.headline for name, lane in lanes.items()} == dict.fromkeys(LANES, "✓ Complete: 5 of 5 items")
    assert {lane.items for lane in lanes.values()} == {5}
    seconds = r"\d+\.\d\d( to \d+\.\d\d)? s"
    first = rf"First item after {seconds} when streamed, after {seconds} when buffered\."
    assert re.fullmatch(rf"{first}( The total time is the same\.)?", status or "")


async def test_hidden_page_runs_when_it_is_shown(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        assert {lane.state for lane in (await shown.shown()).values()} == {"idle"}
        await shown.page.evaluate("""
            Object.defineProperty(document, "visibilityState", {value: "visible"});
            document.dispatchEvent(new Event("visibilitychange"));
        """)
        await shown.wait_for_states("whole", len(LANES))


async def test_lanes_carry_the_same_items(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        lanes = await shown.run(items=5, interval=0.05)
        tree = await shown.tree()
    for name, lane in lanes.items():
        assert re.findall("|".join(NAMES), lane.preview) == NAMES, name
    assert tree == {"users": USERS, "settings": {"theme": "dark", "notifications": True}}


async def test_complete_run_shows_its_proof(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        lanes = await shown.run(items=3, interval=0.1)
    assert list(lanes) == LANES
    for name, lane in lanes.items():
        assert (lane.state, lane.headline, lane.items) == ("whole", "✓ Complete: 3 of 3 items", 3)
        assert re.fullmatch(KNOWN_COMPLETE[name], lane.how), lane.how
        assert lane.ticks
        assert lane.end
        assert lane.when == lane.first
        assert 0 < float(lane.first.removesuffix(" s")) <= float(lane.total.removesuffix(" s"))
    assert lanes["non-chunked"].ticks == 1
    assert "1 Tom↵\n2 Adam↵\n3 Sam↵" in lanes["non-chunked"].preview
    assert [lanes[name].bytes for name in ("non-chunked", "chunked", "ws")] == [19, 19, 16]


async def test_first_item_is_shown_before_the_second(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.set(items=2, interval=LONG_SECONDS)
        await shown.page.click("#run")
        await shown.wait_for_states("flowing", len(STREAMED))
        await shown.page.locator(".tree .key", has_text="roles").wait_for()
        lanes, tree = await shown.shown(), await shown.tree()
        assert tree == {"open": {"users": {"open": USERS[:1]}}}
        for name in STREAMED:
            assert (lanes[name].state, lanes[name].items, lanes[name].total) == ("flowing", 1, "–")
            assert lanes[name].headline == "Receiving …"
        assert (lanes["non-chunked"].state, lanes["non-chunked"].headline) == ("waiting", "Waiting …")
        assert (lanes["non-chunked"].items, lanes["non-chunked"].when) == (0, "–")
        assert lanes["chunked"].preview.endswith("1 Tom↵")
        await shown.page.click("#stop")
        stopped = await shown.over()
        assert {lane.headline for lane in stopped.values()} == {
            "■ Stopped after 0 of 2 items",
            "■ Stopped after 1 of 2 items",
        }
        assert await shown.page.evaluate("document.activeElement.id") == "run"


async def test_buttons_depend_on_the_state(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        buttons = shown.page.locator(".buttons button:visible")
        assert await buttons.all_inner_texts() == ["Run"]
        await shown.set(items=2, interval=1)
        await shown.page.click("#run")
        assert await buttons.all_inner_texts() == ["Stop"]
        await shown.over()
        assert await buttons.all_inner_texts() == ["Run again", "Now make it fail"]
        await shown.set(items=2, interval=0.2)
        await buttons.get_by_text("Now make it fail").click()
        shown.failures.add(True)
        assert await buttons.all_inner_texts() == ["Stop"]
        assert {lane.state for lane in (await shown.over()).values()} == {"detected"}
        assert await buttons.all_inner_texts() == ["Run again", "Run without failure"]
        await buttons.get_by_text("Run without failure").click()
        assert {lane.state for lane in (await shown.over()).values()} == {"whole"}
        assert not await shown.page.is_checked("[name=fail]")


async def test_stopped_run_offers_only_another_one(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.set(items=2, interval=LONG_SECONDS)
        await shown.page.click("#run")
        await shown.page.click("#stop")
        assert await shown.page.locator(".buttons button:visible").all_inner_texts() == ["Run again"]


async def test_double_click_does_not_stop_the_run(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.set(items=2, interval=0.3)
        await shown.page.dblclick("#run")
        assert {lane.state for lane in (await shown.over()).values()} == {"whole"}


async def test_axis_is_the_same_in_every_state(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        marks = ["0 s", "0.5 s", "1 s", "1.5 s", "2 s", "2.5 s"]
        ruler = shown.page.locator("#ruler span")
        assert await ruler.all_inner_texts() == marks
        for fail in (True, False):
            await shown.page.set_checked("[name=fail]", fail)  # starts a run, except where nothing changes
            shown.failures.add(fail)
            await shown.wait_for_states("flowing", 1)
            assert await ruler.all_inner_texts() == marks
            await shown.over()
            assert await ruler.all_inner_texts() == marks


async def test_error_response_has_the_color_of_failures(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        entry, ticks = shown.page.get_by_text("error response"), shown.page.locator(".track .tick.error")
        await shown.run(items=2, interval=0.05)
        assert not await entry.is_visible()
        assert await ticks.count() == 0
        await shown.run(items=2, interval=0.05, fail=True)
        assert await entry.is_visible()
        assert await shown.page.locator('[data-lane="non-chunked"] .tick.error').count() == 1
        assert await ticks.count() == 1
        text = shown.card("non-chunked").get_by_text("the producer fails on purpose after 1 items", exact=True)
        assert await text.evaluate("e => e.scrollWidth <= e.clientWidth")


async def test_failed_run_shows_what_is_missing(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        lanes = await shown.run(items=4, interval=0.05, fail=True)
        status = await shown.page.text_content("#status")
        assert status == "The server failed after 2 items. All 6 clients know."
        tree = await shown.tree()
    for name, lane in lanes.items():
        items = 0 if name == "non-chunked" else 2
        assert (lane.state, lane.headline) == ("detected", f"✗ {items} of 4 items, and the client knows")
        assert re.fullmatch(KNOWN_FAILED[name], lane.how), lane.how
        assert lane.ticks
    assert lanes["non-chunked"].when == "never"
    assert tree == {"open": {"users": {"open": USERS[:2]}}}


async def test_switch_starts_a_failing_run(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.set(interval=0.05)
        await shown.page.get_by_label("Fail after 2 items").check()
        shown.failures.add(True)
        await shown.wait_for_states("detected", len(LANES))


async def test_failure_at_once_is_a_refusal(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        lanes = await shown.run(items=1, interval=0.05, fail=True)
    for name, lane in lanes.items():
        assert lane.state == "detected"
        assert re.fullmatch(KNOWN_REFUSED[name], lane.how), lane.how


@pytest.mark.parametrize("fail", [True, False])
async def test_unexpected_end_is_red(fail: bool, demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        lie = "1 Tom\n" if fail else '[{"id": 1}'
        await shown.page.route("**/chunked?*" if fail else "**/json?*", lambda route: route.fulfill(body=lie))
        lanes = await shown.run(items=2, interval=0, fail=fail)
        status = await shown.page.text_content("#status") or ""
        name, state = ("chunked", "undetected") if fail else ("json", "wrong")
        assert {each: lane.state for each, lane in lanes.items() if lane.state not in {"detected", "whole"}} == {
            name: state
        }
        expected = "✗ 1 of 2 items, but the client cannot know" if fail else "✗ Not complete: 1 of 2 items"
        assert lanes[name].headline == expected
        assert status.endswith("5 of 6 clients know." if fail else "5 of 6 responses are complete.")
        red = "e => getComputedStyle(e).color === 'rgb(192, 28, 40)'"
        assert await shown.card(name).locator("[data-part=headline]").evaluate(red)
        assert not await shown.card("ws").locator("[data-part=headline]").evaluate(red)


async def test_second_run_stops_the_first(demo: tuple[Browser, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chunkwise.access")
    async with tab(demo) as shown:
        await shown.set(items=9, interval=LONG_SECONDS)
        await shown.page.click("#run")
        await shown.wait_for_states("flowing", len(STREAMED))
        await shown.set(items=3, interval=0.3)  # long enough for the server to see that its clients disconnected
        await shown.page.press("[name=items]", "Enter")
        lanes = await shown.over()
    assert {lane.headline for lane in lanes.values()} == {"✓ Complete: 3 of 3 items"}
    assert "items=9" not in "".join(_ended(caplog, "complete"))
    assert {path.split("?")[0] for path in _ended(caplog, "client_gone")} == {f"/{name}" for name in STREAMED}


def _ended(caplog: pytest.LogCaptureFixture, end: str) -> list[str]:
    outcomes = [record.__dict__["outcome"] for record in caplog.records if record.name == "chunkwise.access"]
    return [outcome.path for outcome in outcomes if outcome.end == end]


@pytest.mark.parametrize(("name", "number"), [("items", 0), ("items", 201), ("interval", 5.05), ("size", 100_001)])
async def test_invalid_setting_is_pointed_at(name: str, number: float, demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.open_settings()
        await shown.page.fill(f"[name={name}]", str(number))
        await shown.page.click("#settings summary")  # the browser can only point at a field that is visible
        await shown.page.click("#run")
        assert await shown.page.evaluate("document.activeElement.name") == name
        assert {lane.state for lane in (await shown.shown()).values()} == {"idle"}


async def test_settings_change_the_headline(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        for items, expected in ((1, "one item"), (10, "ten items"), (12, "12 items")):
            await shown.run(items=items, interval=0)
            assert await shown.page.inner_text("h1") == f"The same {expected}, sent six ways"
            assert "The server makes the items without a pause. Watch" in await shown.page.inner_text(".lede")
        await shown.run(items=2, interval=0.05)
        assert "The server makes one item every 0.05 s. Watch" in await shown.page.inner_text(".lede")


async def test_switch_has_the_number_of_items(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        expected = {5: "Fail after 2 items", 3: "Fail after 1 item", 1: "Fail before the first item"}
        for items, label in expected.items():
            await shown.set(items=items)
            assert await shown.page.inner_text(".switch") == label
