"""`chunkwise get`: a stream of any format -> its items on stdout or in a file, as they are received."""

import gzip
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.raw_server import LAST_CHUNK, answering, answering_in_two, chunk, chunked, head, whole
from tests.cli.running import CHUNKWISE, run, started, wait_for_content

ITEMS: list[Any] = [{"n": 1, "name": "é"}, {"n": 2, "name": 'a "b",\nc'}]
LINES = b'{"n":1,"name":"\xc3\xa9"}\n{"n":2,"name":"a \\"b\\",\\nc"}\n'

BODIES = {
    "application/json": json.dumps(ITEMS, indent=1),
    "application/x-ndjson": "".join(json.dumps(item) + "\r\n\n" for item in ITEMS),
    "application/json-seq": "".join(f"\x1e{json.dumps(item)}\n" for item in ITEMS),
    "text/event-stream": "".join(f": hi\nevent: add\nid: x\ndata: {json.dumps(item)}\n\n" for item in ITEMS),
    "application/vnd.api+json": json.dumps(ITEMS),
}


@pytest.mark.parametrize("content_type", BODIES)
def test_items_of_any_format_are_written_as_lines_of_json(content_type: str) -> None:
    with answering(whole(content_type, BODIES[content_type].encode())) as url:
        assert run("get", url) == (0, LINES, "")


def test_values_with_only_a_text_form_are_sent_as_text() -> None:
    with answering(whole("text/csv; header=present", b'n,name\r\n1,"a ""b"",\nc"\r\n')) as url:
        assert run("get", url) == (0, b'{"n":"1","name":"a \\"b\\",\\nc"}\n', "")
    with answering(whole("text/plain; charset=utf-8", "één\ntwo\r\n\n3".encode())) as url:
        assert run("get", url).out.decode() == '"één"\n"two"\n""\n"3"\n'


@pytest.mark.parametrize(
    ("output", "written"),
    [
        ("ndjson", LINES),
        ("json", b"[" + LINES.strip().replace(b"\n", b",") + b"]\n"),
        ("csv", 'n,name\r\n1,é\r\n2,"a ""b"",\nc"\r\n'.encode()),
    ],
)
def test_items_are_written_in_the_format_asked_for(output: str, written: bytes) -> None:
    with answering(whole("application/x-ndjson", LINES)) as url:
        assert run("get", url, "--format", output) == (0, written, "")


@pytest.mark.parametrize(("output", "written"), [("json", b"[]\n"), ("csv", b"")])
def test_an_empty_stream_is_written_as_one(output: str, written: bytes) -> None:
    with answering(whole("application/x-ndjson", b"")) as url:
        assert run("get", url, "--format", output) == (0, written, "")


def test_a_response_that_has_no_content_is_no_items() -> None:
    with answering(head(status="204 No Content")) as url:
        assert run("get", url) == (0, b"", "")


def test_events_of_others_need_not_hold_json() -> None:
    body = b'data: {"delta": "Hi"}\n\nevent: note\ndata: two\ndata: lines\n\ndata\n\ndata: 12\n\ndata: [DONE]\n\n'
    with answering(whole("text/event-stream", body)) as url:
        assert run("get", url) == (0, b'{"delta":"Hi"}\n"two\\nlines"\n""\n12\n"[DONE]"\n', "")


def test_a_path_selects_inside_documents_records_and_events() -> None:
    with answering(whole("application/json", b'{"users": [{"n": 1}, {"n": 2}]}')) as url:
        assert run("get", url, "--path", "users.item.n").out == b"1\n2\n"
    with answering(whole("text/event-stream", b'data: {"n": 1}\n\ndata: {"n": 2}\n\n')) as url:
        assert run("get", url, "--path", "n").out == b"1\n2\n"


def test_a_path_that_the_format_has_not_is_reported() -> None:
    with answering(whole("text/plain", b"one\n")) as url:
        done = run("get", url, "--path", "a.b")
    assert (done.code, done.out) == (2, b"")
    assert "text has no paths" in done.told


def test_a_compressed_response_is_decompressed() -> None:
    with answering(whole("application/x-ndjson", gzip.compress(LINES), "Content-Encoding: gzip")) as url:
        assert run("get", url) == (0, LINES, "")


def test_a_cut_inside_a_compressed_body_is_reported() -> None:
    cut = gzip.compress(LINES)[:-1]
    with answering(whole("application/x-ndjson", cut, "Content-Encoding: gzip")) as url:
        done = run("get", url)
    assert (done.code, done.out) == (5, LINES)
    assert "gzip" in done.told


def test_an_unproven_end_is_reported() -> None:
    fields = "Content-Type: application/x-ndjson"
    with answering(head(fields) + LINES) as url:
        done = run("get", url)
    assert (done.code, done.out) == (0, LINES)
    assert "nothing proves" in done.told


def test_a_failure_in_the_end_record_is_reported() -> None:
    record = b' {"stream-end":{"status":"failed","items":2,"problem":{"title":"Conflict","status":409}}}\n'
    fields = "Content-Type: application/x-ndjson\r\nPreference-Applied: stream-end"
    with answering(head(fields) + LINES + record) as url:
        done = run("get", url)
    assert (done.code, done.out) == (4, LINES)
    assert "failed after 2 items: Conflict" in done.told


def test_a_type_that_says_nothing_leaves_it_to_the_name() -> None:
    with answering(whole("application/octet-stream", LINES)) as url:
        assert run("get", f"{url}rows.ndjson") == (0, LINES, "")
        assert run("get", f"{url}rows.bin").code == 9


