"""The record and the closes that the WebSocket page lists are what a server sends and takes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType
from aiohttp.test_utils import TestServer

from tests.pages import ROOT, blocks, run

PAGE = ROOT / "docs" / "how-to" / "websocket.md"
SERVES = 'web.run_app(app, host="127.0.0.1", port=8081)\n'


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    names: dict[str, Any] = {}
    run(blocks(PAGE)[0].code.replace(SERVES, ""), names, PAGE)
    serving = TestServer(names["app"])
    async with serving:
        yield serving


async def test_record_on_the_page_ends_the_clients_messages(server: TestServer) -> None:
    page = PAGE.read_text()
    (record,) = re.findall(r"```\n( \{.*\})\n```", page)
    async with ClientSession() as session, session.ws_connect(server.make_url("/upper")) as ws:
        for word in ("a", "b", "c"):
            await ws.send_str(f'"{word}"')
        await ws.send_str(record)
        assert [(await ws.receive()).data for _ in "abc"] == ['"A"', '"B"', '"C"']
        closed = await ws.receive()
        assert f"{closed.data}, `{closed.extra}`".replace("3", "5") in page


@pytest.mark.parametrize(
    ("event", "message"),
    [("a binary message", (b"1", WSMsgType.BINARY)), ("invalid UTF-8 or JSON", (b"no JSON", WSMsgType.TEXT))],
)
async def test_invalid_message_closes_with_the_listed_code(
    server: TestServer, event: str, message: tuple[bytes, WSMsgType]
) -> None:
    (code,) = re.findall(rf"^\| the client sent {event} \| \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    async with ClientSession() as session, session.ws_connect(server.make_url("/upper")) as ws:
        await ws.send_frame(*message)
        assert (await ws.receive()).data == int(code)
