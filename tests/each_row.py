"""A test and a table of arguments -> one test that runs every row of the table and reports each row that fails.

Use `@each_row("name", NAMES)` like `pytest.mark.parametrize`. Several decorators make a table of all combinations. The
rows of an async test run a few at a time. If the test uses a fixture that rows cannot share (`ONE_AT_A_TIME`), they run
one after the other, and each row gets a fresh fixture.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from tests.tables import ROWS_AT_ONCE, check_rows, check_rows_async

ONE_AT_A_TIME = {"caplog", "capfd", "capsys", "monkeypatch", "tmp_path"}

Row = dict[str, Any]
Test = Callable[..., Any]


def each_row(
    names: str | Sequence[str],
    values: Iterable[Any],
    *,
    ids: Iterable[Any] | Callable[[Any], str] | None = None,
) -> Callable[[Test], Test]:
    """Run a test with each of these values, in all combinations with the values of other columns.

    Args:
        names: the parameter of the test, or several parameters.
        values: the values of the parameter; tuples of values for several parameters.
        ids: the names of the rows in reports. By default they are made from the values.
    """
    column = _column([names] if isinstance(names, str) else list(names), list(values), ids)

    def decorate(test: Test) -> Test:
        table = getattr(test, "table", None)
        if table is None:
            table = _Table(test)
        return table.with_column(column)

    return decorate


def rows_at_once(count: int) -> Callable[[Test], Test]:
    """Limit how many rows of a test run concurrently; use 1 if rows share a browser or inspect the process."""

    def decorate(test: Test) -> Test:
        table = test.table  # type: ignore[attr-defined] # the decorator `each_row` has set it
        table.at_once = count
        return test

    return decorate


def _column(names: list[str], values: list[Any], ids: Iterable[Any] | Callable[[Any], str] | None) -> dict[str, Row]:
    if ids is None or callable(ids):
        labels = [(ids or _label)(value) for value in values]
    else:
        labels = [str(label) for label in ids]
    rows = [value if len(names) > 1 else (value,) for value in values]
    numbered = [label if labels.count(label) == 1 else f"{label}#{at}" for at, label in enumerate(labels)]
    return {label: dict(zip(names, row, strict=True)) for label, row in zip(numbered, rows, strict=True)}


def _label(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_label, value))
    label = value if isinstance(value, str) else getattr(value, "__name__", None)
    return label if isinstance(label, str) and label else repr(value)[:80]


class _Table:
    """The rows of one test. The function `wrapper` runs them."""

    def __init__(self, test: Test) -> None:
        self._test = test
        self._rows: dict[str, Row] = {"": {}}
        self.at_once = ROWS_AT_ONCE
        self.wrapper = self._async_wrapper() if inspect.iscoroutinefunction(test) else self._sync_wrapper()
        self.wrapper.table = self  # type: ignore[attr-defined]

    def with_column(self, column: dict[str, Row]) -> Test:
        self._rows = {
            " - ".join(filter(None, (name, label))): before | row
            for name, row in column.items()
            for label, before in self._rows.items()
        }
        given = next(iter(self._rows.values()), {})
        signature = inspect.signature(self._test)
        assert given.keys() <= signature.parameters.keys(), f"{self._test.__name__} has no parameters {list(given)}"
        fixtures = [each for name, each in signature.parameters.items() if name not in given]
        self.wrapper.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
        return self.wrapper

    def _async_wrapper(self) -> Test:
        @wraps(self._test)
        async def wrapper(**fixtures: Any) -> None:
            async def check(row: Row) -> None:
                with _own(fixtures) as own:
                    await self._test(**own, **row)

            at_once = 1 if fixtures.keys() & ONE_AT_A_TIME else self.at_once
            await check_rows_async(self._rows, check, at_once=at_once)

        return wrapper

    def _sync_wrapper(self) -> Test:
        @wraps(self._test)
        def wrapper(**fixtures: Any) -> None:
            def check(row: Row) -> None:
                with _own(fixtures) as own:
                    self._test(**own, **row)

            check_rows(self._rows, check)

        return wrapper


@contextmanager
def _own(fixtures: Row) -> Iterator[Row]:
    """Provide the fixtures for one row; those in `ONE_AT_A_TIME` are reset."""
    own = dict(fixtures)
    if "caplog" in own:
        own["caplog"].clear()
    for name in own.keys() & {"capfd", "capsys"}:
        own[name].readouterr()
    if "tmp_path" in own:
        own["tmp_path"] = _new_folder(own["tmp_path"])
    try:
        if "monkeypatch" in own:
            with own["monkeypatch"].context() as own["monkeypatch"]:
                yield own
        else:
            yield own
    except pytest.fail.Exception as failure:  # of `pytest.raises`; it is no Exception and would end all rows
        raise AssertionError(failure.msg) from failure


def _new_folder(parent: Path) -> Path:
    folder = parent / f"row{sum(1 for _ in parent.iterdir())}"
    folder.mkdir()
    return folder
