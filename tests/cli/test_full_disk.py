"""`chunkwise get` writes to a full disk: exit code 10 and one line, whether or not Python buffers stdout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.raw_server import responding, whole
from tests.needs import needs

FULL = Path("/dev/full")
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
UNBUFFERED = {**BUFFERED, "PYTHONUNBUFFERED": "1"}


@needs("/dev/full", present=FULL.exists())
@pytest.mark.parametrize("environment", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", [(), ("-o", FULL)], ids=["stdout", "output"])
@pytest.mark.parametrize("count", [1, 100_000])
def test_full_disk_exits_10_with_one_line(environment: dict[str, str], words: tuple[str, ...], count: int) -> None:
    with responding(whole("application/x-ndjson", b"1\n" * count)) as url, FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chunkwise", "get", url, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment,
            check=False,
        )
    assert (done.returncode, done.stderr) == (10, b"chunkwise: No space left on device\n")