def test_an_unknown_media_type_is_reported_with_the_known_ones_and_the_option() -> None:
    with answering(whole("text/html", b"<html>")) as url:
        done = run("get", url)
    assert (done.code, done.out) == (9, b"")
    assert done.told.startswith("content type 'text/html': expected one of application/json, ")
    assert done.told.endswith("; name the format with --from")


def test_a_type_that_is_wrong_or_missing_can_be_overruled() -> None:
    with answering(whole("application/octet-stream", LINES)) as url:
        assert run("get", url, "--from", "ndjson") == (0, LINES, "")
    with answering(head(f"Content-Length: {len(LINES)}") + LINES) as url:
        assert run("get", url, "--from", "ndjson") == (0, LINES, "")


def test_headers_are_sent_and_win_over_ours() -> None:
    seen: list[bytes] = []

    def answer(connection: Any, request: bytes) -> None:
        seen.append(request)
        connection.sendall(whole("application/json", b"[]"))

    with answering(answer) as url:
        assert run("get", url, "-H", "X-Token:  a: b ", "--header", "accept: text/csv").code == 0
    lines = seen[0].decode().split("\r\n")
    assert "X-Token: a: b" in lines
    assert [line for line in lines if line.lower().startswith("accept:")] == ["accept: text/csv"]


@pytest.mark.parametrize("header", ["no colon", "no-colon", "two: a\r\nlines: b", "bad name: x"])
def test_an_invalid_header_is_refused(header: str) -> None:
    done = run("get", "http://127.0.0.1:9/", "-H", header)
    assert (done.code, done.out) == (2, b"")
    assert done.told == f"Invalid value for --header: got {header!r}, expected 'NAME: VALUE'"


def test_big_numbers_and_odd_text_are_passed_through_unchanged() -> None:
    line = '{"big":123456789012345678901234567890,"text":"\u2028\\u0000😀"}\n'
    with answering(whole("application/x-ndjson", line.encode())) as url:
        got = run("get", url)
    assert json.loads(got.out) == json.loads(line)


# --- as they are received


def test_an_item_is_written_while_the_server_still_holds_the_next() -> None:
    answer = chunked("application/x-ndjson", b'{"n":1}\n'), chunk(b'{"n":2}\n') + LAST_CHUNK
    with answering_in_two(*answer) as (url, gate), started(*CHUNKWISE, "get", url, "--format", "csv") as getting:
        assert getting.stdout.readline() + getting.stdout.readline() == b"n\r\n1\r\n"
        assert getting.is_running()
        gate.open()
        assert getting.end() == (0, b"2\r\n", "")


def test_an_element_of_an_array_is_written_while_the_array_is_open() -> None:
    answer = chunked("application/json", b'[{"n":1}'), chunk(b',{"n":2}]') + LAST_CHUNK
    with answering_in_two(*answer) as (url, gate), started(*CHUNKWISE, "get", url) as getting:
        assert getting.stdout.readline() == b'{"n":1}\n'
        gate.open()
        assert getting.end() == (0, b'{"n":2}\n', "")


# --- into a file


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    file, part = tmp_path / "out.ndjson", tmp_path / "out.ndjson.part"
    file.write_bytes(b"older")
    answer = chunked("application/x-ndjson", b"1\n"), chunk(b"2\n") + LAST_CHUNK
    with answering_in_two(*answer) as (url, gate), started(*CHUNKWISE, "get", url, "-o", file) as getting:
        wait_for_content(part, b"1\n", getting)
        assert file.read_bytes() == b"older"
        gate.open()
        assert getting.end() == (0, b"", "")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.ndjson": b"1\n2\n"}


@pytest.mark.parametrize("older", [None, b"older"])
def test_a_failed_download_is_kept_beside_the_older_file(tmp_path: Path, older: bytes | None) -> None:
    if older is not None:
        (tmp_path / "out.json").write_bytes(older)
    with answering(chunked("application/x-ndjson", b"1\n2\n")) as url:
        done = run("get", url, "--format", "json", "-o", tmp_path / "out.json")
    assert (done.code, done.out) == (5, b"")
    assert f"; the items so far are in {tmp_path / 'out.json.part'}" in done.told
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert there == {"out.json.part": b"[1,2"} | ({"out.json": older} if older else {})


def test_ctrl_c_keeps_the_bytes_received_in_the_part_file(tmp_path: Path) -> None:
    file, part = tmp_path / "out", tmp_path / "out.part"
    with (
        answering_in_two(chunked("application/x-ndjson", b"1\n"), b"") as (url, _),
        started(*CHUNKWISE, "get", url, "-o", file) as getting,
    ):
        wait_for_content(part, b"1\n", getting)
        getting.signal(signal.SIGINT)
        done = getting.end()
    assert (done.code, done.told) == (130, "interrupted")
    assert part.read_bytes() == b"1\n"
    assert not file.exists()


def test_output_to_a_pipe_is_written_to_the_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with answering(whole("application/json", b"[1,2]")) as url:
        done = run("get", url, "-o", str(pipe))
    reader.join(20)
    assert (done.code, read, pipe.is_fifo()) == (0, [b"1\n2\n"], True)


def test_output_to_a_link_is_written_to_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with answering(whole("application/json", b"[1]")) as url:
        done = run("get", url, "-o", str(tmp_path / "link"))
    assert done.code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"1\n"
