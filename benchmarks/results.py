"""Rounds of measurements -> what is kept of them, and what each question comes to.

Must not measure, nor print. All is plain data, so that it goes into a JSON file and comes back the same.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contender import Told
from benchmarks.questions import QUESTIONS, Question


@dataclass(slots=True, kw_only=True)
class Row:
    """One contender: what its processes told, a dict a round, or why there is nothing."""

    name: str
    runs: list[Told] = field(default_factory=list)
    failed: str = ""
    skipped: str = ""

    def figures(self, name: str) -> list[float]:
        """One figure of all rounds."""
        return [run[name] for run in self.runs if name in run]


@dataclass(slots=True, kw_only=True)
class Measured:
    """One subject, with its contenders."""

    title: str
    count: int
    shows: Sequence[str] | None = None
    rows: list[Row] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Results:
    """All that a run has found."""

    quick: bool
    rounds: int
    versions: dict[str, str]
    hardware: dict[str, str]
    pinned: bool
    subjects: list[Measured] = field(default_factory=list)
    memory_growth_mib: float | None = None
    """Of the memory claim; None if it was not measured."""
    memory_failed: str = ""
    seconds: float = 0.0

    def row(self, name: str) -> Row | None:
        """The row of a contender, if its subject was measured."""
        return next((row for subject in self.subjects for row in subject.rows if row.name == name), None)

    def failures(self) -> list[str]:
        """What could not be measured."""
        rows = [f"{row.name}: {row.failed}" for subject in self.subjects for row in subject.rows if row.failed]
        return rows + [f"memory: {self.memory_failed}"] * bool(self.memory_failed)

    def save(self, path: Path) -> None:
        """Write it all to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        verdicts = [{**asdict(verdict.question), **verdict.as_data()} for verdict in self.verdicts()]
        path.write_text(json.dumps({**asdict(self), "questions": verdicts}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` has written; what it says of the questions is found anew."""
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        del data["questions"]
        subjects = [
            Measured(**{**subject, "rows": [Row(**row) for row in subject["rows"]]}) for subject in data.pop("subjects")
        ]
        return cls(**data, subjects=subjects)

    def verdicts(self) -> list[Verdict]:
        """What each question comes to, in the order of the table; those of subjects that were left out are missing."""
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
    """What a question comes to: the values of all rounds, each a ratio of two runs of that round, or a figure."""

    question: Question
    values: list[float]

    @property
    def median(self) -> float | None:
        """The one that is judged."""
        return statistics.median(self.values) if self.values else None

    @property
    def reached(self) -> bool | None:
        """Whether the median is within the bound; None if it was not measured."""
        if self.median is None:
            return None
        if self.question.direction == "at least":
            return self.median >= self.question.bound
        return self.median <= self.question.bound

    @property
    def word(self) -> str:
        """The verdict."""
        return {True: "reached", False: "NOT REACHED", None: "not measured"}[self.reached]

    def as_data(self) -> dict[str, Any]:
        """For the file."""
        return {"values": self.values, "median": self.median, "verdict": self.word}
