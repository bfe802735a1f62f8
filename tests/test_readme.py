"""The README's examples do what the text says; tests/docs runs them and checks their output."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, chdir, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

import chunkwise
from chunkwise.testing import FaultProxy, cut_at, reset_at
from tests.pages import ROOT, as_a_program, blocks, examples, run

README = ROOT / "README.md"
WEBSOCKET = ROOT / "docs" / "how-to" / "websocket.md"


@asynccontextmanager
async def server() -> AsyncIterator[TestServer]:
    names: dict[str, Any] = {}
    # Blocks with servers, and the line that the page gives to replace one of theirs.
    code = "\n".join(
        block.code
        for block in as_a_program(blocks(README))
        if block.language == "python" and block.code in "".join(examples(README, "A server"))
    )
    (told,) = re.findall(r"`(chunkwise\.setup\(app, .*\))`", README.read_text())
    program, setup = code.replace("web.run_app(app, port=8081)\n", ""), "chunkwise.setup(app)\n"
    assert setup in program
    run(f"{program.replace(setup, '')}\n{told}", names, README)
    serving = TestServer(names["app"])
    async with serving:
        yield serving


async def test_server_streams_a_generator_a_document_and_reads_an_upload() -> None:
    async with server() as serving, ClientSession() as session:
        async with session.get(serving.make_url("/numbers")) as response:
            count = 0
            async for batch in chunkwise.items(response).batches():
                assert batch[0] == {"n": count, "square": count * count}
                count += len(batch)
            assert count == 1_000_000
        async with session.get(serving.make_url("/report")) as response:
            users = [{"id": 1, "name": "Tom"}, {"id": 2, "name": "Adam"}]
            assert await response.json() == {"users": users, "total": 2, "settings": {"theme": "dark"}}
        for name in ("json", "csv"):
            async with chunkwise.open_stream(session, serving.make_url("/fetched"), format=name) as stream:
                got = [(int(row["n"]), int(row["square"])) async for row in stream]
            assert got == [(n, n * n) for n in range(1000)]
        async with session.post(serving.make_url("/users"), data=chunkwise.body(users, "csv")) as response:
            assert await response.json() == {"added": 2}
        async with session.post(
            serving.make_url("/users"), data=b"[", headers={"Content-Type": "text/json"}
        ) as response:
            assert response.status == 400


async def test_first_block_is_a_complete_program() -> None:
    names: dict[str, Any] = {}
    run(examples(README, "A server")[0].replace("web.run_app(app, port=8081)", ""), names, README)
    async with (
        TestServer(names["app"]) as serving,
        ClientSession() as session,
        chunkwise.open_stream(session, serving.make_url("/numbers")) as stream,
    ):
        assert await anext(stream) == {"n": 0, "square": 0}


def test_no_path_has_two_handlers() -> None:
    paths = re.findall(r"^@routes\..*\"(/.*?)\"\)$", README.read_text(), re.MULTILINE)
    assert len(paths) > 5
    assert len(paths) == len(set(paths))


async def test_client_reads_and_reports_truncation(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    run("\n".join(examples(README, "A client")).replace("asyncio.run(main())", ""), names, README)
    async with server() as serving, ClientSession() as session, session.get(serving.make_url("/report")) as response:
        await names["show"](response)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["Tom", "Adam"]
    assert printed[2].startswith("complete /report 1 ")


async def test_words_are_returned_in_upper_case_as_they_are_sent(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    async with server() as serving, ClientSession() as session:
        url = str(serving.make_url("")).rstrip("/")
        here = "\n".join(examples(README, "A client")).replace("http://localhost:8081", url)
        run(here.replace("asyncio.run(main())", ""), names, README)
        await names["shout"](session, ["a", "été"])
        await names["ask"](session, serving.make_url("/upper"), ["how", "why"])
        over_websocket = here.replace("http://", "ws://").replace('method="POST", ', "")
        run(over_websocket.replace("asyncio.run(main())", ""), names, README)
        await names["shout"](session, ["b"])
    assert [line for line in capsys.readouterr().out.splitlines() if " " not in line] == ["A", "ÉTÉ", "HOW", "WHY", "B"]


async def test_websocket_sends_and_closes_as_the_table_says() -> None:
    page = WEBSOCKET.read_text()
    (record,) = re.findall(r"```\n( \{.*\})\n```", page)
    async with server() as serving, ClientSession() as session:
        async with session.ws_connect(serving.make_url("/upper")) as ws:
            for word in ("a", "b", "c"):
                await ws.send_str(f'"{word}"')
            await ws.send_str(record)
            assert [(await ws.receive()).data for _ in "abc"] == ['"A"', '"B"', '"C"']
            closed = await ws.receive()
            assert f"{closed.data}, `{closed.extra}`".replace("3", "5") in page
        async with session.ws_connect(serving.make_url("/upper")) as ws:
            await ws.send_str("no JSON")
            assert (await ws.receive()).data == 1007


async def test_stream_resumes_after_a_disconnect() -> None:
    (code,) = examples(README, "Going on behind a break")
    names: dict[str, Any] = {"routes": web.RouteTableDef(), "chunkwise": chunkwise}
    run(code, names, README)
    app = web.Application()
    app.add_routes(names["routes"])
    async with TestServer(app) as serving, ClientSession() as session:
        assert serving.port is not None
        async with (
            FaultProxy("127.0.0.1", serving.port, [cut_at(100_000), reset_at(5_000)]) as proxy,
            chunkwise.open_stream(session, proxy.url("/squares")) as stream,
        ):
            count = 0
            async for batch in stream.batches():
                assert batch[0]["n"] == count
                count += len(batch)
        assert (count, stream.end) == (1_000_000, "proven")
        assert stream.reconnects > 0


async def test_query_and_a_table_are_sources(tmp_path: Path) -> None:
    shop, code = examples(README, "SQL")
    (query,) = re.findall(r"under=(.*?)'", README.read_text())
    with chdir(tmp_path):
        run(shop, {}, README)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        assert len(connection.execute(query, {"max": 10}).fetchall()) == 2
    names: dict[str, Any] = {"routes": web.RouteTableDef(), "chunkwise": chunkwise, "web": web}
    with chdir(tmp_path):
        run(code, names, README)
        app = web.Application()
        app.add_routes(names["routes"])
        try:
            async with TestServer(app) as serving, ClientSession() as session:

                async def ids(path: str) -> list[int]:
                    async with session.get(serving.make_url(path)) as response:
                        return [item["id"] async for item in chunkwise.items(response)]

                assert sorted(await ids("/cheap?max=10")) == [1, 2]
                for query in ("", "?max=abc"):
                    async with session.get(serving.make_url(f"/cheap{query}")) as response:
                        assert response.status == 400
                assert await ids("/products") == [1, 2, 3]
                assert await ids("/products/tea") == [2, 3]
        finally:
            await names["engine"].dispose()
