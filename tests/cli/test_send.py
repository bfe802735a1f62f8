"""`chunkwise send`: a file -> a chunked upload, unchanged or converted, and the response on stdout."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

import chunkwise
from tests.cli.raw_server import responding, whole
from tests.cli.running import Done, folder_of, run, serving
from tests.needs import DATA, needs_data
from tests.transports.wire import talking, url_of

ROWS = [{"n": 1, "name": "é"}, {"n": 2, "name": 'a "b"'}]


class Upload(NamedTuple):
    """A request that a server received."""

    method: str
    headers: dict[str, str]
    body: bytes
    whole: bool


class Server:
    """An aiohttp server that keeps each upload, and sends the response that the test sets."""

    def __init__(self) -> None:
        self.uploads: asyncio.Queue[Upload] = asyncio.Queue()
        self.response = web.Response(text="thanks\n")
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body, is_whole = b"", True
        try:
            async for data in request.content.iter_any():
                body += data
        except (web.RequestPayloadError, ConnectionError):
            is_whole = False
        self.uploads.put_nowait(Upload(request.method, dict(request.headers), body, is_whole))
        return self.response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    kept = Server()
    app = web.Application()
    app.router.add_route("*", "/", kept.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        kept.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield kept
    finally:
        await runner.cleanup()


async def send(*words: object) -> Done:
    return await asyncio.to_thread(run, "send", *words)


async def test_file_is_sent_unchanged_in_chunks(server: Server, tmp_path: Path) -> None:
    content = b"n,name\n" + b"1,\xff not even UTF-8\n" * 50_000
    file = folder_of(tmp_path, {"rows.csv": content}) / "rows.csv"
    assert await send(file, server.url) == (0, b"thanks\n", "")
    upload = server.uploads.get_nowait()
    assert (upload.method, upload.whole, upload.body == content) == ("POST", True, True)
    assert upload.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert upload.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in upload.headers


@needs_data("movies.json")
async def test_real_data_is_converted_for_the_server(server: Server) -> None:
    assert (await send(DATA / "movies.json", server.url, "--format", "json-seq")).code == 0
    upload = server.uploads.get_nowait()
    assert upload.headers["Content-Type"] == "application/json-seq"
    got = [item async for item in chunkwise.items(upload.body, format="json-seq")]
    assert got == json.loads((DATA / "movies.json").read_bytes())


@pytest.mark.parametrize(
    ("format", "body"),
    [
        ("ndjson", b'{"n":1,"name":"\xc3\xa9"}\n{"n":2,"name":"a \\"b\\""}\n'),
        ("csv", b'n,name\r\n1,\xc3\xa9\r\n2,"a ""b"""\r\n'),
    ],
)
async def test_file_is_converted_while_sent(server: Server, tmp_path: Path, format: str, body: bytes) -> None:
    file = folder_of(tmp_path, {"rows.json": json.dumps(ROWS)}) / "rows.json"
    assert (await send(file, server.url, "--format", format)).code == 0
    assert server.uploads.get_nowait().body == body


async def test_method_headers_and_format_are_options(server: Server, tmp_path: Path) -> None:
    file = folder_of(tmp_path, {"rows.dat": b"1\n2\n"}) / "rows.dat"
    words = ("--from", "ndjson", "--method", "PUT", "-H", "X-Token: a", "-H", "Content-Type: application/jsonl")
    assert (await send(file, server.url, *words)).code == 0
    upload = server.uploads.get_nowait()
    assert (upload.method, upload.body) == ("PUT", b"1\n2\n")
    assert (upload.headers["X-Token"], upload.headers["Content-Type"]) == ("a", "application/jsonl")


async def test_invalid_method_is_rejected(server: Server, tmp_path: Path) -> None:
    file = folder_of(tmp_path, {"rows.ndjson": b"1\n"}) / "rows.ndjson"
    done = await send(file, server.url, "--method", "B@D")
    assert (done.code, done.message) == (2, "Invalid value for --method: expected a method such as POST, got 'B@D'")
    assert server.uploads.empty()


async def test_stdin_is_sent_if_its_format_is_given(server: Server) -> None:
    def send_stdin(*words: str) -> Done:
        return run("send", "-", server.url, *words, input=b"1\n2\n")

    assert await asyncio.to_thread(send_stdin, "--from", "ndjson", "--format", "json") == (0, b"thanks\n", "")
    assert server.uploads.get_nowait().body == b"[1,2]"
    done = await asyncio.to_thread(send_stdin)
    assert (done.code, done.out) == (9, b"")
    assert done.message == "stdin has no file name that shows its format: name the format with --from"


async def test_empty_file_is_a_complete_empty_upload(server: Server, tmp_path: Path) -> None:
    assert (await send(folder_of(tmp_path, {"rows.ndjson": b""}) / "rows.ndjson", server.url)).code == 0
    assert server.uploads.get_nowait()[2:] == (b"", True)


async def test_response_is_written_to_stdout_unchanged(server: Server, tmp_path: Path) -> None:
    server.response = web.Response(body=bytes(range(256)) * 1000)
    done = await send(folder_of(tmp_path, {"rows.ndjson": b"1\n"}) / "rows.ndjson", server.url)
    assert done == (0, bytes(range(256)) * 1000, "")


