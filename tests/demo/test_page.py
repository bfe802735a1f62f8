"""The demo's page in a browser: the lanes of complete and failed runs, and accessibility."""

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.demo.tabs import LANES, STREAMED, demo_browser, tab
from tests.needs import needs_chromium

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
LONG_SECONDS = 5
"""A pace slow enough for a test to look before the second item is produced."""

KNOWN_WHOLE = {
    "non-chunked": r"All 24 bytes of its Content-Length came\.",
    "chunked": r"read\(\) said “done”: the last chunk came\.",
    "json": r"read\(\) said “done”: the last chunk came\. And the text is JSON: an array of 3 items\.",
    "nested": r"read\(\) said “done”: the last chunk came\. And the text is JSON: an object\.",
    "sse": r"The event “end” came\. It counts 3 items, and 3 came\.",
    "ws": r"Close 1000 with the reason “complete; items=3”, behind 3 messages\.",
}
NO_LAST_CHUNK = r"read\(\) rejected with “TypeError: network error”: the last chunk never came\."
KNOWN_FAILED = {
    "non-chunked": r"Status 503 instead of an answer: “the producer fails on purpose after 2 items”\.",
    "chunked": NO_LAST_CHUNK,
    "json": NO_LAST_CHUNK + r" And the text is no JSON: “.+”\.",
    "nested": NO_LAST_CHUNK + r" And the text is no JSON: “.+”\.",
    "sse": r"EventSource reported an error behind 2 events, and no event “end” had come\. It reports the same at .+",
    "ws": r"Close 1011 with the reason “Service Unavailable”, behind 2 messages\.",
}
KNOWN_REFUSED = {
    "non-chunked": r"Status 503 instead of an answer: “the producer fails on purpose after 0 items”\.",
    "chunked": r"Status 503 instead of an answer: “the producer fails on purpose after 0 items”\.",
    "json": r"Status 503 instead of an answer: “the producer fails on purpose after 0 items”\.",
    "nested": NO_LAST_CHUNK
    + r" And the text is no JSON: “.+”\.",  # it has more to produce than a user, and has started
    "sse": r"EventSource reported an error before the first event: the answer was refused\. .+",
    "ws": r"Close 1006, without a reason, behind 0 messages\.",
}
USERS = [
    {"id": 1, "name": "Tom", "roles": ["admin", "user"]},
    {"id": 2, "name": "Adam", "roles": ["user"]},
    {"id": 3, "name": "Sam", "roles": ["user"]},
]

