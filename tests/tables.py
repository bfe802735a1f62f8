"""A table of cases -> one test that checks every row and reports each row that fails."""

import asyncio
import itertools
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import pytest

ROWS_AT_ONCE = 8


def cross(*columns: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return all combinations of the values of several columns by name: ``{"json-gzip": (JSON, "gzip")}``."""
    return {
        "-".join(name for name, _ in row): tuple(value for _, value in row)
        for row in itertools.product(*(column.items() for column in columns))
    }


def named(values: Iterable[Any]) -> dict[str, Any]:
    """Return a table of values, each with its name, or with its `repr` if it has no name."""
    rows = list(values)
    table = {str(getattr(value, "__name__", value if isinstance(value, str) else repr(value))): value for value in rows}
    assert table, "the table has no rows, expected at least one"
    assert len(table) == len(rows), "two rows have the same name, expected unique names"
    return table


def check_rows(rows: Mapping[str, Any], check: Callable[..., object]) -> None:
    """Call a function with the values of each row, and report all rows that fail. A tuple is a row of arguments."""
    failures: dict[str, BaseException] = {}
    for name, row in rows.items():
        try:
            check(*_arguments(row))
        except (Exception, pytest.fail.Exception) as error:
            failures[name] = error
    _report(failures, len(rows))


async def check_rows_async(
    rows: Mapping[str, Any], check: Callable[..., Awaitable[object]], *, at_once: int = ROWS_AT_ONCE
) -> None:
    """Await a coroutine function with the values of each row, a few at a time, and report all rows that fail."""
    failures: dict[str, BaseException] = {}
    places = asyncio.Semaphore(at_once)

    async def run(name: str, row: Any) -> None:
        async with places:
            try:
                await check(*_arguments(row))
            except (Exception, pytest.fail.Exception) as error:
                failures[name] = error

    async with asyncio.TaskGroup() as group:
        for name, row in rows.items():
            group.create_task(run(name, row))
    _report({name: failures[name] for name in rows if name in failures}, len(rows))


def _arguments(row: Any) -> tuple[Any, ...]:
    return row if type(row) is tuple else (row,)


def _report(failures: Mapping[str, BaseException], count: int) -> None:
    assert count, "the table has no rows, expected at least one"
    if failures:
        told = "\n".join(f"--- {name}\n{_shown(error)}" for name, error in failures.items())
        raise AssertionError(f"{len(failures)} of {count} rows fail:\n{told}")


def _shown(error: BaseException) -> str:
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/" in frame.filename]
    where = [f"  {frame.filename}:{frame.lineno}: {frame.line}" for frame in places[-2:]]
    return "\n".join([*where, f"  {type(error).__name__}: {error}"])
