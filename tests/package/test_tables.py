"""tests/tables.py: a table is one test, and every row that fails is reported."""

import asyncio

import pytest

from tests.tables import check_rows, check_rows_async, cross, named


def is_small(value: int, most: int) -> None:
    assert value < most, f"{value} is not below {most}"


def test_only_failing_rows_are_reported() -> None:
    with pytest.raises(AssertionError) as caught:
        check_rows({"one": (1, 2), "two": (2, 2), "three": (3, 2)}, is_small)
    told = str(caught.value)
    assert told.startswith("2 of 3 rows fail:\n--- two\n")
    assert "3 is not below 2" in told
    assert "--- one" not in told


async def test_failing_async_rows_are_reported_in_order() -> None:
    async def later(value: int, most: int) -> None:
        await asyncio.sleep(0.001 * most)
        is_small(value, most)

    await check_rows_async({"one": (1, 2)}, later)
    with pytest.raises(AssertionError, match=r"(?s)2 of 3 rows fail.*--- b.*--- c"):
        await check_rows_async({"a": (1, 2), "b": (9, 9), "c": (3, 2)}, later)


def test_table_without_any_rows_is_an_error() -> None:
    with pytest.raises(AssertionError):
        check_rows({}, is_small)
    with pytest.raises(AssertionError):
        named([])


def test_row_without_expected_error_is_reported() -> None:
    def check(text: str) -> None:
        with pytest.raises(ValueError, match="invalid literal"):
            int(text)

    with pytest.raises(AssertionError, match=r"(?s)2 of 3 rows fail.*--- b.*--- c"):
        check_rows({"a": "x", "b": "1", "c": "2"}, check)


def test_two_rows_with_one_name_are_an_error() -> None:
    with pytest.raises(AssertionError, match="two rows have the same name"):
        named(["a", "b", "a"])


def test_columns_are_combined_under_their_names() -> None:
    assert cross({"a": 1, "b": 2}, named(["x"])) == {"a-x": (1, "x"), "b-x": (2, "x")}
