"""sources/sql_values.py: what JSON cannot hold is converted, and what is wrong is left for the encoder to tell."""

import ipaddress
from typing import Any

import pytest

from chunkwise.sources.sql_values import PlainValues


def converted(*values: Any) -> list[Any]:
    """What becomes of the values of one column."""
    batch = [{"n": value} for value in values]
    PlainValues().convert(batch)
    return [row["n"] for row in batch]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return [1, value]


def test_what_is_known_by_its_text_is_its_text() -> None:
    address = ipaddress.ip_address("10.0.0.1")
    assert converted(None, [], [None], address, None) == [None, [], [None], "10.0.0.1", None]


@pytest.mark.parametrize("value", ["\ud800", nested(100_000)], ids=["a lone surrogate", "far too deep"])
def test_what_is_wrong_and_no_other_type_is_left_as_it_is(value: Any) -> None:
    [left] = converted(value)
    assert left is value


def test_a_column_is_judged_by_the_first_value_that_tells_also_of_a_later_batch() -> None:
    values = PlainValues()
    first: list[dict[str, Any]] = [{"n": None}]
    second: list[dict[str, Any]] = [{"n": ipaddress.ip_address("::1")}]
    values.convert(first)
    values.convert(second)
    assert (first, second) == ([{"n": None}], [{"n": "::1"}])
