"""The demo's page for every reader: keyboard, contrast, motion, narrow screens, and the pages that it links to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.demo.tabs import LANES, demo_browser, tab
from tests.needs import needs_chromium

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

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
Array.from(document.querySelectorAll("html, article, ol, #result"), (each) => each.scrollWidth - each.clientWidth)
"""
BARS = """
Array.from(document.querySelectorAll(".track rect"), (bar) => Number(bar.getAttribute("width"))).reduce((a, b) => a + b)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo() -> AsyncIterator[tuple[Browser, str]]:
    async with demo_browser() as started:
        yield started


async def test_keyboard_reaches_everything(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        keyboard, reached = shown.page.keyboard, []
        for keys in ([], [], [], [], [], ["Enter"], ["2"], ["0.05"], ["0"]):
            await keyboard.press("Tab")
            reached.append(
                await shown.page.evaluate(
                    "(({name, id, textContent}) => name || id || textContent)(document.activeElement)"
                )
            )
            for key in keys:
                await (keyboard.press(key) if key == "Enter" else keyboard.type(key))
        assert reached == ["chunkwise", "Docs", "Source", "run", "fail", "Settings", "items", "interval", "size"]
        await keyboard.press("Enter")
        assert {lane.state for lane in (await shown.over()).values()} == {"whole"}
        await keyboard.press("Tab")
        await keyboard.press("Enter")  # the only action of the first card
        await shown.card("non-chunked").locator("details[open] .note", has_text="the connection was").wait_for()


async def test_card_has_one_action_until_it_is_opened(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        for lane in LANES:
            actions = shown.card(lane).locator("button, a, summary, input")
            assert [await each.inner_text() for each in await actions.all() if await each.is_visible()] == [
                "Show code and bytes"
            ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_has_enough_contrast(scheme: str, demo: tuple[Browser, str]) -> None:
    async with tab(demo, color_scheme=scheme) as shown:
        await shown.card("chunked").locator("summary").click()
        await shown.run(items=2, interval=0.05, fail=True)
        await shown.card("chunked").locator("details .note", has_text="the connection was").wait_for()
        measured = await shown.page.evaluate(CONTRASTS)
        ground = await shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert len(measured) > 50
    assert [each for each in measured if each["ratio"] < 4.5] == []  # WCAG 2.2, 1.4.3
    assert ground == {"light": "rgb(246, 247, 248)", "dark": "rgb(18, 22, 26)"}[scheme]


async def test_reduced_motion_draws_bars_at_the_end(demo: tuple[Browser, str]) -> None:
    async with tab(demo, reduced_motion="reduce") as shown:
        await shown.set(items=2, interval=5)
        await shown.page.click("#run")
        await shown.wait_for_states("flowing", len(LANES) - 1)
        await shown.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        assert await shown.page.evaluate(BARS) == 0
        await shown.page.click("#stop")
        assert await shown.page.evaluate(BARS) > 0


@pytest.mark.parametrize("fail", [False, True])
async def test_nothing_overflows_at_360_pixels(fail: bool, demo: tuple[Browser, str]) -> None:
    async with tab(demo, width=360, height=740) as shown:
        await shown.run(items=12, interval=0.05, size=300, fail=fail)
        for lane in LANES:
            await shown.card(lane).locator("summary").click()
        for lane in LANES:
            await shown.card(lane).locator("details .note", has_text="the connection was").wait_for()
        assert set(await shown.page.evaluate(WIDER)) == {0}
        assert await shown.page.evaluate("document.documentElement.clientWidth") == 360


@pytest.mark.parametrize("fail", [False, True])
async def test_cards_collapse_on_a_phone(fail: bool, demo: tuple[Browser, str]) -> None:
    async with tab(demo, width=400, height=850) as shown:
        await shown.run(items=5, interval=0.05, fail=fail)
        assert await shown.page.evaluate("document.documentElement.scrollHeight") <= 3 * 850
        for lane in LANES:
            card = shown.card(lane)
            assert await card.locator("[data-part=headline]").is_visible()
            assert not await card.locator("[data-part=preview]").is_visible()
        summary = shown.card("json").locator("summary")
        assert await summary.inner_text() == "Show code and bytes"
        await summary.click()
        assert await shown.card("json").locator("[data-part=preview]").is_visible()
        # The browser reports that a card was opened in a later task than the click.
        await shown.card("json").locator("summary", has_text="Hide code and bytes").wait_for()


async def test_phone_shows_nothing_empty_before_a_run(demo: tuple[Browser, str]) -> None:
    async with tab(demo, width=400, height=850) as shown:
        assert await shown.page.locator(".tagline").is_visible()
        status = await shown.page.locator("#status").bounding_box()
        assert status is not None
        assert status["height"] == 0
        for lane in LANES:
            assert not await shown.card(lane).locator("summary").is_visible()
        await shown.set(items=2, interval=5)
        await shown.page.click("#run")
        await shown.wait_for_states("flowing", len(LANES) - 1)
        assert await shown.page.evaluate("document.documentElement.scrollHeight") <= 3 * 850
        assert await shown.card("json").locator("summary").is_visible()


OVERLAPS = """
() => {
    const boxes = (selector) => Array.from(document.querySelectorAll(selector), (each) => each.getBoundingClientRect());
    const labels = boxes("#ruler span");
    return boxes(".row:not(.axis) .when").filter((value) => labels.some((label) =>
        value.left < label.right && label.left < value.right && value.top < label.bottom && label.top < value.bottom
    )).length;
}
"""


@pytest.mark.parametrize("width", [360, 400, 1280])
async def test_values_are_clear_of_the_axis(width: int, demo: tuple[Browser, str]) -> None:
    async with tab(demo, width=width) as shown:
        await shown.run(items=2, interval=0.05)
        assert await shown.page.evaluate(OVERLAPS) == 0


# The cards by row, each with its left and right edges.
ROWS = """
() => {
    const rows = {};
    for (const card of document.querySelectorAll("article")) {
        const {top, left, right} = card.getBoundingClientRect();
        (rows[Math.round(top + scrollY)] ??= []).push([card.dataset.lane, Math.round(left), Math.round(right)]);
    }
    return Object.values(rows);
}
"""


@pytest.mark.parametrize("opened", LANES)
async def test_open_card_keeps_the_order_without_holes(opened: str, demo: tuple[Browser, str]) -> None:
    async with tab(demo, width=1280) as shown:
        await shown.card(opened).locator("summary").click()
        await shown.card(opened).get_by_text("Hide code and bytes").wait_for()
        rows = await shown.page.evaluate(ROWS)
    assert [lane for row in rows for lane, _, _ in row] == LANES
    assert [opened] in [[lane for lane, _, _ in row] for row in rows]
    assert len({(row[0][1], row[-1][2]) for row in rows}) == 1


@pytest.mark.parametrize("name", ["Docs", "Source"])
async def test_linked_pages_fit_their_text(name: str, demo: tuple[Browser, str]) -> None:
    async with tab(demo, width=360, height=740) as shown:
        await shown.page.get_by_role("link", name=name, exact=True).click()
        assert await shown.page.inner_text("h1") == {"Docs": "Documentation"}.get(name, name)
        assert set(await shown.page.evaluate(WIDER)) == {0}
        assert [each for each in await shown.page.evaluate(CONTRASTS) if each["ratio"] < 4.5] == []
        await shown.page.locator("li a").first.click()
        assert await shown.page.evaluate("document.contentType") == "text/plain"
        await shown.page.goto(shown.base)


@pytest.mark.parametrize(
    ("name", "width", "scheme", "fail"),
    [
        ("light", 1280, "light", False),
        ("dark", 1280, "dark", False),
        ("narrow", 400, "light", False),
        ("failed", 1280, "light", True),
        ("failed-narrow", 400, "light", True),
    ],
)
async def test_screenshot_is_kept(name: str, width: int, scheme: str, fail: bool, demo: tuple[Browser, str]) -> None:
    path = SCREENSHOTS / f"{name}.png"
    path.unlink(missing_ok=True)
    async with tab(demo, width=width, color_scheme=scheme) as shown:
        await shown.run(items=5, interval=0.1, fail=fail)
        await shown.page.screenshot(path=path, full_page=True)
    assert path.read_bytes().startswith(b"\x89PNG")
