"""The README's examples run as they stand there."""

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

README = Path(__file__).parents[1] / "README.md"


def examples(heading: str) -> list[str]:
    """The Python code of a section."""
    section = README.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def run(code: str, names: dict[str, Any]) -> None:
    exec(compile(code, str(README), "exec"), names)


@asynccontextmanager
async def server() -> AsyncIterator[TestServer]:
    names: dict[str, Any] = {}
    run("".join(examples("A server")).replace("web.run_app(app, port=8081)", ""), names)
    serving = TestServer(names["app"])
    async with serving:
        yield serving


async def test_the_server_streams_a_generator_a_document_and_reads_an_upload() -> None:
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
        async with session.get(serving.make_url("/squares")) as response:
            assert await response.json() == [[n, n * n] for n in range(1000)]
        async with session.post(serving.make_url("/users"), data=chunkwise.body(users, "csv")) as response:
            assert await response.json() == {"added": 2}
        async with session.post(
            serving.make_url("/users"), data=b"[", headers={"Content-Type": "text/json"}
        ) as response:
            assert response.status == 400


async def test_the_client_reads_and_tells_a_cut(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    run("\n".join(examples("A client")).replace("asyncio.run(main())", ""), names)
    async with server() as serving, ClientSession() as session, session.get(serving.make_url("/report")) as response:
        await names["show"](response)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["Tom", "Adam"]
    assert printed[2].startswith("complete /report 1 ")


async def test_the_client_reads_to_a_proven_end(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    async with server() as serving:
        here = examples("A client")[0].replace("http://localhost:8081", str(serving.make_url("")).rstrip("/"))
        run(here.replace("asyncio.run(main())", ""), names)
        await names["main"]()
    printed = capsys.readouterr().out.splitlines()
    said = re.search(r"stream.end\)  # (.*)", examples("A client")[0])
    assert said is not None
    assert said[1] in printed[1_000_000:]


async def test_words_come_back_in_upper_case_as_they_are_sent(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    async with server() as serving, ClientSession() as session:
        here = "\n".join(examples("A client")).replace("http://localhost:8081", str(serving.make_url("")).rstrip("/"))
        run(here.replace("asyncio.run(main())", ""), names)
        await names["shout"](session, ["a", "été"])
        await names["ask"](session, serving.make_url("/upper"), ["how", "why"])
        over_websocket = here.replace("http://", "ws://").replace('method="POST", ', "")
        run(over_websocket.replace("asyncio.run(main())", ""), names)
        await names["shout"](session, ["b"])
    assert [line for line in capsys.readouterr().out.splitlines() if " " not in line] == ["A", "ÉTÉ", "HOW", "WHY", "B"]


async def test_a_websocket_sends_and_closes_as_the_table_says() -> None:
    section = README.read_text().split("\n## WebSocket\n")[1].split("\n## ")[0]
    (record,) = re.findall(r"```\n( \{.*\})\n```", section)
    async with server() as serving, ClientSession() as session:
        async with session.ws_connect(serving.make_url("/upper")) as ws:
            for word in ("a", "b", "c"):
                await ws.send_str(f'"{word}"')
            await ws.send_str(record)
            assert [(await ws.receive()).data for _ in "abc"] == ['"A"', '"B"', '"C"']
            closed = await ws.receive()
            assert f"{closed.data}, `{closed.extra}`".replace("3", "5") in section
        async with session.ws_connect(serving.make_url("/upper")) as ws:
            await ws.send_str("no JSON")
            assert (await ws.receive()).data == 1007


async def test_a_stream_goes_on_behind_a_break() -> None:
    (code,) = examples("Going on behind a break")
    names: dict[str, Any] = {"routes": web.RouteTableDef(), "chunkwise": chunkwise}
    run(code, names)
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


async def test_a_query_and_a_table_are_sources(tmp_path: Path) -> None:
    (code,) = examples("SQL")
    (query,) = re.findall(r"under=(.*?)'", README.read_text())
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.executescript(
            "create table products (id integer primary key, category text, price real);"
            "insert into products values (2, 'tea', 2.5), (1, 'cup', 7), (3, 'tea', 30);"
        )
        assert len(connection.execute(query, {"max": 10}).fetchall()) == 2
    names: dict[str, Any] = {"routes": web.RouteTableDef(), "chunkwise": chunkwise}
    with chdir(tmp_path):
        run(code, names)
        app = web.Application()
        app.add_routes(names["routes"])
        try:
            async with TestServer(app) as serving, ClientSession() as session:

                async def ids(path: str) -> list[int]:
                    async with session.get(serving.make_url(path)) as response:
                        return [item["id"] async for item in chunkwise.items(response)]

                assert sorted(await ids("/cheap?max=10")) == [1, 2]
                assert await ids("/products") == [1, 2, 3]
                assert await ids("/products/tea") == [2, 3]
        finally:
            await names["engine"].dispose()


def test_the_decoder_prints_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = examples("Formats")
    run(code, {})
    said = re.findall(r"print\(.*\)  # (\[.*?\])(?:;|$)", code, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == said


async def test_curl_prints_the_last_record_that_is_shown() -> None:
    section = README.read_text().split("\n## Formats\n")[1].split("\n## ")[0]
    told = re.search(r"```\n\$ curl (.*?) localhost:8081(\S+)\n(.*?)```", section, re.DOTALL)
    assert told is not None
    options, path, printed = told.groups()
    headers = dict(header.split(": ") for header in re.findall(r"-H '(.*?)'", options))
    async with (
        server() as serving,
        ClientSession() as session,
        session.get(serving.make_url(path), headers=headers) as response,
    ):
        assert await response.text() == printed
