"""The benchmarks ask all their questions, and each contender measures the figures for them. No test measures time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import memory, postgres
from benchmarks.contender import Contender, Figures, Task, WrongContent
from benchmarks.contenders_rows import BARE_LOOP, OURS, read_rows
from benchmarks.draining import Cut, Frames
from benchmarks.processes import Cores, Failed, measure
from benchmarks.questions import CONTENDERS, QUESTIONS, SUBJECTS, UNFAIR, Question, Subject
from benchmarks.report import PLOTS, file_name, text
from benchmarks.results import Measured, Results, Row
from benchmarks.rows import row_text
from tests.pages import ROOT
from tests.tables import check_rows

NOT_PINNED = Cores(None, None)

ASKED = [
    *[">= 12x", ">= 6x", ">= 8x", ">= 2x", ">= 10x", ">= 0.7x"],  # rows
    ">= 100x",  # a nested document
    *[">= 8x", ">= 8x"],  # server-sent events
    ">= 8x",  # WebSocket
    *[">= 2.5x", ">= 6x", ">= 3.5x", ">= 6x", ">= 6x", ">= 9x", ">= 25x", ">= 2.5x", ">= 0.8x"],  # reading JSON
    ">= 0.5x",  # a large event
    *["<= 20 ms", "<= 2x", "<= 1.5x"],  # pings, idle streams, first byte
    *["<= 64 MiB", "<= 64 MiB", ">= 2x", ">= 0.4x"],  # rows of PostgreSQL
]


def test_every_question_has_its_target() -> None:
    signs = {"at least": ">=", "at most": "<="}
    assert [f"{signs[asked.direction]} {asked.bound:g}{asked.unit}" for asked in QUESTIONS] == ASKED


def test_question_compares_within_one_subject() -> None:
    def check(question: Question) -> None:
        [subject] = [subject for subject in SUBJECTS if question.ours in {one.name for one in subject.contenders}]
        assert question.ours.startswith("chunkwise")
        assert question.rival is None or question.rival in {one.name for one in subject.contenders}
        assert question.rival != question.ours

    check_rows({question.text: question for question in QUESTIONS}, check)


def test_contender_names_are_unique() -> None:
    assert sum(len(subject.contenders) for subject in SUBJECTS) == len(CONTENDERS)
    for subject in SUBJECTS:
        ours = [one for one in subject.contenders if one.name.startswith("chunkwise")]
        assert 0 < len(ours) < len(subject.contenders)


TINY = {"one large event, MB": 1, "pings beside two fast streams of rows": 2_000, "idle streams": 12}
EACH = [pytest.param(subject, one, id=one.name) for subject in SUBJECTS for one in subject.contenders]


@pytest.mark.parametrize(("subject", "contender"), EACH)
def test_contender_measures_required_figures(
    subject: Subject, contender: Contender, request: pytest.FixtureRequest
) -> None:
    if missing := contender.missing():
        pytest.skip(f"needs {', '.join(missing)} (make bench)")
    if contender.lacks_program():
        pytest.skip(f"needs {contender.program} on the PATH")
    count = TINY.get(subject.title, 300)
    server = postgres.announced(request.getfixturevalue("postgres")) if subject.of_postgres else nullcontext()
    with server:
        result = measure(contender, count, warm_count=count // 2, check=True, cores=NOT_PINNED)
    figures = {question.figure for question in QUESTIONS if contender.name in (question.ours, question.rival)}
    assert figures <= result.keys()
    assert result["items"] > 0
    assert result["client_peak_mib"] > 1
    assert (contender.server is None) or result["server_peak_mib"] > 1


@contextmanager
def responding(response: bytes) -> Iterator[int]:
    """Send this response to the first connection, whatever the request; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(response)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def chunked(*parts: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


TWO_ROWS = [b"[" + row_text(0).encode(), b",", row_text(1).encode() + b"]"]


def test_correct_response_is_accepted() -> None:
    with responding(chunked(*TWO_ROWS) + b"0\r\n\r\n") as port:
        result = read_rows(Task(count=2, port=port, check=True))
    assert result["items"] == 2
    assert result["bytes"] > len(b"".join(TWO_ROWS))


def test_wrong_rows_fail_the_measurement() -> None:
    for parts in ([b"[" + row_text(1).encode() + b"]"], [*TWO_ROWS[:1], b"]"]):
        with (
            responding(chunked(*parts) + b"0\r\n\r\n") as port,
            pytest.raises(WrongContent, match="from the 2 expected rows"),
        ):
            read_rows(Task(count=2, port=port, check=True))


@pytest.mark.parametrize("end", [b"", b"0\r\n", b"0\r\n\r"])
def test_missing_last_chunk_fails_the_measurement(end: bytes) -> None:
    with responding(chunked(*TWO_ROWS) + end) as port, pytest.raises(Cut, match="before the end of the body"):
        read_rows(Task(count=2, port=port))


def test_error_page_fails_the_measurement() -> None:
    with responding(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n") as port, pytest.raises(Cut, match="500"):
        read_rows(Task(count=2, port=port))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 200_000])
def test_frames_are_counted_for_any_split(step: int) -> None:
    sizes = [0, 1, 125, 126, 65_535, 65_536]
    heads = [b"\x81\x00", b"\x81\x01", b"\x82\x7d", b"\x81\x7e\x00\x7e", b"\x81\x7e\xff\xff"]
    heads.append(b"\x81\x7f" + (65_536).to_bytes(8))
    data = b"".join(head + b"x" * size for head, size in zip(heads, sizes, strict=True))
    data = b"\x89\x00" + data + b"\x88\x02" + (1000).to_bytes(2)  # a ping before, the close after
    frames = Frames(keep=True)
    for start in range(0, len(data), step):
        frames.feed(data[start : start + step])
    assert [len(message) for message in frames.messages] == sizes
    assert (frames.count, frames.size, frames.close_code) == (6, sum(sizes), 1000)


