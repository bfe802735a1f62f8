"""The bytes in each card of the demo's page and their meaning, and the parsers of bytes and JSON."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.demo.tabs import Tab, demo_browser, tab
from tests.needs import needs_chromium

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium]

LAST_OF_HTTP = [("last", "0"), ("crlf", "CR LF"), ("crlf", "CR LF")]
PARTS = """
list => Array.from(list.querySelectorAll("code > [data-kind]"), (part) => [part.dataset.kind, part.textContent])
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo() -> AsyncIterator[tuple[Browser, str]]:
    async with demo_browser() as started:
        yield started


async def parts_of(shown: Tab, lane: str) -> list[tuple[str, str]]:
    """Return the parts of a lane's wire after its head, when all have arrived."""
    details = shown.card(lane).locator("details")
    await details.locator(".note", has_text="the connection was").wait_for()
    parts = [(kind, text) for kind, text in await details.locator("ol").evaluate(PARTS)]
    assert parts[0] in {("head", "HTTP/1.1 200 OK"), ("head", "HTTP/1.1 101 Switching Protocols")}
    heads = [index for index, (kind, _) in enumerate(parts) if kind == "head"]
    assert parts[heads[-1] + 1 : heads[-1] + 3] == [("crlf", "CR LF")] * 2
    return parts[heads[-1] + 3 :]


def chunk(size: str, data: str) -> list[tuple[str, str]]:
    return [("size", size), ("crlf", "CR LF"), ("data", data), ("crlf", "CR LF")]


