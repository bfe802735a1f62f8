"""Results -> SVG plots, one a subject, and one of all questions.

Must not measure, nor know any one contender. matplotlib is imported here alone, and only once all is measured.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import short
from benchmarks.results import Measured, Results

OURS = "#1b7f5c"
RIVALS = "#9aa3ab"
BOUND = "#c0392b"


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the plots, and return where they are.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "chunkwise", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [_subject(subject, folder) for subject in results.subjects if any(row.runs for row in subject.rows)]
    return [*drawn, _questions(results, folder)]


@contextmanager
def _axes(path: Path, lines: int) -> Iterator[Any]:
    """Give axes for as many lines, and save them without a date, so that the same results give the same file."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.32 * lines), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    try:
        yield axes
        figure.savefig(path, metadata={"Date": None})
    finally:
        plt.close(figure)


def _subject(subject: Measured, folder: Path) -> Path:
    """Bars of medians, with lines from the lowest to the highest: the shorter, the better."""
    figure, unit = subject.shows or ("seconds", "seconds")
    rows = [row for row in subject.rows if row.figures(figure)]
    path = folder / f"{re.sub('[^a-z]+', '-', subject.title.lower()).strip('-')}.svg"
    with _axes(path, len(rows)) as axes:
        for place, row in enumerate(reversed(rows)):
            values = row.figures(figure)
            median = statistics.median(values)
            ours = row.name.startswith("chunkwise")
            axes.barh(place, median, height=0.6, color=OURS if ours else RIVALS)
            axes.hlines(place, min(values), max(values), color="#333333", linewidth=1)
            axes.annotate(f" {short(median)}", (max(values), place), va="center")
        axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
        axes.set_xlabel(f"{unit}; less is better")
        axes.set_title(f"{subject.title}: {subject.count:,}", loc="left")
    return path


def _questions(results: Results, folder: Path) -> Path:
    """For each question how far it is reached: 1 is what it asks for, to the right is better."""
    verdicts = [verdict for verdict in results.verdicts() if verdict.values]
    path = folder / "questions.svg"
    with _axes(path, len(verdicts)) as axes:
        for place, verdict in enumerate(reversed(verdicts)):
            bound = verdict.question.bound
            inverse = verdict.question.direction == "at most"
            values = [bound / value if inverse else value / bound for value in verdict.values]
            color = OURS if verdict.reached else BOUND
            axes.hlines(place, min(values), max(values), color=color, linewidth=1)
            axes.plot(statistics.median(values), place, "o", color=color)
        axes.axvline(1, color=BOUND, linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_yticks(range(len(verdicts)), [verdict.question.text for verdict in reversed(verdicts)])
        axes.set_xlabel("how far it is reached: 1 is just what is asked, more is better")
    return path
