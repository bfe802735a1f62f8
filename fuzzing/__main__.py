"""`make fuzz`: runs the fuzz targets with the inputs of their corpus, or searches for new inputs.

    python -m fuzzing                            # every target with its corpus; each run uses the same inputs
    python -m fuzzing --seconds 600 json sse     # search ten minutes for each of these, one on each core
    python -m fuzzing json --replay FILE...      # one target with these inputs

With `--seconds`, atheris (libFuzzer) generates the inputs and prefers those that reach new lines of the Python code. It
begins with `fuzzing/corpus/TARGET` and never writes to it. New inputs are stored in `.venv/fuzz/TARGET`, and failing
ones in `.venv/fuzz/TARGET-crash-*`.

Exit status: 0 no target failed, 1 a target failed, 2 atheris is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzzing.targets import COMPARED, CORPUS, ROOT, TARGETS

_FOUND = ROOT / ".venv" / "fuzz"
_MAX_INPUT_BYTES = 2048
"""The largest input that libFuzzer generates. Longer inputs find the same failures, but more slowly."""
_MAX_MEGABYTES = 2048


def main() -> int:
    """Run the named targets; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, help="search for new inputs for this many seconds per target")
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="use these inputs instead of the corpus")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)} (default: all)")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"unknown target {', '.join(sorted(unknown))}, expected one of {', '.join(TARGETS)}")
    targets = asked.targets or list(TARGETS)
    if asked.replay or asked.seconds is None:
        passed = sum(_replay(name, asked.replay or sorted((CORPUS / name).iterdir())) for name in targets)
        return 0 if passed == len(targets) else 1
    if importlib.util.find_spec("atheris") is None:
        print("--seconds needs atheris; `make fuzz SECONDS=60` installs it if it supports this Python", file=sys.stderr)
        return 2
    print(f"{COMPARED}; {asked.seconds} s for each of {len(targets)} targets", flush=True)
    # Each target runs in a process of its own. Threads can start them, because a thread only waits for its process.
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        passed = sum(cores.map(lambda name: _fuzz(name, asked.seconds), targets))
    print(f"{passed} passed, {len(targets) - passed} failed")
    return 0 if passed == len(targets) else 1


def _replay(name: str, files: Sequence[Path]) -> bool:
    """Run a target with each of these inputs and print the failures; return whether all inputs passed."""
    failed = 0
    for file in files:
        try:
            TARGETS[name](file.read_bytes())
        except Exception:  # noqa: BLE001 - any exception of a target is a failure to report
            failed += 1
            print(f"{name:>9}: {file} FAILED\n{traceback.format_exc()}")
    print(f"{name:>9}: {len(files)} inputs, {f'{failed} FAILED' if failed else 'none failed'}", flush=True)
    return not failed


def _fuzz(name: str, seconds: int) -> bool:
    """Fuzz a target in a new process; return True if no failure was found."""
    kept = _FOUND / name
    kept.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "fuzzing.engine", name, kept, CORPUS / name),
            *(f"-max_total_time={seconds}", f"-max_len={_MAX_INPUT_BYTES}", f"-rss_limit_mb={_MAX_MEGABYTES}"),
            *("-timeout=20", "-print_final_stats=1", f"-artifact_prefix={_FOUND}/{name}-"),
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    output = (done.stdout + done.stderr).decode("utf-8", "replace")
    ran = re.search(r"number_of_executed_units: (\d+)", output)
    # The exit status of libFuzzer does not suffice: it is 0 if the exception is raised by the last input of the run. So
    # the output is searched for an exception too.
    passed = done.returncode == 0 and ran is not None and "Uncaught Python exception" not in output
    lines = [f"{name:>9}: {ran[1] if ran else 'no'} inputs, {'nothing found' if passed else 'FAILED'}"]
    if not passed:
        # libFuzzer prints a line that begins with "#" for each new input. These lines say nothing about the failure.
        lines += [line for line in output.splitlines() if not line.startswith("#")][-40:]
    print("\n".join(lines), flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())