async def test_chunks_have_sizes_and_line_ends(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        for lane in ("chunked", "json"):
            await shown.card(lane).locator("summary").click()
        doing = shown.card("json").locator(".doing")
        assert await doing.inner_text() == "The bytes are shown with the next run."
        await shown.run(items=2, interval=0.3)
        assert await parts_of(shown, "chunked") == [*chunk("6", "1 TomLF"), *chunk("7", "2 AdamLF"), *LAST_OF_HTTP]
        rows = [*chunk("16", '[{"id":1,"name":"Tom"}'), *chunk("18", ',{"id":2,"name":"Adam"}]'), *LAST_OF_HTTP]
        assert await parts_of(shown, "json") == rows
        done = r"The server sent this request to itself and recorded \d+ bytes, then the connection was closed\."
        assert re.fullmatch(done, await doing.inner_text())
        assert await shown.card("json").locator("details .note", has_text="= 22 bytes").is_visible()


async def test_wire_shows_a_missing_last_chunk(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.run(items=2, interval=0.05, fail=True)
        for lane in ("chunked", "json", "nested", "sse"):  # opened after the run
            await shown.card(lane).locator("summary").click()
            parts = await parts_of(shown, lane)
            assert [text for kind, text in parts if kind == "missing"] == ["the last chunk (0 CRLF CRLF) is missing"]
            assert "last" not in dict(parts)


async def test_frames_have_heads_and_a_close_code(demo: tuple[Browser, str]) -> None:
    messages = [("frame", "81 05"), ("data", "1 Tom"), ("frame", "81 06"), ("data", "2 Adam")]
    async with tab(demo) as shown:
        await shown.card("ws").locator("summary").click()
        await shown.run(items=2, interval=0.05)
        close = [("close", "88 13"), ("close", "03 e8"), ("data", "complete; items=2")]
        assert await parts_of(shown, "ws") == [*messages, *close]
        await shown.run(items=4, interval=0.05, fail=True)
        close = [("close", "88 15"), ("close", "03 f3"), ("data", "Service Unavailable")]
        assert await parts_of(shown, "ws") == [*messages, *close]
        assert await shown.card("ws").locator(".note", has_text="code 1011").is_visible()


async def test_finished_wire_is_at_its_top_with_its_legend(demo: tuple[Browser, str]) -> None:
    expected = {
        "non-chunked": ["CR LF line end", "data"],
        "chunked": ["1f size", "CR LF line end", "data", "0 last chunk"],
        "ws": ["81 frame head", "CR LF line end", "data", "88 close frame"],
    }
    async with tab(demo) as shown:
        for lane in expected:
            await shown.card(lane).locator("summary").click()
            assert await shown.card(lane).locator(".legend > :visible").count() == 0
        await shown.run(items=20, interval=0.05)
        for lane, entries in expected.items():
            await parts_of(shown, lane)
            assert await shown.card(lane).locator(".legend > :visible").all_inner_texts() == entries
            assert await shown.card(lane).locator("ol").evaluate("list => list.scrollTop") == 0
        await shown.run(items=2, interval=0.05, fail=True)
        await parts_of(shown, "chunked")
        entries = ["1f size", "CR LF line end", "data", "… missing"]
        assert await shown.card("chunked").locator(".legend > :visible").all_inner_texts() == entries


async def test_buffered_response_has_a_length(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.card("non-chunked").locator("summary").click()
        await shown.run(items=2, interval=0.05)
        assert await parts_of(shown, "non-chunked") == [("data", "1 TomLF2 AdamLF")]
        assert await shown.card("non-chunked").locator("details .note", has_text="= 13 bytes").is_visible()


async def test_wire_is_bounded_and_includes_its_end(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        await shown.card("json").locator("summary").click()
        await shown.set(items=60, interval=0.05, size=2000)
        await shown.page.click("#run")
        await shown.card("json").locator("details .note", has_text="the connection was").wait_for()
        text = await shown.card("json").locator("details ol").inner_text()
        parts = await shown.card("json").locator("details ol").evaluate(PARTS)
    assert len(text) < 25_000  # 20,000 of the wire, and the note about it
    assert "rows not shown" in text
    assert "more bytes" in text
    assert [tuple(part) for part in parts[-3:]] == LAST_OF_HTTP


async def test_closed_wire_stops_and_restarts(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        summary = shown.card("chunked").locator("summary")
        await summary.click()
        await shown.set(items=2, interval=5)
        async with shown.page.expect_event("websocket", lambda websocket: "/wire/" in websocket.url) as opening:
            await shown.page.click("#run")
        await shown.card("chunked").locator("ol .size").first.wait_for()
        wire = await opening.value
        async with wire.expect_event("close"):
            await summary.click()
        async with shown.page.expect_event("websocket", lambda websocket: "/wire/" in websocket.url):
            await summary.click()
        await shown.card("chunked").locator("ol .size").first.wait_for()
        await shown.page.click("#stop")
        assert (await shown.card("chunked").locator(".doing").inner_text()).startswith("Stopped after ")


HEAD = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WIRES = [
    HEAD + "5\r\nab\r\nc\r\n1f\r\n" + "x" * 31 + "\r\n0\r\n\r\n",
    HEAD + "5\r\nabc",
    HEAD[:20],
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x7e\x00\x80"
    + "y" * 128
    + "\x89\x00\x88\x02\x03\xe8",
    "HTTP/1.1 101 Switching Protocols\r\n\r\n\x82\x7f\0\0\0\0\0\0\0\x03abc\x88\x05\x03\xf3b",
]
# Each wire cut in two at every offset, and byte by byte -> differences from parsing it in one piece.
CUT_WIRES = """
async (wires) => {
    const {WireReader} = await import("/page/wire.js");
    const read = (pieces) => {
        const reader = new WireReader();
        const parts = [...pieces.flatMap((piece) => reader.feed(piece)), ...reader.finish("closed")];
        const joined = [];
        for (const {kind, text, row} of parts) {
            if (row || kind === "crlf" || joined.at(-1)?.[0] !== kind) joined.push([kind, text]);
            else joined.at(-1)[1] += text;
        }
        return JSON.stringify([reader.isWhole, joined.filter(([kind, text]) => kind !== "data" || text)]);
    };
    return wires.map((wire) => {
        const cuts = Array.from(wire, (_, cut) => [wire.slice(0, cut), wire.slice(cut)]);
        const odd = [...cuts, Array.from(wire)].filter((pieces) => read(pieces) !== read([wire]));
        return {whole: JSON.parse(read([wire])), odd};
    });
}
"""


async def test_wire_is_parsed_alike_for_any_split(demo: tuple[Browser, str]) -> None:
    async with tab(demo) as shown:
        results = await shown.page.evaluate(CUT_WIRES, WIRES)
    assert [result["odd"] for result in results] == [[]] * len(WIRES)
    wholes, parts = zip(*[result["whole"] for result in results], strict=True)
    assert wholes == (True, False, False, True, False, True, False)
    crlf = ["crlf", "\r\n"]
    head = [["head", "HTTP/1.1 200 OK"], crlf, ["head", "Transfer-Encoding: chunked"], crlf, ["head", ""], crlf]
    first = [["size", "5"], crlf, ["data", "ab\r\nc"], crlf]
    second = [["size", "1f"], crlf, ["data", "x" * 31], crlf, ["last", "0"], crlf, crlf, ["missing", ""]]
    never = "the last chunk (0 CRLF CRLF) is missing"
    assert parts[0] == [*head, *first, *second]
    assert parts[1] == [*head, ["size", "5"], crlf, ["data", "abc"], ["missing", never]]
    assert parts[2][-1] == ["missing", "the end of the head is missing"]
    assert parts[4][-2:] == [["data", "abc"], ["missing", "the rest of its Content-Length is missing"]]
    frames = [["frame", "81 7e 00 80"], ["data", "y" * 128], ["frame", "89 00"], ["close", "88 02"], ["close", "03 e8"]]
    assert parts[5][-6:] == [*frames, ["missing", ""]]
    assert parts[6][-1] == ["missing", "the close frame is missing"]


TEXTS: list[Any] = [
    {
        "a": [1, -2.5e3, True, None, {"b": {}}],
        "": "é\u2028\U0001f600",
        'q"\\': ['\\"', "\n\t/", ""],
        "c": {"d": [[], [[0]]]},
    },
    [],
    "only \\ a text",
    ["one\ttab", "and a quote"],
    {"nested": {"nested": {"list": [{"x": 1}, {"x": [2, 3]}]}}},
]
CUT_TEXTS = """
async (texts) => {
    const {PartialJson, textOf} = await import("/page/tree.js");
    const valueOf = ({kind, raw, children, open}) => {
        if (open) return "open";
        if (kind === "text") return textOf(raw);
        if (kind === "scalar") return JSON.parse(raw);
        return kind === "array" ? children.map(valueOf) : Object.fromEntries(children.map((c) => [c.key, valueOf(c)]));
    };
    const read = (pieces) => {
        const json = new PartialJson();
        for (const piece of pieces) json.feed(piece);
        return JSON.stringify(valueOf(json.root));
    };
    return texts.flatMap((text) => {
        const cuts = Array.from({length: text.length}, (_, cut) => [text.slice(0, cut), text.slice(cut)]);
        const expected = JSON.stringify(JSON.parse(text));
        return [[text], ...cuts, text.split("")].filter((pieces) => read(pieces) !== expected);
    });
}
"""


async def test_tree_is_the_same_for_any_split(demo: tuple[Browser, str]) -> None:
    texts = [text for value in TEXTS for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2))]
    async with tab(demo) as shown:
        assert await shown.page.evaluate(CUT_TEXTS, texts) == []
