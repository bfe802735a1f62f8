"""`make fuzz`: each target is given bytes of all kinds for a while; the first that breaks a promise is a finding.

    python -m fuzzing                            # every target, a minute each, one on each core
    python -m fuzzing --seconds 600 json sse     # these, for ten minutes each
    python -m fuzzing --replay json FILE...      # a target, with these bytes

atheris (libFuzzer) makes up the bytes, led by which lines of the Python code they reach. It begins with
`fuzzing/corpus/TARGET`, which is never written to; what it finds on its way is kept in `.venv/fuzz/TARGET`, and what
broke something in `.venv/fuzz/TARGET-crash-*`.

Exit status: 0 nothing was found, 1 something was, 2 atheris is not here.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzzing.targets import COMPARED, CORPUS, ROOT, TARGETS

_FOUND = ROOT / ".venv" / "fuzz"
_MOST_BYTES = 2048  # of one input: longer ones find the same, slowly
_MOST_MEGABYTES = 2048


def main() -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long for each target (default: %(default)s)")
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="only these bytes, with one target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}, only {', '.join(TARGETS)}")
    targets = asked.targets or list(TARGETS)
    if asked.replay:
        for name in targets:
            for file in asked.replay:
                TARGETS[name](file.read_bytes())
        print(f"{len(asked.replay)} inputs broke nothing in {', '.join(targets)}")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("fuzzing needs atheris: make fuzz installs it where it has a wheel for this Python", file=sys.stderr)
        return 2
    print(f"{COMPARED}; {asked.seconds} s for each of {len(targets)} targets", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as cores:  # a thread only waits for a process
        passed = sum(cores.map(lambda name: _fuzz(name, asked.seconds), targets))
    print(f"{passed} passed, {len(targets) - passed} failed")
    return 0 if passed == len(targets) else 1


def _fuzz(name: str, seconds: int) -> bool:
    """Run libFuzzer in a process of its own; say whether nothing was found."""
    kept = _FOUND / name
    kept.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "fuzzing.engine", name, kept, CORPUS / name),
            *(f"-max_total_time={seconds}", f"-max_len={_MOST_BYTES}", f"-rss_limit_mb={_MOST_MEGABYTES}"),
            *("-timeout=20", "-print_final_stats=1", f"-artifact_prefix={_FOUND}/{name}-"),
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    ran = re.search(r"number_of_executed_units: (\d+)", told)
    # libFuzzer exits with 0 behind an exception at the very end: what it kept is the proof.
    whole = done.returncode == 0 and ran is not None and "Uncaught Python exception" not in told
    lines = [f"{name:>9}: {ran[1] if ran else 'no'} inputs, {'nothing found' if whole else 'FAILED'}"]
    if not whole:  # without the line that libFuzzer prints for each input that was new
        lines += [line for line in told.splitlines() if not line.startswith("#")][-40:]
    print("\n".join(lines), flush=True)
    return whole


if __name__ == "__main__":
    sys.exit(main())
