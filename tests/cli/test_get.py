"""`chunkwise get`: a stream of any format -> its items on stdout or in a file, as they are received."""

import gzip
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.raw_server import LAST_CHUNK, chunk, chunked, head, responding, responding_in_two, whole
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
def test_any_format_is_written_as_ndjson(content_type: str) -> None:
    with responding(whole(content_type, BODIES[content_type].encode())) as url:
        assert run("get", url) == (0, LINES, "")


def test_csv_cells_and_text_lines_are_strings() -> None:
    with responding(whole("text/csv; header=present", b'n,name\r\n1,"a ""b"",\nc"\r\n')) as url:
        assert run("get", url) == (0, b'{"n":"1","name":"a \\"b\\",\\nc"}\n', "")
    with responding(whole("text/plain; charset=utf-8", "één\ntwo\r\n\n3".encode())) as url:
        assert run("get", url).out.decode() == '"één"\n"two"\n""\n"3"\n'


@pytest.mark.parametrize(
    ("output", "written"),
    [
        ("ndjson", LINES),
        ("json", b"[" + LINES.strip().replace(b"\n", b",") + b"]\n"),
        ("csv", 'n,name\r\n1,é\r\n2,"a ""b"",\nc"\r\n'.encode()),
    ],
)
def test_format_option_selects_the_output_format(output: str, written: bytes) -> None:
    with responding(whole("application/x-ndjson", LINES)) as url:
        assert run("get", url, "--format", output) == (0, written, "")


@pytest.mark.parametrize(
    ("name", "options", "written"),
    [
        ("out.csv", [], b"n\r\n1\r\n"),
        ("OUT.JSON", [], b'[{"n":1}]\n'),
        ("out.jsonl", [], b'{"n":1}\n'),
        ("out.sse", [], b'{"n":1}\n'),
        ("out", [], b'{"n":1}\n'),
        ("out.csv", ["--format", "ndjson"], b'{"n":1}\n'),
    ],
)
def test_output_suffix_selects_the_format(name: str, options: list[str], written: bytes, tmp_path: Path) -> None:
    with responding(whole("application/x-ndjson", b'{"n":1}\n')) as url:
        assert run("get", url, "-o", str(tmp_path / name), *options) == (0, b"", "")
    assert (tmp_path / name).read_bytes() == written


@pytest.mark.parametrize(("output", "written"), [("json", b"[]\n"), ("csv", b"")])
def test_empty_stream_is_written_in_each_format(output: str, written: bytes) -> None:
    with responding(whole("application/x-ndjson", b"")) as url:
        assert run("get", url, "--format", output) == (0, written, "")


def test_no_content_response_has_no_items() -> None:
    with responding(head(status="204 No Content")) as url:
        assert run("get", url) == (0, b"", "")


def test_events_may_have_data_other_than_json() -> None:
    body = b'data: {"delta": "Hi"}\n\nevent: note\ndata: two\ndata: lines\n\ndata\n\ndata: 12\n\ndata: [DONE]\n\n'
    with responding(whole("text/event-stream", body)) as url:
        assert run("get", url) == (0, b'{"delta":"Hi"}\n"two\\nlines"\n""\n12\n"[DONE]"\n', "")


def test_path_selects_values_in_each_format() -> None:
    with responding(whole("application/json", b'{"users": [{"n": 1}, {"n": 2}]}')) as url:
        assert run("get", url, "--path", "users.item.n").out == b"1\n2\n"
    with responding(whole("text/event-stream", b'data: {"n": 1}\n\ndata: {"n": 2}\n\n')) as url:
        assert run("get", url, "--path", "n").out == b"1\n2\n"


def test_path_unsupported_by_format_is_reported() -> None:
    with responding(whole("text/plain", b"one\n")) as url:
        done = run("get", url, "--path", "a.b")
    assert (done.code, done.out) == (2, b"")
    assert "path cannot be used with the text format" in done.message


def test_compressed_response_is_decompressed() -> None:
    with responding(whole("application/x-ndjson", gzip.compress(LINES), "Content-Encoding: gzip")) as url:
        assert run("get", url) == (0, LINES, "")


def test_cut_in_compressed_body_is_reported() -> None:
    cut = gzip.compress(LINES)[:-1]
    with responding(whole("application/x-ndjson", cut, "Content-Encoding: gzip")) as url:
        done = run("get", url)
    assert (done.code, done.out) == (5, LINES)
    assert "gzip" in done.message


def test_unproven_end_is_reported() -> None:
    fields = "Content-Type: application/x-ndjson"
    with responding(head(fields) + LINES) as url:
        done = run("get", url)
    assert (done.code, done.out) == (0, LINES)
    assert "without an end mark" in done.message


def test_failure_in_end_record_is_reported() -> None:
    record = b' {"stream-end":{"status":"failed","items":2,"problem":{"title":"Conflict","status":409}}}\n'
    fields = "Content-Type: application/x-ndjson\r\nPreference-Applied: stream-end"
    with responding(head(fields) + LINES + record) as url:
        done = run("get", url)
    assert (done.code, done.out) == (4, LINES)
    assert "failed after 2 items: Conflict" in done.message


def test_octet_stream_format_is_found_by_suffix() -> None:
    with responding(whole("application/octet-stream", LINES)) as url:
        assert run("get", f"{url}rows.ndjson") == (0, LINES, "")
        assert run("get", f"{url}rows.bin").code == 9


