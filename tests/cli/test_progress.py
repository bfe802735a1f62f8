"""Progress is shown on stderr if stderr is a terminal, and nowhere else."""

import os
import pty
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.raw_server import LAST_CHUNK, chunk, chunked, head, responding, responding_in_two, whole
from tests.cli.running import CHUNKWISE, folder_of, run, started

TERMINAL = {"TERM": "xterm-256color", "COLUMNS": "200", "LINES": "50"}
NDJSON = "application/x-ndjson"


class Screen:
    """A terminal whose output is read as text without control sequences."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self._came = b""
        self.is_open = True

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._came.decode(errors="ignore"))

    def leave(self) -> None:
        """Close this side of the terminal, so that only the process has it open."""
        if self.is_open:
            os.close(self.theirs)
            self.is_open = False

    def read_until(self, *patterns: str) -> None:
        """Read until the output matches all patterns. The timeout of the test stops it if it hangs."""
        while not all(re.search(pattern, self.text) for pattern in patterns):
            assert self.read_more(), self.text

    def read_all(self) -> str:
        while self.read_more():
            pass
        return self.text

    def read_more(self) -> bool:
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self._came += data
        return bool(data)

    def close(self) -> None:
        self.leave()
        os.close(self._ours)


@contextmanager
def screen() -> Iterator[Screen]:
    opened = Screen()
    try:
        yield opened
    finally:
        opened.close()


def test_progress_is_on_stderr_and_data_on_stdout() -> None:
    response = head(f"Content-Type: {NDJSON}", "Content-Length: 4000") + b"1" * 999 + b"\n", (b"2" * 999 + b"\n") * 3
    with (
        screen() as terminal,
        responding_in_two(*response) as (url, gate),
        started(*CHUNKWISE, "get", url, stderr=terminal.theirs, env=os.environ | TERMINAL) as getting,
    ):
        terminal.leave()
        terminal.read_until(r"\b25%", r"1\.0/4\.0 kB", r"\b1 items", re.escape(url))
        assert getting.is_running()
        gate.open()
        shown = terminal.read_all()
        done = getting.end()
    assert re.search(r"100% 4\.0/4\.0 kB .* 4 items", shown)
    assert (done.code, done.out) == (0, response[0].partition(b"\r\n\r\n")[2] + response[1])


def test_no_percentage_without_content_length() -> None:
    response = chunked(NDJSON, b"1\n2\n"), LAST_CHUNK
    with (
        screen() as terminal,
        responding_in_two(*response) as (url, gate),
        started(*CHUNKWISE, "get", url, stderr=terminal.theirs, env=os.environ | TERMINAL) as getting,
    ):
        terminal.leave()
        terminal.read_until(r"\b2 items", r"\b4\b.* bytes")
        gate.open()
        assert "%" not in terminal.read_all()
        assert getting.end().out == b"1\n2\n"


def test_error_is_on_a_line_after_the_progress() -> None:
    with (
        screen() as terminal,
        responding(chunked(NDJSON, b"1\n")) as url,
        started(*CHUNKWISE, "get", url, stderr=terminal.theirs, env=os.environ | TERMINAL) as getting,
    ):
        terminal.leave()
        shown = terminal.read_all()
        done = getting.end()
    assert (done.code, done.out) == (5, b"1\n")
    assert re.search(r"\r\nchunkwise: the stream was cut: [^\r\n]*\r\n$", shown)


def test_no_progress_if_data_is_on_the_terminal() -> None:
    with (
        screen() as terminal,
        responding(whole(NDJSON, b"1\n2\n")) as url,
        started(
            *CHUNKWISE, "get", url, stdout=terminal.theirs, stderr=terminal.theirs, env=os.environ | TERMINAL
        ) as getting,
    ):
        terminal.leave()
        assert terminal.read_all() == "1\r\n2\r\n"
        assert getting.end().code == 0


def test_progress_is_shown_if_output_is_a_file(tmp_path: Path) -> None:
    with (
        screen() as terminal,
        responding(whole(NDJSON, b"1\n2\n")) as url,
        started(
            *CHUNKWISE,
            "get",
            url,
            "-o",
            tmp_path / "out",
            stdout=terminal.theirs,
            stderr=terminal.theirs,
            env=os.environ | TERMINAL,
        ) as getting,
    ):
        terminal.leave()
        assert re.search(r"100% .* 2 items", terminal.read_all())
        assert getting.end().code == 0


def test_upload_shows_share_of_file_sent(tmp_path: Path) -> None:
    file = folder_of(tmp_path, {"rows.ndjson": b"1" * 1999 + b"\n"}) / "rows.ndjson"
    with (
        screen() as terminal,
        responding(whole("text/plain", b"thanks\n")) as url,
        started(*CHUNKWISE, "send", file, url, stderr=terminal.theirs, env=os.environ | TERMINAL) as sending,
    ):
        terminal.leave()
        assert re.search(r"rows\.ndjson to .*100% 2\.0/2\.0 kB", terminal.read_all())
        assert sending.end() == (0, b"thanks\n", "")


def test_no_progress_on_pipe_with_forced_colors() -> None:
    forced = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    response = chunked(NDJSON, b"1\n") + chunk(b"2\n") + LAST_CHUNK
    with responding(response) as url:
        assert run("get", url, env=os.environ | TERMINAL | forced) == (0, b"1\n2\n", "")
