"""Draw results of the benchmarks as SVG plots: one for each subject (see `questions`), and one for all questions.

Only this module imports matplotlib, and it does so after all measurements.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import file_name, short
from benchmarks.results import Measured, Results

OURS = "#1b7f5c"
RIVALS = "#9aa3ab"
BOUND = "#c0392b"


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the plots into a folder; return their paths.

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
    """Yield axes that are high enough for ``lines`` lines, then save the plot.

    The file contains no date, so that the same results give the same file.
    """
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.32 * lines), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    try:
        yield axes
        figure.savefig(path, metadata={"Date": None})
    finally:
        plt.close(figure)


def _subject(subject: Measured, folder: Path) -> Path:
    """Draw, for each contender, a bar for the median and a line from the lowest to the highest value."""
    figure, unit = subject.shows or ("seconds", "seconds")
    rows = [row for row in subject.rows if row.figures(figure)]
    path = folder / file_name(subject.title)
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
    """Draw each question's values in relation to its target: the target is at 1, and larger values are better."""
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
        axes.set_xlabel("in relation to the target, which is 1; more is better")
    return path
