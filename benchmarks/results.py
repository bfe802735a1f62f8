"""Store the figures of all rounds of the benchmarks in a JSON file, and compute the verdict on each question.

All results are plain data, so that a saved file can be loaded again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contender import Figures
from benchmarks.questions import QUESTIONS, Question


@dataclass(slots=True, kw_only=True)
class Row:
    """The figures of one contender in each round, or the reason why they are missing (``failed``, ``skipped``)."""

    name: str
    runs: list[Figures] = field(default_factory=list)
    failed: str = ""
    skipped: str = ""

    def figures(self, name: str) -> list[float]:
        """Return the values of the figure ``name``, one for each round that measured it."""
        return [run[name] for run in self.runs if name in run]


@dataclass(slots=True, kw_only=True)
class Measured:
    """The results of one subject: a row for each of its contenders."""

    title: str
    count: int
    shows: Sequence[str] | None = None
    rows: list[Row] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Results:
    """The results of all subjects, and the machine on which they were measured."""

    quick: bool
    rounds: int
    versions: dict[str, str]
    hardware: dict[str, str]
    pinned: bool
    subjects: list[Measured] = field(default_factory=list)
    memory_growth_mib: float | None = None
    """The largest growth that `memory.compare` returned; None if it was not measured."""
    memory_failed: str = ""
    seconds: float = 0.0

    def row(self, name: str) -> Row | None:
        """Return the row of a contender; None if its subject was not measured."""
        return next((row for subject in self.subjects for row in subject.rows if row.name == name), None)

    def failures(self) -> list[str]:
        """Return a line for each contender that could not be measured."""
        rows = [f"{row.name}: {row.failed}" for subject in self.subjects for row in subject.rows if row.failed]
        return rows + [f"memory: {self.memory_failed}"] * bool(self.memory_failed)

    def save(self, path: Path) -> None:
        """Write the results to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        verdicts = [{**asdict(verdict.question), **verdict.as_data()} for verdict in self.verdicts()]
        path.write_text(json.dumps({**asdict(self), "questions": verdicts}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a file that `save` has written.

        The verdicts in the file are ignored, because `verdicts` computes them again from the figures.
        """
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        del data["questions"]
        subjects = [
            Measured(**{**subject, "rows": [Row(**row) for row in subject["rows"]]}) for subject in data.pop("subjects")
        ]
        return cls(**data, subjects=subjects)

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on each question of the measured subjects, in the order of `QUESTIONS`."""
        return [Verdict(question, self._values(question)) for question in QUESTIONS if self.row(question.ours)]

    def _values(self, question: Question) -> list[float]:
        ours = self.row(question.ours)
        rival = self.row(question.rival) if question.rival else None
        if ours is None or (question.rival and rival is None):
            return []
        figures = ours.figures(question.figure)
        if rival is None:
            return figures
        pairs = zip(figures, rival.figures(question.figure), strict=False)
        if question.direction == "at least":
            return [other / own for own, other in pairs]
        return [own / other for own, other in pairs]


@dataclass(slots=True)
class Verdict:
    """Whether a question's target is reached. ``values`` has a figure, or a ratio of two figures, for each round."""

    question: Question
    values: list[float]

    @property
    def median(self) -> float | None:
        """The median of all rounds, which is compared with the target; None if nothing was measured."""
        return statistics.median(self.values) if self.values else None

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the target; None if nothing was measured."""
        if self.median is None:
            return None
        if self.question.direction == "at least":
            return self.median >= self.question.bound
        return self.median <= self.question.bound

    @property
    def word(self) -> str:
        """The verdict as the table shows it: "reached", "NOT REACHED" or "not measured"."""
        return {True: "reached", False: "NOT REACHED", None: "not measured"}[self.reached]

    def as_data(self) -> dict[str, Any]:
        """Return the verdict as data for the JSON file."""
        return {"values": self.values, "median": self.median, "verdict": self.word}
