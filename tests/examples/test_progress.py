"""The feed of a job: late clients get the current state at once, and the feed ends as the job does."""

import ast
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession

import chunkwise
from tests.cli.running import Serving, curl, run, started
from tests.examples.using import USES, using
from tests.needs import needs_chromium, needs_curl
from tests.transports.browsing import browser_page

STEPS = 12
pytestmark = needs_curl


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with using("progress", failing_with=["HTTPInternalServerError"]) as serving:
        yield serving


def begin(server: Serving, **given: int) -> str:
    words = [word for name, value in given.items() for word in ("-d", f"{name}={value}")]
    path = curl(server.url("/jobs"), *words).out.decode().strip()
    assert path.startswith("/jobs/")
    return server.url(path)


def state(done: int, word: str = "running", error: str | None = None) -> dict[str, Any]:
    return {"state": word, "done": done, "of": STEPS, "error": error}


def test_watchers_see_current_state_to_end(server: Serving) -> None:
    url = begin(server, steps=2 * STEPS)  # a busy machine starts curl late
    finished = state(STEPS, "finished") | {"done": 2 * STEPS, "of": 2 * STEPS}
    with started("curl", "-sSN", url) as early, started("curl", "-sSN", url) as beside:
        for _ in range(4):
            seen = json.loads(early.stdout.readline())
            assert seen["state"] == "running"
        with started("curl", "-sSN", url) as late:
            feeds = [watcher.end() for watcher in (early, beside, late)]
    for feed in feeds:
        states = [json.loads(line) for line in feed.lines]
        assert feed.code == 0
        assert states[-1] == finished
        done = [state["done"] for state in states]
        assert done == sorted(done)
        assert all(state["state"] == "running" for state in states[:-1])
    assert json.loads(feeds[2].lines[0])["done"] >= seen["done"] >= 3  # the current state, and none of the earlier ones
    after = curl(url)
    assert (after.code, [json.loads(line) for line in after.lines]) == (0, [finished])


async def test_failed_job_fails_its_feed(server: Serving) -> None:
    url = begin(server, steps=STEPS, fail=4)
    watching = curl(url, "-N")
    failed = state(3, "failed", "step 4 failed")
    assert watching.code == 18  # partial file
    assert json.loads(watching.lines[-1]) == failed
    late = run("get", url)
    assert (late.code, [json.loads(line) for line in late.lines]) == (4, [failed])
    assert "the job failed: step 4 failed" in late.message
    async with ClientSession() as session:
        with pytest.raises(chunkwise.RemoteError, match="step 4 failed"):
            async with chunkwise.open_stream(session, url, format="sse") as stream:
                assert [state async for state in stream] == [failed]


async def test_slow_watcher_gets_last_state() -> None:
    names: dict[str, Any] = {"__name__": "progress"}
    code = (USES / "progress.py").read_text()
    exec(compile(code, "progress.py", "exec"), names)
    job = names["Job"](STEPS, 0)
    states = job.states()
    assert await anext(states) == state(0)
    await job.task
    assert [each async for each in states] == [state(STEPS, "finished")]


@needs_chromium
async def test_browser_script_shows_progress(server: Serving) -> None:
    docstring = ast.get_docstring(ast.parse((USES / "progress.py").read_text())) or ""
    script = docstring.split("In a browser:")[1].split("The feed ends")[0]
    async with browser_page() as page:
        await page.goto(server.url("/jobs/0"))  # a page of the same origin
        for given, last in (({}, STEPS), ({"fail": 4}, 3)):
            path = urlsplit(begin(server, steps=STEPS, **given)).path
            run_it = script.replace("/jobs/1", path) + "globalThis.source = source"
            await page.evaluate(f"globalThis.progress = {{}}; {{ {run_it} }}")
            await page.wait_for_function("source.readyState === EventSource.CLOSED")
            assert await page.evaluate("progress") == {"max": STEPS, "value": last}


def test_unknown_job_is_refused(server: Serving) -> None:
    assert curl(server.url("/jobs/0")).out == b"no such job, or it has expired"
    assert curl(server.url("/jobs"), "-f", "-d", "steps=many").code == 22
