"""Results -> tables for a terminal, or in Markdown.

Must not measure, nor know any one contender.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.memory import MOST_GROWTH_MIB
from benchmarks.questions import UNFAIR, Question
from benchmarks.results import Measured, Results, Row, Verdict

Cells = Sequence[str]


def table(head: Cells, lines: Sequence[Cells], *, markdown: bool) -> str:
    """Lay out a table; its first column is text, the others are figures."""
    widths = [max(len(cells[column]) for cells in (head, *lines)) for column in range(len(head))]

    def line(cells: Cells) -> str:
        first = cells[0].ljust(widths[0])
        laid = [first, *[cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]]
        return f"| {' | '.join(laid)} |" if markdown else "  ".join(laid)

    rule = f"|{'|'.join(['-' * (widths[0] + 2), *['-' * (width + 1) + ':' for width in widths[1:]]])}|"
    if not markdown:
        rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(head), rule, *[line(cells) for cells in lines]])


def text(results: Results, *, markdown: bool) -> str:
    """All of the results in words: the machine, each subject, and what each question comes to.

    Args:
        results: what was measured.
        markdown: for a page, with what is unfair about it; otherwise for a terminal.
    """
    parts = [_preface(results)]
    for subject in results.subjects:
        parts += [
            f"{'### ' if markdown else ''}{subject.title}: {subject.count:,}",
            _contenders(subject, markdown=markdown),
        ]
    head = ("question", "to reach", "median", "lowest", "highest", "verdict")
    lines = [_verdict(verdict) for verdict in results.verdicts()]
    if results.memory_growth_mib is not None or results.memory_failed:
        lines.append(_memory(results))
    parts += [f"{'### ' if markdown else ''}The questions", table(head, lines, markdown=markdown)]
    left_out = [f"{row.name}: {row.skipped}" for subject in results.subjects for row in subject.rows if row.skipped]
    if lacking := [*results.failures(), *left_out]:
        parts.append("\n".join(["Not measured:\n", *[f"- {line}" for line in lacking]]))
    if markdown:
        parts += ["### What is unfair", *[f"{name.capitalize()}:\n\n{points}" for name, points in UNFAIR.items()]]
    return "\n\n".join(parts)


def _preface(results: Results) -> str:
    installed = [f"{name} {version}" for name, version in results.versions.items() if version != "not installed"]
    pinned = "pinned to a core each" if results.pinned else "not pinned (this system cannot)"
    extent = "a quick run, whose verdicts count for little" if results.quick else "a full run"
    return (
        f"{', '.join(installed)}.\n"
        f"{results.hardware['kernel']}, {results.hardware['cores']} x {results.hardware['processor']}; "
        f"server and client {pinned}. Load average before it began: {results.hardware['load']}; above 0.5 or so, other "
        "work has made the figures worse and wider.\n"
        f"{extent.capitalize()} of {results.seconds:.0f} s; rounds: {results.rounds}, each in fresh processes, the "
        "contenders in turn; medians, and lowest to highest.\n"
        "Server MiB: how much more the server took at its peak than when it was ready; client MiB: the client's peak."
    )


def _contenders(subject: Measured, *, markdown: bool) -> str:
    shown = subject.shows
    head = ["", "seconds", "lowest", "highest", "MB/s", "items/s", "server MiB", "client MiB"]
    if shown:
        head[1:6] = [shown[1], "lowest", "highest"]
    return table(head, [_contender(row, shown, len(head)) for row in subject.rows], markdown=markdown)


def _contender(row: Row, shown: Sequence[str] | None, width: int) -> Cells:
    if not row.runs:
        return (row.name, "failed" if row.failed else "skipped", *[""] * (width - 2))
    figures = row.figures(shown[0] if shown else "seconds")
    median = statistics.median(figures)
    cells = [
        row.name + " (failed later)" * bool(row.failed),
        short(median),
        short(min(figures)),
        short(max(figures)),
    ]
    if not shown:
        megabytes = _median(row, "bytes")
        cells += [f"{megabytes / median / 1e6:,.0f}" if megabytes else "", f"{_median(row, 'items') / median:,.0f}"]
    growth, client = _median(row, "growth_mib"), _median(row, "client_peak_mib")
    return [*cells, f"+{growth:.1f}" if growth else "", f"{client:.0f}"]


def _median(row: Row, name: str) -> float:
    figures = row.figures(name)
    return statistics.median(figures) if figures else 0.0


def short(value: float) -> str:
    """A figure in three digits."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _bound(question: Question) -> str:
    sign = ">=" if question.direction == "at least" else "<="
    return f"{sign} {question.bound:g}{question.unit}"


def _verdict(verdict: Verdict) -> Cells:
    question, values = verdict.question, verdict.values
    if not values:
        return (question.text, _bound(question), "", "", "", verdict.word)
    figures = [f"{short(value)}{question.unit}" for value in (statistics.median(values), min(values), max(values))]
    return (question.text, _bound(question), *figures, verdict.word)


def _memory(results: Results) -> Cells:
    asked = "memory, both sides of a large stream, against 10 MB"
    if results.memory_growth_mib is None:
        return (asked, f"< {MOST_GROWTH_MIB} MiB", "", "", "", "not measured")
    word = "reached" if results.memory_growth_mib < MOST_GROWTH_MIB else "NOT REACHED"
    return (asked, f"< {MOST_GROWTH_MIB} MiB", f"+{results.memory_growth_mib:.1f} MiB", "", "", word)
