"""The tokens of a model pause while the client is disconnected, and continue when it reconnects."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise.formats.sse import ServerSentEvent
from chunkwise.testing import FaultProxy, cut_at
from tests.cli.running import Serving, curl, run, started
from tests.examples.using import lines_to, using
from tests.needs import needs_chromium, needs_curl
from tests.transports.browsing import browser_page


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with using("llm_tokens") as serving:
        yield serving


async def ask(session: ClientSession, server: Serving) -> str:
    async with session.post(server.url("/answers"), data={"prompt": "What is lost? Nothing"}) as response:
        assert response.status == 201
        path = response.headers["Location"]
        assert await response.text() == f"{path}\n"
    return path


async def events(
    session: ClientSession, url: str, at_most: int | None = None, last_id: str | None = None
) -> list[ServerSentEvent]:
    """Read events as EventSource does; disconnect after ``at_most``."""
    headers = {"Last-Event-ID": last_id} if last_id is not None else {}
    async with session.get(url, headers=headers) as response:
        assert response.content_type == "text/event-stream"
        received = []
        async for event in chunkwise.items(response, type=ServerSentEvent):
            received.append(event)
            if len(received) == at_most:
                break
        return received


def tokens(received: list[ServerSentEvent]) -> list[str]:
    assert [event.event for event in received] == ["message"] * (len(received) - 1) + ["done"]
    texts = [json.loads(event.data)["token"] for event in received[:-1]]
    assert json.loads(received[-1].data) == {"tokens": len(texts)}
    return texts


async def test_model_pauses_during_disconnect(server: Serving) -> None:
    async with ClientSession() as session:
        path = await ask(session, server)
        name = path.rpartition("/")[2]
        url = server.url(path)
        first = await events(session, url, at_most=3)
        printed = await asyncio.to_thread(lines_to, server, f"{name} client_gone")
        # While it makes two tokens for another client, it makes none for the disconnected one.
        other = await ask(session, server)
        await events(session, server.url(other), at_most=2)
        meanwhile = await asyncio.to_thread(lines_to, server, f"{other.rpartition('/')[2]} client_gone")
        assert not [line for line in meanwhile if line.startswith(f"{name} ")]
        rest = await events(session, url, last_id=first[-1].id)
        printed += await asyncio.to_thread(lines_to, server, f"{name} complete")
        whole = tokens(first + rest)
        assert [event.id for event in first + rest] == [str(n) for n in range(len(whole) + 1)]
        # Each token and the end were made once.
        made = [line for line in printed if line.startswith(f"{name} token")]
        assert made == [f"{name} token {n}" for n in range(len(whole) + 1)]
        assert tokens(await events(session, url)) == whole
        async with session.get(url, headers={"Last-Event-ID": str(rest[-1].id)}) as response:
            assert response.status == 204


async def test_two_readers_get_the_same_tokens(server: Serving) -> None:
    async with ClientSession() as session, FaultProxy("127.0.0.1", int(server.base.rpartition(":")[2]), [
        cut_at(700), cut_at(900),
    ]) as proxy:  # fmt: skip
        path = await ask(session, server)

        async def through_disconnects() -> list[ServerSentEvent]:
            async with chunkwise.open_stream(session, proxy.url(path), type=ServerSentEvent) as stream:
                received = [event async for event in stream]
                assert (stream.end, stream.reconnects > 0) == ("proven", True)
                return received

        one, other = await asyncio.gather(through_disconnects(), events(session, server.url(path)))
        assert tokens(one) == tokens(other)
        assert len(tokens(one)) >= 20
        name = path.rpartition("/")[2]
        printed = await asyncio.to_thread(lines_to, server, f"{name} complete")
        made = [line for line in printed if line.startswith(f"{name} token")]
        assert made == [f"{name} token {n}" for n in range(len(one))]


async def test_unknown_answer_or_token_is_refused(server: Serving) -> None:
    async with ClientSession() as session:
        path = await ask(session, server)
        async with session.get(server.url(path), headers={"Last-Event-ID": "500"}) as response:
            detail = "expected the index of a token, at most 0, got 501"
            assert (response.status, (await response.json())["detail"]) == (400, detail)
        async with session.get(server.url("/answers/1")) as response:
            assert response.status == 404


@needs_curl
def test_docstring_commands_work(server: Serving) -> None:
    path = curl(server.url("/answers"), "-d", "prompt=What do you promise?").out.decode().strip()
    with started("curl", "-sSN", server.url(path)) as reading:
        head = reading.stdout.readline()
        assert head == b"id: 0\n"
        whole = reading.end()
    assert whole.code == 0
    assert whole.out.endswith(b'"tokens": %d}\n\n' % (whole.out.count(b"id: ")))
    rest = curl(server.url(path), "-N", "-H", "Last-Event-ID: 7")
    assert rest.out.startswith(b"id: 8\n")
    assert (head + whole.out).endswith(rest.out)
    assert run("get", server.url(path)).code == 0


@needs_chromium
async def test_page_shows_and_stops_tokens(server: Serving) -> None:
    async with browser_page() as page:
        await page.goto(server.url("/"))
        await page.click("text=Ask")
        await page.wait_for_function("document.querySelector('p').textContent.split(' ').length > 3")
        await page.click("text=Stop")
        assert await page.inner_text("small") == "stopped"
        shown = await page.inner_text("p")
        await page.click("text=Ask")
        await page.wait_for_function("document.querySelector('small').textContent === 'done'")
        assert shown
        assert len((await page.inner_text("p")).split()) >= 20
