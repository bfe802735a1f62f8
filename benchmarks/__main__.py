"""Measure chunkwise against other libraries, and print a verdict on each question (`make bench`).

    python -m benchmarks             # everything in five rounds; about 20 minutes
    python -m benchmarks --quick     # one round of small tasks in under two minutes, to see that everything works
    python -m benchmarks --from benchmarks/results/full.json --markdown --plots docs/benchmarks

Each measurement runs in fresh processes, with server and client on a core each. A warm-up in the same processes runs
first, and compares the data received with the expected data. A full run also compares all data of each contender once,
before the first round. The contenders take turns, and each round starts with another contender. Ratios compare two runs
of the same round. The docstrings of `contenders_*.py` say what is unfair.

Exit status: 0 all targets are reached (quick run: everything was measured), 1 a target was missed, 2 something could
not be measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from benchmarks import memory, postgres
from benchmarks.contender import Contender
from benchmarks.machine import hardware, versions
from benchmarks.plots import draw
from benchmarks.processes import ROOT, Cores, Failed, measure, two_cores
from benchmarks.questions import SUBJECTS, Subject
from benchmarks.report import text
from benchmarks.results import Measured, Results, Row

FOLDER = ROOT / "benchmarks" / "results"
ROUNDS = 5


def say(words: str) -> None:
    """Print progress to standard error."""
    print(words, file=sys.stderr, flush=True)


def run_subject(subject: Subject, results: Results, cores: Cores) -> None:
    """Measure the contenders of a subject in turn, in all rounds; append the figures to the results."""
    count = subject.quick_count if results.quick else subject.count
    measured = Measured(title=subject.title, count=count, shows=subject.shows)
    results.subjects.append(measured)
    racing: list[tuple[Contender, Row]] = []
    for contender in subject.contenders:
        row = Row(name=contender.name)
        measured.rows.append(row)
        if contender.lacks_program():
            row.skipped = f"{contender.program} is not on the PATH"
        elif missing := contender.missing():
            row.failed = f"not installed: {', '.join(missing)}"
        else:
            racing.append((contender, row))
    if not results.quick:
        say(f"{subject.title}: checking the content")
        for contender, row in racing:
            attempt(contender, row, count, subject, cores, check=True)
    for number in range(results.rounds):
        say(f"{subject.title}: round {number + 1} of {results.rounds}")
        first = number % (len(racing) or 1)
        for contender, row in racing[first:] + racing[:first]:
            attempt(contender, row, count, subject, cores, check=False)


def attempt(contender: Contender, row: Row, count: int, subject: Subject, cores: Cores, *, check: bool) -> None:
    """Measure a contender once, unless it failed before; add the figures or the error to its row of the results."""
    if row.failed:
        return
    warm_count = 0 if check else int(count * subject.warm_part)
    try:
        result = measure(contender, count, warm_count=warm_count, check=check, cores=cores)
    except Failed as error:
        row.failed = str(error)
        say(f"  {contender.name}: {error}")
    else:
        if not check:
            row.runs.append(result)


def run_memory(results: Results) -> None:
    """Measure the memory of large streams; print the table to standard error."""
    small, large = (5, 25) if results.quick else (10, 1000)
    say("memory of large streams")
    try:
        results.memory_growth_mib = memory.compare(small, large, seconds=600, say=say)
    except subprocess.SubprocessError as error:
        results.memory_failed = str(error)


def run(options: argparse.Namespace, path: Path) -> Results:
    """Measure the subjects that the options select; save the results after each one."""
    cores = two_cores()
    results = Results(
        quick=options.quick,
        rounds=options.rounds or (1 if options.quick else ROUNDS),
        versions=versions(),
        hardware=hardware(),
        pinned=cores.server is not None,
    )
    started = time.monotonic()
    for subject in SUBJECTS:
        if options.only in subject.title:
            with postgres.running() if subject.of_postgres else nullcontext():
                run_subject(subject, results, cores)
            results.seconds = time.monotonic() - started
            results.save(path)
    if options.only in "memory of large streams":
        run_memory(results)
        results.seconds = time.monotonic() - started
        results.save(path)
    return results


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of small tasks")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"number of rounds ({ROUNDS}; 1 with --quick)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only subjects with this text in their title")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="show these results, measure nothing")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--plots", type=Path, default=FOLDER, metavar="FOLDER", help="folder for the SVG plots")
    options = parser.parse_args()
    if options.source:
        results = Results.load(options.source)
    else:
        path = FOLDER / ("quick.json" if options.quick else "full.json")
        try:
            results = run(options, path)
        except KeyboardInterrupt:
            say(f"interrupted; the finished subjects are in {path.relative_to(ROOT)}")
            return 130
        say(f"saved in {path.relative_to(ROOT)}")
    print(text(results, markdown=options.markdown))
    try:
        drawn = draw(results, options.plots)
    except ImportError:
        say("no plots: matplotlib is not installed (make bench installs it)")
    else:
        say(f"{len(drawn)} plots in {options.plots}")
    return status(results)


def status(results: Results) -> int:
    """Return the exit status: 2 after a failure, 1 if a full run missed a target, otherwise 0."""
    if results.failures():
        return 2
    grown = results.memory_growth_mib is not None and results.memory_growth_mib >= memory.MOST_GROWTH_MIB
    missed = grown or any(verdict.reached is False for verdict in results.verdicts())
    return 1 if missed and not results.quick else 0


if __name__ == "__main__":
    sys.exit(main())
