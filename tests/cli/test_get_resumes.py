"""`chunkwise get -o`, killed and run again, writes the same bytes as an uninterrupted run."""

import hashlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chunkwise.cli.partial_file import PartialFile, Tracked
from chunkwise.transports.range_headers import ResumePoint
from tests.cli.raw_server import LAST_CHUNK, chunk, chunked, responding, responding_in_two, whole
from tests.cli.running import CHUNKWISE, Running, run, started, wait_for_content, wait_until
from tests.each_row import each_row
from tests.needs import needs_linux

SERVER = Path(__file__).with_name("resumable_server.py")


@contextmanager
def server(etag: str = "v1") -> Iterator[str]:
    with started(sys.executable, SERVER, etag) as running:
        yield f"http://127.0.0.1:{int(running.stdout.readline())}"


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with server() as url:
        yield url


def wait_for_progress(state: Path, before: str, reading: Running) -> str:
    """Wait until the content of the state file changes; return the new content."""
    wait_until(lambda: state.exists() and state.read_text() != before, f"{state} never changed", reading)
    return state.read_text()


def interrupted(url: str, output: Path, *words: str, times: int = 1, number: signal.Signals = signal.SIGKILL) -> None:
    """Run `get` several times, and interrupt it each time while it reads."""
    state = output.with_name(output.name + ".part.state")
    said = ""
    for _ in range(times):
        with started(*CHUNKWISE, "get", url, "-o", output, *words) as reading:
            said = wait_for_progress(state, said, reading)
            reading.signal(number)
            assert reading.end().code in (-signal.SIGKILL, 130, 143, -signal.SIGTERM)
    assert not output.exists()
    assert 0 < json.loads(said)["position"][0] < 2000


@each_row("path", ["/indexed", "/keyed"])
@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("name", ["ndjson", "json", "csv"])
def test_file_is_identical_after_five_kills(base: str, tmp_path: Path, name: str, scheme: str, path: str) -> None:
    url = base.replace("http", scheme) + path
    whole, output = tmp_path / "whole", tmp_path / f"out.{name}"
    assert run("get", url, "--format", name, "-o", whole).code == 0
    interrupted(url, output, "--format", name, times=5)
    done = run("get", url, "--format", name, "-o", output)
    assert done.code == 0
    assert "continuing after the " in done.err
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([output.name, "whole"])


