"""`chunkwise get -o`, killed and run again: the file is byte for byte that of an unbroken run."""

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
from tests.cli.raw_server import LAST_CHUNK, answering, answering_in_two, chunk, chunked, whole
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
    """Wait until the state file says something else."""
    wait_until(lambda: state.exists() and state.read_text() != before, f"{state} never changed", reading)
    return state.read_text()


def interrupted(url: str, output: Path, *words: str, times: int = 1, number: signal.Signals = signal.SIGKILL) -> None:
    """Run `get`, and end it as often while it reads."""
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
def test_five_kills_leave_no_trace_in_the_file(base: str, tmp_path: Path, name: str, scheme: str, path: str) -> None:
    url = base.replace("http", scheme) + path
    whole, output = tmp_path / "whole", tmp_path / f"out.{name}"
    assert run("get", url, "--format", name, "-o", whole).code == 0
    interrupted(url, output, "--format", name, times=5)
    done = run("get", url, "--format", name, "-o", output)
    assert done.code == 0
    assert "going on after the " in done.err
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([output.name, "whole"])


def test_ctrl_c_is_as_good_as_a_crash(base: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    interrupted(base + "/indexed", output, number=signal.SIGINT)
    assert run("get", base + "/indexed", "-o", output).code == 0
    assert len(output.read_bytes().splitlines()) == 2000


def test_a_download_that_ends_has_recorded_everything_received(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with server("v1") as url:
        failed = run("get", url + "/failing", "-o", output)
        assert failed.code == 4
        lines = (tmp_path / "out.part").read_bytes().splitlines()
        assert [json.loads(line)["n"] for line in lines] == ["0", "1", "2"]
        state = json.loads((tmp_path / "out.part.state").read_text())
        assert (state["position"][0], state["bytes"]) == (3, (tmp_path / "out.part").stat().st_size)
        again = run("get", url + "/failing", "-o", output)
    assert "going on after the 3 items of out.part" in again.err


@needs_linux
def test_a_disk_that_is_full_leaves_no_half_of_a_state(tmp_path: Path) -> None:
    (tmp_path / "out.part.state.new").symlink_to("/dev/full")
    with server("v1") as url:
        assert run("get", url + "/failing", "-o", tmp_path / "out").code == 4
    assert [file.name for file in tmp_path.iterdir()] == ["out.part"]


def test_bytes_written_after_the_state_before_a_crash_are_downloaded_again(base: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    interrupted(base + "/indexed", output)
    with (tmp_path / "out.part").open("ab") as file:
        file.write(b'{"half a')
    assert run("get", base + "/indexed", "-o", output).code == 0
    assert [json.loads(line)["n"] for line in output.read_bytes().splitlines()] == [str(n) for n in range(2000)]


def test_another_version_is_reported_and_never_mixed(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with server("v1") as first, server("v2") as second:
        # One address for both, as a server that was started again would have.
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
    assert f"to begin again, delete {part}" in done.err
    assert part.read_bytes() == kept[: request["bytes"]]
    assert not output.exists()


BEGUN_AGAIN = "chunkwise: beginning again: {}\n"


@pytest.mark.parametrize(
    ("path", "words", "why"),
    [
        ("/keyed", (), "out.part is of another URL"),
        ("/indexed?limit=1", ("--format", "csv"), "out.part is of another URL"),
        ("/indexed", ("--format", "csv"), "out.part is of another --format"),
        ("/indexed", ("--from", "json", "-H", "X-A: b"), "out.part is of another --from and --header"),
        ("/indexed", ("--path", "item.n"), "it cannot go on with items that --path or a Range selects"),
    ],
)
def test_a_part_file_of_another_request_is_restarted_with_a_message(
    base: str, tmp_path: Path, path: str, words: tuple[str, ...], why: str
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    interrupted(base + "/indexed", output)
    assert run("get", base + path, "-o", whole, *words).err == ""
    done = run("get", base + path, "-o", output, *words)
    assert (done.code, done.err) == (0, BEGUN_AGAIN.format(why))
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "whole"]


def test_a_part_file_is_dropped_only_after_another_response_was_received(base: str, tmp_path: Path) -> None:
    interrupted(base + "/indexed", tmp_path / "out")
    kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
    done = run("get", base + "/nothing", "-o", tmp_path / "out")
    assert done.code == 4
    assert "404" in done.told
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("state", [b"", b"{", b"[]", b'{"request":"x","position":[1,null,{}],"bytes":99999999}'])
def test_an_invalid_state_file_restarts_the_download(base: str, tmp_path: Path, state: bytes) -> None:
    (tmp_path / "out.part").write_bytes(b"left over")
    (tmp_path / "out.part.state").write_bytes(state)
    done = run("get", base + "/plain", "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, BEGUN_AGAIN.format("out.part has no state that fits it"))
    assert len((tmp_path / "out").read_bytes().splitlines()) == 2000


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_requested_range_is_sent(base: str, tmp_path: Path, scheme: str) -> None:
    url = base.replace("http", scheme) + "/indexed"
    whole = run("get", url).lines
    for words in ([url, "-H", "range: items=1995-"], [url + "?range=items=1995-"]):
        assert run("get", *words).lines == whole[1995:]
    done = run("get", url, "-H", "Range: items=3-4", "-o", tmp_path / "out")
    assert (done, (tmp_path / "out").read_bytes().splitlines()) == ((0, b"", ""), whole[3:5])
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_server_that_cannot_resume_leaves_no_state(base: str, tmp_path: Path) -> None:
    with started(*CHUNKWISE, "get", base + "/plain", "-o", tmp_path / "out") as reading:
        part = tmp_path / "out.part"
        wait_until(lambda: part.exists() and bool(part.read_bytes()), "nothing came", reading)
        reading.process.kill()
        reading.end()
    assert [file.name for file in tmp_path.iterdir()] == ["out.part"]
    done = run("get", base + "/plain", "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, BEGUN_AGAIN.format("out.part has no state that fits it"))


@pytest.mark.parametrize(("route", "path"), [("/tagged", "item.tags.item"), ("/indexed", "item.n")])
def test_a_download_with_a_path_is_restarted_because_its_items_are_no_records(
    base: str, tmp_path: Path, route: str, path: str
) -> None:
    whole, output, part = tmp_path / "whole", tmp_path / "out", tmp_path / "out.part"
    words = ("get", base + route, "--path", path, "-o")
    assert run(*words, whole).code == 0
    with started(*CHUNKWISE, *words, output) as reading:
        # Long enough for a state to be written, if there were one.
        wait_until(lambda: part.exists() and part.read_bytes().count(b"\n") > 1000, "nothing came", reading)
        reading.signal(signal.SIGKILL)
        reading.end()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.part", "whole"]
    done = run(*words, output)
    assert (done.code, done.err) == (0, BEGUN_AGAIN.format("it cannot go on with items that --path or a Range selects"))
    assert output.read_bytes() == whole.read_bytes()


def test_a_state_of_selected_items_that_an_older_version_has_left_is_not_gone_on_with(
    base: str, tmp_path: Path
) -> None:
    url, words = base + "/tagged", ("--path", "item.tags.item")
    state = tmp_path / "out.part.state"
    part = tmp_path / "out.part"
    request = hashlib.sha256(json.dumps([url, "item.tags.item", "ndjson", None, []], separators=(",", ":")).encode())
    part.write_bytes(b'"0a"\n')
    state.write_text(json.dumps({"request": request.hexdigest(), "position": [1, '"v1"', {}], "bytes": 5}))
    told = BEGUN_AGAIN.format("it cannot go on with items that --path or a Range selects")
    assert run("get", url, *words, "-o", tmp_path / "out").err == told
    assert (tmp_path / "out").read_bytes().splitlines()[:3] == [b'"0a"', b'"0b"', b'"1a"']


def test_two_that_write_one_file_make_no_mixture_for_the_second_is_refused(tmp_path: Path) -> None:
    output, part = tmp_path / "out", tmp_path / "out.part"
    slow = chunked("application/x-ndjson", b"1\n"), chunk(b"2\n") + LAST_CHUNK
    with answering_in_two(*slow) as (url, gate), answering(whole("application/x-ndjson", b"3\n4\n5\n")) as other:
        with started(*CHUNKWISE, "get", url, "-o", output) as first:
            wait_for_content(part, b"1\n", first)
            for _ in range(2):  # whoever is refused leaves the lock, and the file, to the first
                second = run("get", other, "-o", output)
                assert (second.code, second.told) == (10, f"{part}: another chunkwise get writes this file")
            gate.open()
            assert first.end() == (0, b"", "")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"1\n2\n"}
        assert run("get", other, "-o", output).code == 0
    assert output.read_bytes() == b"3\n4\n5\n"


def test_refused_words_send_no_request_and_print_one_error(base: str, tmp_path: Path) -> None:
    url, output = base + "/indexed", tmp_path / "out"
    interrupted(url, output)
    asked: list[bytes] = []

    def note(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(whole("application/x-ndjson", b"3\n"))

    with PartialFile(output, {}, resumes=True).locked(), answering(note) as other:
        for address in (url, other):
            second = run("get", address, "-o", output)
            assert (second.code, second.told) == (
                10,
                f"{tmp_path / 'out.part'}: another chunkwise get writes this file",
            )
        assert asked == []
    assert run("get", url, "-o", output).code == 0
    assert len(output.read_bytes().splitlines()) == 2000


def test_the_state_that_counts_is_that_under_the_lock(base: str, tmp_path: Path) -> None:
    url, output, part, state = base + "/indexed", tmp_path / "out", tmp_path / "out.part", tmp_path / "out.part.state"
    request: dict[str, object] = {"URL": url, "--path": "", "--format": "ndjson", "--from": None, "--header": []}
    interrupted(url, output)
    late = PartialFile(output, request, resumes=True)
    with started(*CHUNKWISE, "get", url, "-o", output) as reading:
        wait_for_progress(state, state.read_text(), reading)
        with pytest.raises(BlockingIOError, match="another chunkwise get writes this file"), late.locked():
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


def test_a_server_that_is_not_there_leaves_no_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    assert run("get", url, "-o", tmp_path / "out").code == 3
    assert list(tmp_path.iterdir()) == []


def test_the_state_holds_no_secret(base: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    interrupted(base + "/indexed", output, "-H", "Authorization: Bearer s3cret")
    assert "s3cret" not in (tmp_path / "out.part.state").read_text()


async def test_there_is_no_resume_point_before_the_first_byte() -> None:
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


def test_a_part_file_removed_meanwhile_is_not_missed(tmp_path: Path) -> None:
    part = PartialFile(tmp_path / "out", {}, resumes=True)
    with part.locked():
        (tmp_path / part.name).unlink()
    assert list(tmp_path.iterdir()) == []