def test_failed_process_reports_its_error() -> None:
    with pytest.raises(Failed, match="KeyError: 'unknown'"):
        measure(Contender(name="unknown", client=read_rows), 1, cores=NOT_PINNED)


def test_run_continues_without_failed_contenders() -> None:
    rivals = [
        Contender(name="crashes", client=read_rows),  # the child process does not find this name
        Contender(name="not installed", client=read_rows, needs=("no_such_module",)),
        Contender(name="no program", client=read_rows, program="no-such-program"),
        CONTENDERS[BARE_LOOP],
    ]
    found = results()
    found.rounds = 2
    command.run_subject(Subject(title="all", contenders=rivals, count=10, quick_count=5), found, NOT_PINNED)
    [_, measured] = found.subjects
    crashed, absent, skipped, well = measured.rows
    assert "KeyError: 'crashes'" in crashed.failed
    assert "no_such_module" in absent.failed
    assert "no-such-program" in skipped.skipped
    assert [run["items"] for run in well.runs] == [10, 10]
    assert command.status(found) == 2


def results(*rows: Row, quick: bool = False) -> Results:
    measured = [Measured(title="rows", count=2, rows=list(rows))]
    return Results(
        quick=quick,
        rounds=3,
        versions={"chunkwise": "1", "orjson": "not installed"},
        hardware={"processor": "P", "cores": "2", "kernel": "K", "load": "0.1"},
        pinned=True,
        subjects=measured,
    )


def run_of(seconds: float) -> Figures:
    return {"seconds": seconds, "bytes": 1e6, "items": 2, "client_peak_mib": 9}


def verdict_of(found: Results, rival: str) -> tuple[list[float], str]:
    [verdict] = [one for one in found.verdicts() if one.question.rival == rival and one.question.figure == "seconds"]
    return verdict.values, verdict.word


def test_ratios_compare_runs_of_one_round() -> None:
    ours, limit = [run_of(2), run_of(4), run_of(1)], [run_of(1), run_of(3), run_of(3)]
    found = results(Row(name=OURS, runs=ours), Row(name=BARE_LOOP, runs=limit))
    assert verdict_of(found, BARE_LOOP) == ([0.5, 0.75, 3.0], "reached")
    found.subjects[0].rows[1].runs.pop()
    assert verdict_of(found, BARE_LOOP) == ([0.5, 0.75], "NOT REACHED")


def test_missing_and_missed_results_are_reported() -> None:
    good = results(Row(name=OURS, runs=[run_of(1)]), Row(name=BARE_LOOP, runs=[run_of(1)]))
    bad = results(Row(name=OURS, runs=[run_of(1)]), Row(name=BARE_LOOP, runs=[run_of(0.5)]))
    quick = results(*bad.subjects[0].rows, quick=True)
    none = results(Row(name=OURS, runs=[run_of(1)]), Row(name=BARE_LOOP, failed="the server ended with 1"))
    node = results(*good.subjects[0].rows, Row(name="Node", skipped="node is not on the PATH"))
    assert [command.status(found) for found in (good, bad, quick, none, node)] == [0, 1, 0, 2, 0]
    assert "the server ended with 1" in text(none, markdown=False)
    assert "Node: node is not on the PATH" in text(node, markdown=False)
    assert "- Versions: chunkwise 1.\n" in text(good, markdown=False)  # without packages that are not installed
    page = text(good, markdown=True)
    assert " >= 0.7x |" in page
    assert page.count("\n- ") > 20  # what is unfair
    assert "- FastAPI writes JSON Lines instead of an array" in page


@pytest.mark.parametrize("pair", memory.MEASURED, ids=lambda pair: pair.names[1])
def test_both_sides_report_their_memory(pair: memory.Pair) -> None:
    for result in memory.measure(pair, 1, seconds=50):
        assert result["peak_mib"] > 1
        assert result["items"] >= memory.BLOCK_ROWS


def test_growing_memory_misses_its_target() -> None:
    found = results()
    for growth, failed, status, word in ((31.9, "", 0, "reached"), (32.0, "", 1, "NOT REACHED"), (None, "x", 2, "")):
        found.memory_growth_mib, found.memory_failed = growth, failed
        assert command.status(found) == status
        assert word in text(found, markdown=False)


def test_results_are_loaded_as_saved(tmp_path: Path) -> None:
    found = results(Row(name=OURS, runs=[run_of(1), run_of(2)]), Row(name=BARE_LOOP, failed="no"))
    found.save(tmp_path / "new" / "full.json")
    assert Results.load(tmp_path / "new" / "full.json") == found


def test_published_page_matches_the_report() -> None:
    page = (ROOT / "docs" / "explanation" / "benchmarks.md").read_text()
    plots = ROOT / "docs" / "benchmarks"
    expected = [question.text for question in QUESTIONS] + list(UNFAIR.values())
    for subject in SUBJECTS:
        name = file_name(subject.title)
        expected += [f"### {subject.title}: {subject.count:,}\n\n![{subject.title}]({PLOTS}/{name})"]
        expected += [f"| {contender.name} " for contender in subject.contenders]
        assert (plots / name).exists()
    assert [part for part in expected if part not in page] == []
