"""Show results of the benchmarks as tables for a terminal, or as the Markdown of docs/explanation/benchmarks.md."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from benchmarks.memory import MOST_GROWTH_MIB
from benchmarks.questions import UNFAIR, Question
from benchmarks.results import Measured, Results, Row, Verdict

Cells = Sequence[str]

PLOTS = "../benchmarks"
"""The folder of the plots, relative to the folder of the page."""


def file_name(title: str) -> str:
    """Return the file name of a subject's plot. ``title`` is the title of the subject."""
    return f"{re.sub('[^a-z]+', '-', title.lower()).strip('-')}.svg"


def table(head: Cells, lines: Sequence[Cells], *, markdown: bool) -> str:
    """Return a table as text; its first column is aligned to the left, the others to the right."""
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
    """Return the machine, the tables of all subjects, and the verdict on each question.

    Args:
        results: the results.
        markdown: whether to return the Markdown page, which also has plots and lists what is unfair in each comparison;
            otherwise the text is for a terminal.
    """
    if markdown:
        parts = [
            *("## The run", _preface(results)),
            *("## The questions", f"![Each question and its target]({PLOTS}/questions.svg)"),
            *(_questions(results, markdown=True), *_not_measured(results)),
            *("## The tables", COLUMNS),
        ]
        for subject in results.subjects:
            plot = f"![{subject.title}]({PLOTS}/{file_name(subject.title)})"
            parts += [_title(subject, "### "), plot, _contenders(subject, markdown=True)]
        parts += ["## What is unfair", *[f"### {name.capitalize()}\n\n{points}" for name, points in UNFAIR.items()]]
    else:
        parts = [_preface(results), COLUMNS]
        for subject in results.subjects:
            parts += [_title(subject), _contenders(subject, markdown=False)]
        parts += ["The questions", _questions(results, markdown=False), *_not_measured(results)]
    return "\n\n".join(parts)


COLUMNS = (
    "The figures are medians, with the lowest and the highest value. Server MiB is the growth of the server's memory "
    "from when it is ready to its peak. Client MiB is the client's peak memory."
)


def _title(subject: Measured, before: str = "") -> str:
    return f"{before}{subject.title}: {subject.count:,}"


def _questions(results: Results, *, markdown: bool) -> str:
    head = ("question", "target", "median", "lowest", "highest", "verdict")
    lines = [_verdict(verdict) for verdict in results.verdicts()]
    if results.memory_growth_mib is not None or results.memory_failed:
        lines.append(_memory(results))
    return table(head, lines, markdown=markdown)


def _not_measured(results: Results) -> list[str]:
    skipped = [f"{row.name}: {row.skipped}" for subject in results.subjects for row in subject.rows if row.skipped]
    lacking = [*results.failures(), *skipped]
    return ["\n".join(["Not measured:\n", *[f"- {line}" for line in lacking]])] if lacking else []


def _preface(results: Results) -> str:
    installed = [f"{name} {version}" for name, version in results.versions.items() if version != "not installed"]
    pinned = "pinned to a core each" if results.pinned else "not pinned, because this system does not support it"
    extent, doubt = ("A quick run", ", whose verdicts mean little") if results.quick else ("A full run", "")
    machine = results.hardware
    return (
        f"- {extent} of {results.seconds:.0f} s{doubt}. Rounds: {results.rounds}, each in fresh processes, with the "
        "contenders in turn.\n"
        f"- {machine['kernel']}, {machine['cores']} x {machine['processor']}. Server and client were {pinned}.\n"
        f"- Load average before the run: {machine['load']}. Above about 0.5, other work makes the figures worse and "
        "spreads them.\n"
        f"- Versions: {', '.join(installed)}."
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
    """Return a figure with three significant digits; from 100 on, as a whole number."""
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
