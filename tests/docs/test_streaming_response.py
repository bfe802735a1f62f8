"""The Starlette application of the page about StreamingResponse runs, and fails as the page says."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import needs_curl
from tests.pages import GUARD_SECONDS, ROOT

PAGE = ROOT / "docs" / "how-to" / "streaming-response.md"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a uvicorn that serves the page's application."""
    found = re.search(r"^```py\n# (\w+)\.py\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    (tmp_path / f"{found[1]}.py").write_text(found[2])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        command = [sys.executable, "-m", "uvicorn", f"{found[1]}:app", "--http", "h11", "--log-level", "critical"]
        command += ["--fd", str(listening.fileno())]
        server = subprocess.Popen(command, cwd=tmp_path, pass_fds=[listening.fileno()], stderr=subprocess.DEVNULL)
        try:
            yield listening.getsockname()[1]
        finally:
            server.terminate()
            server.wait(GUARD_SECONDS)


def fetch(port: int, *arguments: str) -> tuple[int, str]:
    """Return curl's exit code, and what it printed."""
    command = ["curl", "-sN", "--noproxy", "*", "-m", str(GUARD_SECONDS), *arguments]
    command[-1] = f"http://127.0.0.1:{port}{command[-1]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@needs_curl
def test_starlette_application_fails_as_the_page_says(port: int) -> None:
    assert fetch(port, "/numbers") == (0, '{"n": 0}\n{"n": 1}\n{"n": 2}\n')
    assert fetch(port, "/fails") == (18, '{"n": 0}\n')
    assert fetch(port, "--http1.0", "/fails") == (0, '{"n": 0}\n')