async def test_error_status_is_reported_with_problem(server: Server, tmp_path: Path) -> None:
    problem = {"title": "Quota", "status": 507, "detail": "no space for rows"}
    server.response = web.json_response(problem, status=507, content_type="application/problem+json")
    done = await send(folder_of(tmp_path, {"rows.ndjson": b"1\n"}) / "rows.ndjson", server.url)
    assert (done.code, done.out) == (4, b"")
    assert done.message == "the server answered 507 Insufficient Storage: Quota: no space for rows"
    server.response = web.json_response({"error": "no such thing"}, status=400)
    done = await send(tmp_path / "rows.ndjson", server.url)
    assert (done.code, done.message) == (4, 'the server answered 400 Bad Request: {"error": "no such thing"}')


@pytest.mark.parametrize(
    ("file", "content", "format", "code", "received", "place"),
    [
        ("rows.json", "[1, 2, oops]", "ndjson", 6, b"1\n2\n", "(format json, item 2, byte 7)"),
        ("rows.json", "[1, 2, ", "ndjson", 5, b"1\n2\n", "2 items and 7 bytes"),
        ("rows.json", '[{"n": 1}, {"m": 2}]', "csv", 6, b"n\r\n1\r\n", "(item 1)"),
        ("rows.json", "[1, " + "[" * 600, "ndjson", 7, b"1\n", "(format json, item 1, byte 515)"),
        ("rows.csv", "a,b\n1,2\n3\n", "sse", 6, b'id: 0\ndata: {"a":"1","b":"2"}\n\n', "(format csv, item 1, byte 8)"),
    ],
)
async def test_unconvertible_file_never_completes_upload(
    server: Server, tmp_path: Path, file: str, content: str, format: str, code: int, received: bytes, place: str
) -> None:
    done = await send(folder_of(tmp_path, {file: content}) / file, server.url, "--format", format)
    assert (done.code, done.out) == (code, b"")
    assert place in done.message
    async with asyncio.timeout(30):
        upload = await server.uploads.get()
    assert (upload.body, upload.whole) == (received, False)


def test_early_response_does_not_hide_bad_data(tmp_path: Path) -> None:
    file = folder_of(tmp_path, {"rows.json": "[1, oops]"}) / "rows.json"
    with responding(whole("text/plain", b"thanks\n")) as url:
        done = run("send", file, url, "--format", "ndjson")
    assert done.code == 6
    assert done.message.endswith("(format json, item 1, byte 4)")


@pytest.mark.parametrize("end", [b"", b",oops]"])
async def test_early_response_exits_5(tmp_path: Path, end: bytes) -> None:
    sent = asyncio.Event()

    async def answer_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nthanks\n")
        await sent.wait()

    file = folder_of(tmp_path, {"rows.json": b"[1" + b",1" * 8_000_000 + (end or b"]")}) / "rows.json"
    async with talking(answer_at_once) as port:
        done = await send(file, url_of(port), "--format", "ndjson")
        sent.set()
    assert (done.code, done.out) == (5, b"thanks\n")
    assert done.message.startswith("the server responded before it received all of rows.json (")


async def test_content_length_header_is_rejected(server: Server, tmp_path: Path) -> None:
    file = folder_of(tmp_path, {"rows.ndjson": b"1\n"}) / "rows.ndjson"
    done = await send(file, server.url, "-H", "content-length: 2")
    assert (done.code, done.out) == (2, b"")
    assert "a chunked request has no Content-Length: leave this header out" in done.message
    assert server.uploads.empty()


def test_unreachable_server_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    done = run("send", folder_of(tmp_path, {"rows.ndjson": b"1\n"}) / "rows.ndjson", f"http://{address}/")
    assert (done.code, done.out) == (3, b"")
    assert address in done.message


def test_cut_response_is_reported_after_its_bytes(tmp_path: Path) -> None:
    response = whole("text/plain", b"all is w").replace(b"Content-Length: 8", b"Content-Length: 80")
    with responding(response) as url:
        done = run("send", folder_of(tmp_path, {"rows.ndjson": b"1\n"}) / "rows.ndjson", url)
    assert (done.code, done.out) == (5, b"all is w")
    assert done.message.startswith("the connection closed before the end of the response (0 items and 8 bytes")


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("nothing.json", 10, "nothing.json: No such file or directory"),
        ("folder.json", 10, "folder.json: Is a directory"),
        ("rows.dat", 9, "unknown suffix in file name 'rows.dat'"),
        ("rows.csv.gz", 9, "decompress the file first"),
    ],
)
async def test_file_that_cannot_be_sent_is_reported(
    server: Server, tmp_path: Path, name: str, code: int, message: str
) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "rows.dat").touch()
    (tmp_path / "rows.csv.gz").touch()
    done = await send(tmp_path / name, server.url)
    assert (done.code, done.out) == (code, b"")
    assert message in done.message


async def test_served_file_survives_get_and_send(server: Server, tmp_path: Path) -> None:
    """A file is served, downloaded with get and uploaded with send: the items stay the same."""
    folder = folder_of(tmp_path / "served", {"rows.json": json.dumps(ROWS)})
    with serving(folder) as source:
        url = source.url("/rows.json?format=sse")
        assert (await asyncio.to_thread(run, "get", url, "-o", tmp_path / "rows.ndjson")).code == 0
    assert (await send(tmp_path / "rows.ndjson", server.url, "--format", "json")).code == 0
    assert json.loads(server.uploads.get_nowait().body) == ROWS
