"""tests/each_row.py: a decorated test -> one test that runs every row and reports each row that fails."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.each_row import each_row, rows_at_once


def test_columns_are_combined_with_fixtures() -> None:
    seen = []

    @each_row("letter", ["a", "b"])
    @each_row(("number", "sign"), [(1, "+"), (2, "-")])
    def check(fixture: str, letter: str, number: int, sign: str) -> None:
        seen.append((fixture, letter, number, sign))

    check(fixture="it")
    assert sorted(seen) == [("it", "a", 1, "+"), ("it", "a", 2, "-"), ("it", "b", 1, "+"), ("it", "b", 2, "-")]
    assert list(inspect.signature(check).parameters) == ["fixture"]


@pytest.mark.parametrize("fails", [lambda: pytest.fail("no"), lambda: int("x")], ids=["pytest.fail", "an error"])
async def test_every_failing_row_is_reported(fails: Callable[[], Any]) -> None:
    def check(number: int, sign: str) -> None:
        if number > 1:
            fails()

    async def check_later(number: int, sign: str) -> None:
        await asyncio.sleep(0)
        check(number, sign)

    columns = each_row("number", [1, 2, 3]), each_row("sign", ["+", "-"])
    with pytest.raises(AssertionError, match=r"(?s)4 of 6 rows fail.*--- \+ - 2.*--- - - 3"):
        columns[1](columns[0](check))()
    with pytest.raises(AssertionError, match=r"(?s)4 of 6 rows fail.*--- \+ - 2.*--- - - 3"):
        await columns[1](columns[0](check_later))()


async def test_rows_run_concurrently_up_to_limit() -> None:
    running, most = 0, []

    async def check(number: int) -> None:
        nonlocal running
        running += 1
        await asyncio.sleep(0.001)
        most.append(running)
        running -= 1

    await each_row("number", range(20))(check)()
    assert 1 < max(most) <= 8
    most.clear()
    await rows_at_once(2)(each_row("number", range(20))(check))()
    assert max(most) == 2


@each_row("name", ["a", "b"])
async def test_each_row_has_its_own_fixtures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not any(tmp_path.iterdir())
    assert not hasattr(asyncio, "marked")
    assert not caplog.records
    (tmp_path / "file").touch()
    monkeypatch.setattr(asyncio, "marked", name, raising=False)
    logging.getLogger("each_row").error("written")
    await asyncio.sleep(0)


def test_rows_of_the_same_name_are_numbered() -> None:
    def check(text: str) -> None:
        raise ValueError(text)

    with pytest.raises(AssertionError, match=r"(?s)2 of 2 rows fail.*--- x#0.*--- x#1"):
        each_row("text", ["x", "x"])(check)()


def test_column_without_parameter_is_refused() -> None:
    with pytest.raises(AssertionError, match="no parameters"):
        each_row("other", [1])(lambda number: number)
