"""The download of the page about resuming continues after its server was killed and started again."""

import signal
import sys
from pathlib import Path

from tests.cli.running import CHUNKWISE, started, wait_until
from tests.pages import ROOT, blocks
from tests.transports.proxying import free_port

PAGE = ROOT / "docs" / "how-to" / "resuming.md"


def test_download_continues_when_the_server_is_started_again(tmp_path: Path) -> None:
    port, server = free_port(), tmp_path / "server.py"
    server.write_text(blocks(PAGE)[0].code.replace("8081", str(port)).replace("sleep(0.1)", "sleep(0.005)"))
    output, part = tmp_path / "slow.ndjson", tmp_path / "slow.ndjson.part"
    command = [*CHUNKWISE, "get", f"http://127.0.0.1:{port}/slow", "-o", output]
    with started(sys.executable, server, cwd=tmp_path) as serving:
        assert serving.stdout.readline().startswith(b"=")  # it is listening
        with started(*command, cwd=tmp_path) as getting:
            wait_until(lambda: part.exists() and part.stat().st_size > 0, "no item arrived", serving, getting)
            serving.signal(signal.SIGKILL)
            with started(sys.executable, server, cwd=tmp_path):
                done = getting.end()
    assert done.code == 0, done.err
    assert "connecting again" in done.message
    assert len(output.read_text().splitlines()) == 600
