"""`chunkwise demo`: it says where it is, with lines to try, and ends on a signal."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.running import CHUNKWISE, run, run_any, started
from tests.cli.test_app import WITHOUT
from tests.demo.tutorial import LINES, running_demo
from tests.needs import needs_curl


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well_and_its_streams_loudly(number: signal.Signals) -> None:
    with running_demo() as demo, started("curl", "-sN", demo.url("/chunked?interval=60")) as reading:
        assert reading.stdout.readline().decode() == LINES[0]
        demo.running.signal(number)
        assert reading.end().code == 18  # "partial file"
        done = demo.running.end()
    assert (done.code, done.err) == (0, "")


@needs_curl
def test_the_lines_that_it_prints_work_as_they_stand() -> None:
    with running_demo() as demo:
        lines: list[str] = []
        while not lines or "--client" not in lines[-1]:
            lines.append(demo.running.stdout.readline().decode().strip())
        tried = [line.replace("items=1000000", "items=1000") for line in lines if line]
        assert len(tried) > 8
        for line in tried:
            # As they stand, but at a pace that a test can wait for.
            fast = re.sub(rf"{re.escape(demo.base)}/([a-z-]+)(?! \|)$", rf"'{demo.base}/\1?interval=0.01'", line)
            fast = re.sub(r"(ws://\S+)", r"\1?interval=0.01", fast) + " --interval 0.01" * ("--client" in line)
            done = run_any("sh", "-c", fast, env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
            assert done.out, line
            assert done.code == (18 if "/fail" in line else 0), (line, done.err)


def test_a_taken_port_is_said() -> None:
    with running_demo() as demo:
        port = demo.base.rpartition(":")[2]
        done = run_any(*CHUNKWISE, "demo", "--port", port)
    assert done.code == 3
    assert done.told == f"port {port} of 127.0.0.1 is taken: choose another with --port, 0 for any"


def test_a_failure_on_purpose_is_a_line_and_no_traceback() -> None:
    with running_demo() as demo:
        run("get", demo.url("/fail?interval=0"))
        demo.running.signal(signal.SIGTERM)
        err = demo.running.end().err
    assert "the producer fails on purpose after 2 items" in err
    assert "Traceback" not in err


def test_the_hint_names_the_command_that_was_used(unused_tcp_port: int) -> None:
    script = Path(sys.executable).parent / "chunkwise"
    for path, name in ((f"{script.parent}:{os.environ['PATH']}", "chunkwise"), ("/nowhere", str(script))):
        done = run_any(script, "demo", "--client", "--port", unused_tcp_port, env={**os.environ, "PATH": path})
        assert done.told.endswith(f"start it with: {name} demo --port {unused_tcp_port}")


def test_the_client_ends_when_it_has_read_all_also_where_its_extra_is_missing() -> None:
    with running_demo() as demo:
        words = ("demo", "--client", "--port", demo.base.rpartition(":")[2], "--interval", "0")
        done = run_any(sys.executable, "-c", WITHOUT.format("websockets"), *words)
    assert (done.code, done.err) == (0, "")


def test_without_a_demo_it_says_that_no_server_is_running(unused_tcp_port: int) -> None:
    done = run("demo", "--client", "--port", unused_tcp_port)
    assert done.code == 3
    assert done.told.startswith(f"cannot connect to 127.0.0.1:{unused_tcp_port}: Connection refused")
    assert done.told.endswith(f"start it with: python -m chunkwise demo --port {unused_tcp_port}")


def test_the_server_has_no_interval_of_its_own() -> None:
    done = run("demo", "--interval", "1")
    assert done.code == 2
    assert "--client" in done.told