def test_download_continues_after_ctrl_c(base: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    interrupted(base + "/indexed", output, number=signal.SIGINT)
    assert run("get", base + "/indexed", "-o", output).code == 0
    assert len(output.read_bytes().splitlines()) == 2000


def test_failed_download_records_all_items(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with server("v1") as url:
        failed = run("get", url + "/failing", "-o", output)
        assert failed.code == 4
        lines = (tmp_path / "out.part").read_bytes().splitlines()
        assert [json.loads(line)["n"] for line in lines] == ["0", "1", "2"]
        state = json.loads((tmp_path / "out.part.state").read_text())
        assert (state["position"][0], state["bytes"]) == (3, (tmp_path / "out.part").stat().st_size)
        again = run("get", url + "/failing", "-o", output)
    assert "continuing after the 3 items in out.part" in again.err


@needs_linux
def test_full_disk_leaves_no_partial_state_file(tmp_path: Path) -> None:
    (tmp_path / "out.part.state.new").symlink_to("/dev/full")
    with server("v1") as url:
        assert run("get", url + "/failing", "-o", tmp_path / "out").code == 4
    assert [file.name for file in tmp_path.iterdir()] == ["out.part"]


def test_bytes_newer_than_state_are_downloaded_again(base: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    interrupted(base + "/indexed", output)
    with (tmp_path / "out.part").open("ab") as file:
        file.write(b'{"half a')
    assert run("get", base + "/indexed", "-o", output).code == 0
    assert [json.loads(line)["n"] for line in output.read_bytes().splitlines()] == [str(n) for n in range(2000)]


def test_changed_etag_is_reported_and_never_mixed(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with server("v1") as first, server("v2") as second:
        # The state gets the URL of the second server, as if the first server had been restarted.
        interrupted(first + "/indexed", output)
        part, state = tmp_path / "out.part", tmp_path / "out.part.state"
        kept = part.read_bytes()
        request = json.loads(state.read_text())
        interrupted(second + "/indexed", tmp_path / "other")
        request["request"] = json.loads((tmp_path / "other.part.state").read_text())["request"]
        state.write_text(json.dumps(request))
        done = run("get", second + "/indexed", "-o", output)
    assert done.code == 5
    assert 'got the ETag "v2", expected "v1"' in done.err
    assert f"to start from the first item, delete {part}" in done.err
    assert part.read_bytes() == kept[: request["bytes"]]
    assert not output.exists()


RESTARTED = "chunkwise: starting from the first item: {}\n"


@pytest.mark.parametrize(
    ("path", "words", "why"),
    [
        ("/keyed", (), "out.part was written for a different URL"),
        ("/indexed?limit=1", ("--format", "csv"), "out.part was written for a different URL"),
        ("/indexed", ("--format", "csv"), "out.part was written for a different --format"),
        ("/indexed", ("--from", "json", "-H", "X-A: b"), "out.part was written for a different --from and --header"),
        ("/indexed", ("--path", "item.n"), "a download with --path or with a range cannot be continued"),
    ],
)
def test_part_file_of_other_request_is_restarted(
    base: str, tmp_path: Path, path: str, words: tuple[str, ...], why: str
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    interrupted(base + "/indexed", output)
    assert run("get", base + path, "-o", whole, *words).err == ""
    done = run("get", base + path, "-o", output, *words)
    assert (done.code, done.err) == (0, RESTARTED.format(why))
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "whole"]


def test_part_file_is_kept_until_a_good_response(base: str, tmp_path: Path) -> None:
    interrupted(base + "/indexed", tmp_path / "out")
    kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
    done = run("get", base + "/nothing", "-o", tmp_path / "out")
    assert done.code == 4
    assert "404" in done.message
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("state", [b"", b"{", b"[]", b'{"request":"x","position":[1,null,{}],"bytes":99999999}'])
def test_invalid_state_file_restarts_download(base: str, tmp_path: Path, state: bytes) -> None:
    (tmp_path / "out.part").write_bytes(b"left over")
    (tmp_path / "out.part.state").write_bytes(state)
    done = run("get", base + "/plain", "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, RESTARTED.format("out.part.state is missing or does not match out.part"))
    assert len((tmp_path / "out").read_bytes().splitlines()) == 2000


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_range_of_items_can_be_requested(base: str, tmp_path: Path, scheme: str) -> None:
    url = base.replace("http", scheme) + "/indexed"
    whole = run("get", url).lines
    for words in ([url, "-H", "range: items=1995-"], [url + "?range=items=1995-"]):
        assert run("get", *words).lines == whole[1995:]
    done = run("get", url, "-H", "Range: items=3-4", "-o", tmp_path / "out")
    assert (done, (tmp_path / "out").read_bytes().splitlines()) == ((0, b"", ""), whole[3:5])
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_no_state_if_server_cannot_resume(base: str, tmp_path: Path) -> None:
    with started(*CHUNKWISE, "get", base + "/plain", "-o", tmp_path / "out") as reading:
        part = tmp_path / "out.part"
        wait_until(lambda: part.exists() and bool(part.read_bytes()), "nothing was received", reading)
        reading.process.kill()
        reading.end()
    assert [file.name for file in tmp_path.iterdir()] == ["out.part"]
    done = run("get", base + "/plain", "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, RESTARTED.format("out.part.state is missing or does not match out.part"))


@pytest.mark.parametrize(("route", "path"), [("/tagged", "item.tags.item"), ("/indexed", "item.n")])
def test_download_with_path_is_restarted(base: str, tmp_path: Path, route: str, path: str) -> None:
    whole, output, part = tmp_path / "whole", tmp_path / "out", tmp_path / "out.part"
    words = ("get", base + route, "--path", path, "-o")
    assert run(*words, whole).code == 0
    with started(*CHUNKWISE, *words, output) as reading:
        # Long enough to write a state file, which must not happen.
        wait_until(lambda: part.exists() and part.read_bytes().count(b"\n") > 1000, "nothing was received", reading)
        reading.signal(signal.SIGKILL)
        reading.end()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.part", "whole"]
    done = run(*words, output)
    assert (done.code, done.err) == (
        0,
        RESTARTED.format("a download with --path or with a range cannot be continued"),
    )
    assert output.read_bytes() == whole.read_bytes()


def test_old_state_with_path_is_not_continued(base: str, tmp_path: Path) -> None:
    url, words = base + "/tagged", ("--path", "item.tags.item")
    state = tmp_path / "out.part.state"
    part = tmp_path / "out.part"
    request = hashlib.sha256(json.dumps([url, "item.tags.item", "ndjson", None, []], separators=(",", ":")).encode())
    part.write_bytes(b'"0a"\n')
    state.write_text(json.dumps({"request": request.hexdigest(), "position": [1, '"v1"', {}], "bytes": 5}))
    message = RESTARTED.format("a download with --path or with a range cannot be continued")
    assert run("get", url, *words, "-o", tmp_path / "out").err == message
    assert (tmp_path / "out").read_bytes().splitlines()[:3] == [b'"0a"', b'"0b"', b'"1a"']


def test_second_process_cannot_write_same_file(tmp_path: Path) -> None:
    output, part = tmp_path / "out", tmp_path / "out.part"
    slow = chunked("application/x-ndjson", b"1\n"), chunk(b"2\n") + LAST_CHUNK
    with responding_in_two(*slow) as (url, gate), responding(whole("application/x-ndjson", b"3\n4\n5\n")) as other:
        with started(*CHUNKWISE, "get", url, "-o", output) as first:
            wait_for_content(part, b"1\n", first)
            for _ in range(2):  # a rejected process leaves the lock and the file to the first process
                second = run("get", other, "-o", output)
                assert (second.code, second.message) == (10, f"{part}: another chunkwise get is writing to this file")
            gate.open()
            assert first.end() == (0, b"", "")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"1\n2\n"}
        assert run("get", other, "-o", output).code == 0
    assert output.read_bytes() == b"3\n4\n5\n"


def test_locked_file_prevents_the_request(base: str, tmp_path: Path) -> None:
    url, output = base + "/indexed", tmp_path / "out"
    interrupted(url, output)
    asked: list[bytes] = []

    def note(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(whole("application/x-ndjson", b"3\n"))

    with PartialFile(output, {}, resumes=True).locked(), responding(note) as other:
        for address in (url, other):
            second = run("get", address, "-o", output)
            assert (second.code, second.message) == (
                10,
                f"{tmp_path / 'out.part'}: another chunkwise get is writing to this file",
            )
        assert asked == []
    assert run("get", url, "-o", output).code == 0
    assert len(output.read_bytes().splitlines()) == 2000


def test_state_is_read_after_locking(base: str, tmp_path: Path) -> None:
    url, output, part, state = base + "/indexed", tmp_path / "out", tmp_path / "out.part", tmp_path / "out.part.state"
    request: dict[str, object] = {"URL": url, "--path": "", "--format": "ndjson", "--from": None, "--header": []}
    interrupted(url, output)
    late = PartialFile(output, request, resumes=True)
    with started(*CHUNKWISE, "get", url, "-o", output) as reading:
        wait_for_progress(state, state.read_text(), reading)
        with pytest.raises(BlockingIOError, match="another chunkwise get is writing to this file"), late.locked():
            pass
        reading.signal(signal.SIGKILL)
        reading.end()
    kept = part.read_bytes()
    with late.locked():
        assert late.position is not None
        assert late.position.items == json.loads(state.read_text())["position"][0]
    assert part.read_bytes() == kept
    assert run("get", url, "-o", output).code == 0
    last = PartialFile(output, request, resumes=True)
    with last.locked():
        assert last.position is None
        assert last.why_again is None
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert len(output.read_bytes().splitlines()) == 2000


def test_unreachable_server_leaves_no_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    assert run("get", url, "-o", tmp_path / "out").code == 3
    assert list(tmp_path.iterdir()) == []


def test_state_file_contains_no_secret(base: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    interrupted(base + "/indexed", output, "-H", "Authorization: Bearer s3cret")
    assert "s3cret" not in (tmp_path / "out.part.state").read_text()


async def test_no_resume_point_before_first_item() -> None:
    async def lists() -> AsyncIterator[list[int]]:
        yield [1, 2]

    def point(items: int, last_item: int) -> ResumePoint:
        return ResumePoint(items, None, {"n": last_item})

    tracked = Tracked(lists(), 0)
    assert tracked.position(0, point) is None
    async for _ in tracked.lists():
        assert tracked.position(1, lambda *_: None) is None
        assert tracked.position(1, point) == ResumePoint(1, None, {"n": 1})
        assert tracked.position(2, point) == ResumePoint(2, None, {"n": 2})


def test_removed_part_file_is_not_an_error(tmp_path: Path) -> None:
    part = PartialFile(tmp_path / "out", {}, resumes=True)
    with part.locked():
        (tmp_path / part.name).unlink()
    assert list(tmp_path.iterdir()) == []
