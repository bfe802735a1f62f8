"""`chunkwise demo`: it prints its address and commands to try, and exits on a signal."""

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
def test_signal_stops_demo_and_cuts_its_streams(number: signal.Signals) -> None:
    with running_demo() as demo, started("curl", "-sN", demo.url("/chunked?interval=60")) as reading:
        assert reading.stdout.readline().decode() == LINES[0]
        demo.running.signal(number)
        assert reading.end().code == 18  # curl's exit code for a partial file
        done = demo.running.end()
    assert (done.code, done.err) == (0, "")


@needs_curl
def test_printed_commands_work_unchanged() -> None:
    with running_demo() as demo:
        lines: list[str] = []
        while not lines or "--client" not in lines[-1]:
            lines.append(demo.running.stdout.readline().decode().strip())
        tried = [line.replace("items=1000000", "items=1000") for line in lines if line]
        assert len(tried) > 8
        for line in tried:
            # Unchanged, except for a shorter interval between items.
            fast = re.sub(rf"{re.escape(demo.base)}/([a-z-]+)(?! \|)$", rf"'{demo.base}/\1?interval=0.01'", line)
            fast = re.sub(r"(ws://\S+)", r"\1?interval=0.01", fast) + " --interval 0.01" * ("--client" in line)
            done = run_any("sh", "-c", fast, env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
            assert done.out, line
            assert done.code == (18 if "/fail" in line else 0), (line, done.err)


def test_port_in_use_is_reported() -> None:
    with running_demo() as demo:
        port = demo.base.rpartition(":")[2]
        done = run_any(*CHUNKWISE, "demo", "--port", port)
    assert done.code == 3
    assert (
        done.message
        == f"port {port} of 127.0.0.1 is in use: choose another one with --port, or any free one with --port 0"
    )


def test_failure_on_purpose_has_no_traceback() -> None:
    with running_demo() as demo:
        run("get", demo.url("/fail?interval=0"))
        demo.running.signal(signal.SIGTERM)
        err = demo.running.end().err
    assert "the producer fails on purpose after 2 items" in err
    assert "Traceback" not in err


def test_hint_names_the_command_that_was_typed(unused_tcp_port: int) -> None:
    script = Path(sys.executable).parent / "chunkwise"
    for path, name in ((f"{script.parent}:{os.environ['PATH']}", "chunkwise"), ("/nowhere", str(script))):
        done = run_any(script, "demo", "--client", "--port", unused_tcp_port, env={**os.environ, "PATH": path})
        assert done.message.endswith(f"start the demo first: {name} demo --port {unused_tcp_port}")


def test_clients_run_without_websockets_package() -> None:
    with running_demo() as demo:
        words = ("demo", "--client", "--port", demo.base.rpartition(":")[2], "--interval", "0")
        done = run_any(sys.executable, "-c", WITHOUT.format("websockets"), *words)
    assert (done.code, done.err) == (0, "")


def test_clients_without_a_server_say_how_to_start_it(unused_tcp_port: int) -> None:
    done = run("demo", "--client", "--port", unused_tcp_port)
    assert done.code == 3
    assert done.message.startswith(f"cannot connect to 127.0.0.1:{unused_tcp_port}: Connection refused")
    assert done.message.endswith(f"start the demo first: python -m chunkwise demo --port {unused_tcp_port}")


def test_interval_without_client_is_rejected() -> None:
    done = run("demo", "--interval", "1")
    assert done.code == 2
    assert "--client" in done.message
