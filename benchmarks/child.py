"""One process of a contender: its server or its client, pinned to a core.

`processes` starts this module and reads the figures that it prints, each time as one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from benchmarks.contender import Contender, Task, cpu_seconds, forget_peak, peak_mib
from benchmarks.questions import CONTENDERS


def run_client(contender: Contender, job: dict[str, Any]) -> None:
    """Run the client's warm-up, then its measured task; print the figures."""
    port = job["port"]
    if warm := job["warm_count"]:
        contender.client(Task(count=warm, port=port, check=True))
    forget_peak()
    before = cpu_seconds()
    result = contender.client(Task(count=job["count"], port=port, check=job["check"]))
    print(json.dumps({**result, "peak_mib": peak_mib(), "cpu_seconds": cpu_seconds() - before}), flush=True)


def main() -> None:
    """Run the server or the client of a contender; the first argument of the program says which, as JSON."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    if job["core"] is not None:
        os.sched_setaffinity(0, {job["core"]})
    signal.alarm(job["limit_seconds"])  # after this time, SIGALRM ends the process, even if it hangs
    contender = CONTENDERS[job["name"]]
    if job["role"] == "client":
        run_client(contender, job)
    else:
        assert contender.server is not None
        contender.server(job["count"])


if __name__ == "__main__":
    main()