def test_unknown_media_type_error_names_from_option() -> None:
    with responding(whole("text/html", b"<html>")) as url:
        done = run("get", url)
    assert (done.code, done.out) == (9, b"")
    assert done.message.startswith("got content type 'text/html', expected one of application/json, ")
    assert done.message.endswith("; name the format with --from")


def test_from_option_overrides_content_type() -> None:
    with responding(whole("application/octet-stream", LINES)) as url:
        assert run("get", url, "--from", "ndjson") == (0, LINES, "")
    with responding(head(f"Content-Length: {len(LINES)}") + LINES) as url:
        assert run("get", url, "--from", "ndjson") == (0, LINES, "")


def test_given_headers_override_defaults() -> None:
    seen: list[bytes] = []

    def response(connection: Any, request: bytes) -> None:
        seen.append(request)
        connection.sendall(whole("application/json", b"[]"))

    with responding(response) as url:
        assert run("get", url, "-H", "X-Token:  a: b ", "--header", "accept: text/csv").code == 0
    lines = seen[0].decode().split("\r\n")
    assert "X-Token: a: b" in lines
    assert [line for line in lines if line.lower().startswith("accept:")] == ["accept: text/csv"]


@pytest.mark.parametrize("header", ["no colon", "no-colon", "two: a\r\nlines: b", "bad name: x"])
def test_invalid_header_is_rejected(header: str) -> None:
    done = run("get", "http://127.0.0.1:9/", "-H", header)
    assert (done.code, done.out) == (2, b"")
    assert done.message == f"Invalid value for --header: expected 'NAME: VALUE', got {header!r}"


def test_big_numbers_and_odd_text_are_unchanged() -> None:
    line = '{"big":123456789012345678901234567890,"text":"\u2028\\u0000😀"}\n'
    with responding(whole("application/x-ndjson", line.encode())) as url:
        got = run("get", url)
    assert json.loads(got.out) == json.loads(line)


# --- items are written as they are received


def test_item_is_written_before_the_next_is_sent() -> None:
    response = chunked("application/x-ndjson", b'{"n":1}\n'), chunk(b'{"n":2}\n') + LAST_CHUNK
    with responding_in_two(*response) as (url, gate), started(*CHUNKWISE, "get", url, "--format", "csv") as getting:
        assert getting.stdout.readline() + getting.stdout.readline() == b"n\r\n1\r\n"
        assert getting.is_running()
        gate.open()
        assert getting.end() == (0, b"2\r\n", "")


def test_array_item_is_written_before_array_ends() -> None:
    response = chunked("application/json", b'[{"n":1}'), chunk(b',{"n":2}]') + LAST_CHUNK
    with responding_in_two(*response) as (url, gate), started(*CHUNKWISE, "get", url) as getting:
        assert getting.stdout.readline() == b'{"n":1}\n'
        gate.open()
        assert getting.end() == (0, b'{"n":2}\n', "")


# --- output files


def test_file_is_renamed_only_when_complete(tmp_path: Path) -> None:
    file, part = tmp_path / "out.ndjson", tmp_path / "out.ndjson.part"
    file.write_bytes(b"older")
    response = chunked("application/x-ndjson", b"1\n"), chunk(b"2\n") + LAST_CHUNK
    with responding_in_two(*response) as (url, gate), started(*CHUNKWISE, "get", url, "-o", file) as getting:
        wait_for_content(part, b"1\n", getting)
        assert file.read_bytes() == b"older"
        gate.open()
        assert getting.end() == (0, b"", "")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.ndjson": b"1\n2\n"}


@pytest.mark.parametrize("older", [None, b"older"])
def test_failed_download_keeps_the_older_file(tmp_path: Path, older: bytes | None) -> None:
    if older is not None:
        (tmp_path / "out.json").write_bytes(older)
    with responding(chunked("application/x-ndjson", b"1\n2\n")) as url:
        done = run("get", url, "--format", "json", "-o", tmp_path / "out.json")
    assert (done.code, done.out) == (5, b"")
    assert f"; the items received so far are in {tmp_path / 'out.json.part'}" in done.message
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert there == {"out.json.part": b"[1,2"} | ({"out.json": older} if older else {})


def test_ctrl_c_keeps_received_bytes_in_part_file(tmp_path: Path) -> None:
    file, part = tmp_path / "out", tmp_path / "out.part"
    with (
        responding_in_two(chunked("application/x-ndjson", b"1\n"), b"") as (url, _),
        started(*CHUNKWISE, "get", url, "-o", file) as getting,
    ):
        wait_for_content(part, b"1\n", getting)
        getting.signal(signal.SIGINT)
        done = getting.end()
    assert (done.code, done.message) == (130, "interrupted")
    assert part.read_bytes() == b"1\n"
    assert not file.exists()


def test_output_to_pipe_is_written_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with responding(whole("application/json", b"[1,2]")) as url:
        done = run("get", url, "-o", str(pipe))
    reader.join(20)
    assert (done.code, read, pipe.is_fifo()) == (0, [b"1\n2\n"], True)


def test_output_to_link_replaces_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with responding(whole("application/json", b"[1]")) as url:
        done = run("get", url, "-o", str(tmp_path / "link"))
    assert done.code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"1\n"