# Each element with its own text -> the contrast of the text (WCAG 2.2).
CONTRASTS = """
() => {
    const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
        .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const groundOf = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return /^rgba.*, 0\\)$/.test(color) ? groundOf(element.parentElement) : color;
    };
    const hasText = ({childNodes}) => Array.from(childNodes).some((node) => node.nodeType === 3 && node.data.trim());
    const all = Array.from(document.querySelectorAll("body *:not(:disabled)"));
    return all.filter((each) => each.checkVisibility() && hasText(each)).map((element) => {
        const [less, more] = [getComputedStyle(element).color, groundOf(element)].map(light).sort((a, b) => a - b);
        return {what: `${element.className} ${element.textContent}`, ratio: (more + 0.05) / (less + 0.05)};
    });
}
"""
WIDER = """
Array.from(document.querySelectorAll("html, article, details ol, #chart"), (e) => e.scrollWidth - e.clientWidth)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo() -> AsyncIterator[tuple[Browser, str]]:
    async with demo_browser() as started:
        yield started


async def test_run_fills_every_lane_and_shows_how_its_end_is_proven(
    demo: tuple[Browser, str],
) -> None:
    async with tab(demo) as shown:
        lanes = await shown.run(items=3, interval=0.1)
        status = await shown.page.text_content("#status")
    assert list(lanes) == LANES
    for name, lane in lanes.items():
        assert (lane.state, lane.headline) == ("whole", "✓ Whole")
        assert re.fullmatch(KNOWN_WHOLE[name], lane.how), lane.how
        assert 1 <= lane.ticks <= lane.arrivals
        assert lane.end
        assert 0 < float(lane.first.removesuffix(" s")) <= float(lane.total.removesuffix(" s"))
    assert lanes["non-chunked"].arrivals == 1
    assert "Chunk 0↵Chunk 1↵Chunk 2↵" in lanes["non-chunked"].preview
    assert [lanes[name].bytes for name in ("non-chunked", "chunked", "ws")] == [24, 24, 57]
    assert [lanes[name].arrivals for name in ("sse", "ws")] == [4, 3]
    assert float(lanes["non-chunked"].first.removesuffix(" s")) >= 0.3
    assert status is not None
    assert status.endswith("6 of 6 came whole.")


async def test_streams_show_the_first_item_early_and_the_buffered_response_shows_nothing(
    demo: tuple[Browser, str],
) -> None:
    async with tab(demo) as shown:
        await shown.set(items=2, interval=LONG_SECONDS)
        await shown.page.click("#run")
        await shown.wait_for_states("flowing", len(STREAMED))
        await shown.page.locator(".tree .key", has_text="roles").wait_for()
        lanes, tree = await shown.shown(), await shown.tree()
        assert tree == {"open": {"users": {"open": [{"open": {"id": 1, "name": "Tom", "roles": {"open": []}}}]}}}
        for name in STREAMED:
            assert (lanes[name].state, lanes[name].ticks, lanes[name].total) == ("flowing", 1, "–")
        assert (lanes["non-chunked"].state, lanes["non-chunked"].arrivals) == ("waiting", 0)
        assert lanes["chunked"].preview.endswith("Chunk 0↵")
        await shown.page.click("#stop")
        assert {lane.state for lane in (await shown.over()).values()} == {"stopped"}


async def test_failure_is_shown_in_every_lane_with_its_sign(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        lanes = await shown.run(items=4, interval=0.05, fail=True)
        assert await shown.page.text_content("#status") == "The producer failed half-way: 6 of 6 clients could tell."
        tree = await shown.tree()
    for name, lane in lanes.items():
        assert (lane.state, lane.headline) == ("told", "! Failed, and its client knows")
        assert re.fullmatch(KNOWN_FAILED[name], lane.how), lane.how
        assert lane.ticks
    assert tree == {"open": {"users": {"open": USERS[:2]}}}


async def test_producer_that_fails_at_once_is_a_refusal_in_every_lane(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        lanes = await shown.run(items=1, interval=0.05, fail=True)
    for name, lane in lanes.items():
        assert lane.state == "told"
        assert re.fullmatch(KNOWN_REFUSED[name], lane.how), lane.how


@pytest.mark.parametrize("fail", [True, False])
async def test_lane_with_an_unknown_or_unexpected_end_is_red(fail: bool, demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        lie = "Chunk 0\n" if fail else '[{"id": 1}'
        await shown.page.route("**/chunked?*" if fail else "**/json?*", lambda route: route.fulfill(body=lie))
        lanes = await shown.run(items=2, interval=0, fail=fail)
        name, state = ("chunked", "untold") if fail else ("json", "wrong")
        assert {each: lane.state for each, lane in lanes.items() if lane.state not in {"told", "whole"}} == {
            name: state
        }
        assert lanes[name].headline.startswith("✗")
        red = "e => getComputedStyle(e).color === 'rgb(192, 28, 40)'"
        assert await shown.card(name).locator("[data-part=headline]").evaluate(red)
        assert not await shown.card("ws").locator("[data-part=headline]").evaluate(red)


async def test_tree_holds_the_document(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.run(items=3, interval=0.05)
        tree = await shown.tree()
    assert tree == {"users": USERS, "settings": {"theme": "dark", "notifications": True}}


async def test_second_run_stops_the_first(demo: tuple[Browser, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chunkwise.access")
    async with tab(demo) as shown:
        await shown.set(items=9, interval=LONG_SECONDS)
        await shown.page.click("#run")
        await shown.wait_for_states("flowing", len(STREAMED))
        await shown.set(items=3, interval=0.3)  # long enough for the server to see that its clients have left
        await shown.page.dblclick("#run")
        lanes = await shown.over()
    assert {lane.state for lane in lanes.values()} == {"whole"}
    assert (lanes["ws"].arrivals, lanes["sse"].arrivals, lanes["chunked"].bytes) == (3, 4, 24)
    assert "items=9" not in "".join(_ended(caplog, "complete"))
    assert {path.split("?")[0] for path in _ended(caplog, "client_gone")} == {f"/{name}" for name in STREAMED}


def _ended(caplog: pytest.LogCaptureFixture, end: str) -> list[str]:
    outcomes = [record.__dict__["outcome"] for record in caplog.records if record.name == "chunkwise.access"]
    return [outcome.path for outcome in outcomes if outcome.end == end]


@pytest.mark.parametrize(("name", "number"), [("items", 0), ("items", 201), ("interval", 5.05), ("size", 100_001)])
async def test_settings_out_of_range_are_not_run(name: str, number: float, demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.page.fill(f"[name={name}]", str(number))
        await shown.page.click("#run")
        assert await shown.page.evaluate("document.activeElement.name") == name  # the browser points at it
        assert {lane.state for lane in (await shown.shown()).values()} == {"idle"}


async def test_keyboard_alone_is_enough(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        keyboard, reached = shown.page.keyboard, []
        for keys in (["2"], ["0"], ["0"], ["Space"], []):
            await keyboard.press("Tab")
            reached.append(await shown.page.evaluate("document.activeElement.name || document.activeElement.id"))
            for key in keys:
                await keyboard.press(key)
        assert reached == ["items", "interval", "size", "fail", "run"]
        await keyboard.press("Enter")
        lanes = await shown.over()
        assert {lane.state for lane in lanes.values()} == {"told"}
        for _ in range(3):  # after the two copies of the first lane
            await keyboard.press("Tab")
        await keyboard.press("Enter")
        await shown.card("non-chunked").locator("details[open] .note", has_text="the connection was").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_enough_contrast_in_both_color_schemes(scheme: str, demo: tuple[Browser, str]) -> None:
    async with tab(demo, color_scheme=scheme) as shown:
        await shown.page.locator("details").nth(1).locator("summary").click()
        await shown.run(items=2, interval=0.05, fail=True)
        await shown.card("chunked").locator("details .note", has_text="the connection was").wait_for()
        measured = await shown.page.evaluate(CONTRASTS)
        ground = await shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert len(measured) > 50
    assert [each for each in measured if each["ratio"] < 4.5] == []  # WCAG 2.2, 1.4.3
    assert ground == {"light": "rgb(246, 247, 248)", "dark": "rgb(18, 22, 26)"}[scheme]


@pytest.mark.parametrize("fail", [False, True])
async def test_nothing_overflows_at_360_pixels(fail: bool, demo: tuple[Browser, str]) -> None:
    async with tab(demo, width=360, height=740) as shown:
        for lane in LANES:
            await shown.card(lane).locator("summary").click()
        await shown.run(items=12, interval=0.05, size=300, fail=fail)
        for lane in LANES:
            await shown.card(lane).locator("details .note", has_text="the connection was").wait_for()
        assert set(await shown.page.evaluate(WIDER)) == {0}
        assert await shown.page.evaluate("document.documentElement.clientWidth") == 360


@pytest.mark.parametrize(
    ("name", "width", "scheme", "fail"),
    [
        ("light", 1200, "light", False),
        ("dark", 1200, "dark", False),
        ("narrow", 360, "light", True),
        ("failing", 1200, "light", True),
    ],
)
async def test_screenshot_is_kept(name: str, width: int, scheme: str, fail: bool, demo: tuple[Browser, str]) -> None:
    path = SCREENSHOTS / f"{name}.png"
    path.unlink(missing_ok=True)
    async with tab(demo, width=width, color_scheme=scheme) as shown:
        await shown.card("chunked").locator("summary").click()
        await shown.run(items=5, interval=0.1, fail=fail)
        await shown.card("chunked").locator("details .note", has_text="the connection was").wait_for()
        await shown.page.screenshot(path=path, full_page=True)
    assert path.read_bytes().startswith(b"\x89PNG")
