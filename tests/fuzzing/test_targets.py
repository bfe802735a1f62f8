"""The targets of `make fuzz` pass with their corpus and with random bytes, and fail if code is broken."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.formats.parsing.stream_decoder import StreamDecoder
from chunkwise.server import item_ranges
from fuzzing import decoders, speedups
from fuzzing.targets import CORPUS, ROOT, TARGETS

every_target = pytest.mark.parametrize("name", TARGETS)


def corpus(name: str) -> list[Path]:
    return sorted((CORPUS / name).iterdir())


@every_target
def test_corpus_passes(name: str) -> None:
    for file in corpus(name):
        TARGETS[name](file.read_bytes())


def test_corpus_is_small() -> None:
    files = [file for name in TARGETS for file in corpus(name)]
    assert len(files) < 150
    assert sum(file.stat().st_size for file in files) < 64 * 1024


@every_target
@given(data=st.data())
def test_random_bytes_pass(name: str, data: st.DataObject) -> None:
    start = data.draw(st.sampled_from([file.read_bytes() for file in corpus(name)]))
    at = data.draw(st.integers(0, len(start)))
    TARGETS[name](start[:at] + data.draw(st.binary(max_size=6)) + start[at + data.draw(st.integers(0, 6)) :])


def fails(name: str) -> bool:
    """Whether an input of the corpus fails."""
    for file in corpus(name):
        try:
            TARGETS[name](file.read_bytes())
        except (AssertionError, UnicodeDecodeError):
            return True
    return False


@pytest.mark.parametrize("name", decoders.TARGETS)
def test_split_dependent_decoder_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    feed: Callable[[Any, bytes], list[Any]] = StreamDecoder.feed

    def forgetful(self: StreamDecoder, data: bytes) -> list[Any]:
        items = feed(self, data)
        if len(data) % 2 and items:
            items.pop()
            self.items_seen -= 1
        return items

    monkeypatch.setattr(StreamDecoder, "feed", forgetful)
    assert fails(name)


@pytest.mark.skipif(len(speedups.KINDS) < 2, reason="built without a compiler")
@pytest.mark.parametrize(
    ("name", "function", "broken"),
    [
        ("json", "Scanner", None),
        ("events", "Scanner", None),
        ("sse", "event_texts", lambda run, start, stop, most: (b"1", 1, None)),
        ("text", "whole_bytes", len),
    ],
)
def test_different_fallback_is_found(name: str, function: str, broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken is None:

        class Shallow(speedups.CODE["pure"][function]):  # type: ignore[misc]
            def scan(self, window: bytes, position: int) -> int:
                return int(super().scan(window.replace(b"1", b"2"), position)) if b"{" not in window else 0

        broken = Shallow
    monkeypatch.setitem(speedups.CODE["pure"], function, broken)
    assert fails(name)


def test_range_with_too_many_items_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_ranges, "first_items", lambda source, count: source)
    assert fails("request")


def driver(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "fuzzing", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_driver_replays_every_corpus() -> None:
    done = driver()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n") == [*(f"{name:>9}: {len(corpus(name))} inputs, none failed" for name in TARGETS), ""]


def test_driver_replays_one_input() -> None:
    done = driver("json", "--replay", str(corpus("json")[0]))
    assert (done.returncode, done.stdout) == (0, "     json: 1 inputs, none failed\n")


def test_driver_reports_each_failing_input(tmp_path: Path) -> None:
    missing, passing = tmp_path / "missing", tmp_path / "passing"
    passing.write_bytes(b"")
    done = driver("csv", "--replay", str(missing), str(passing))
    assert done.returncode == 1
    assert f"      csv: {missing} FAILED\nTraceback" in done.stdout
    assert done.stdout.endswith("      csv: 2 inputs, 1 FAILED\n")
