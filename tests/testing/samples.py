"""Items for the conformance cases of the built-in formats."""

from typing import Any

from chunkwise.formats import FORMATS
from chunkwise.testing import ConformanceCase, format_cases

VALUES: list[Any] = [{"n": 1, "t": "é\n\u2028"}, [1, 2.5, None], "x\r\n", 12, -0.0, True, {"a": {"b": [{}]}}]
ROWS = [{"a": "1", "b": 'x "q", y\nz'}, {"a": "", "b": "é"}, {"a": "3", "b": "4"}]
LINES = ["one\n", "zwei é\n", "\n", "x\n"]


def cases_of(name: str) -> list[ConformanceCase]:
    if name == "text":
        return format_cases(FORMATS[name], LINES, decoded=[line[:-1] for line in LINES])
    return format_cases(FORMATS[name], ROWS if name == "csv" else VALUES)
