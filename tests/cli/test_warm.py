"""tests/cli/warm.py: a run that begins behind the imports is, for all that can be seen of it, one that begins anew."""

import signal

import pytest

from tests.cli import warm
from tests.cli.raw_server import LAST_CHUNK, answering, answering_in_two, chunked
from tests.cli.running import CHUNKWISE, Done, run, started

JSON = "application/json"
WORDS = ["--version", "--help", "fetch", "get", "get http://127.0.0.1:9/", "demo -x"]

pytestmark = pytest.mark.skipif(
    not warm.is_possible({}), reason="each run begins anew here (coverage, CHUNKWISE_FRESH or Windows)"
)


def run_fresh(*words: object) -> Done:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHUNKWISE_FRESH", "1")
        return run(*words)


@pytest.mark.parametrize("words", WORDS)
def test_what_it_says_and_how_it_ends_are_the_same(words: str) -> None:
    assert run(*words.split()) == run_fresh(*words.split())


@pytest.mark.parametrize("end", [LAST_CHUNK, b""])
def test_what_it_gets_is_the_same(end: bytes) -> None:
    with answering(chunked(JSON, b"[1,2", b",3]") + end) as url:
        assert run("get", url) == run_fresh("get", url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("is_fresh", [False, True])
def test_it_can_be_ended_by_a_signal(number: signal.Signals, is_fresh: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHUNKWISE_FRESH", "1") if is_fresh else None
    with (
        answering_in_two(chunked(JSON, b"[1,2"), LAST_CHUNK) as (url, _),
        started(*CHUNKWISE, "get", url) as getting,
    ):
        assert isinstance(getting.process, warm.Warm) != is_fresh
        assert getting.stdout.readline() == b"1\n"
        getting.signal(number)
        assert getting.end().code == (130 if number == signal.SIGINT else -number)
