"""Batches of rows with the values of a database driver -> the same rows with values that JSON can represent."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

Rows = list[dict[str, Any]]

_KNOWN_BY_TEXT = {"ipaddress", "asyncpg", "psycopg", "sqlalchemy"}
"""Packages whose values, such as network addresses, are sent as ``str(value)``."""


async def plain_batches(batches: AsyncGenerator[Rows, None]) -> AsyncGenerator[Rows, None]:
    """Yield the batches with every value converted to one that JSON can represent."""
    values = PlainValues()
    async with aclosing(batches):
        async for batch in batches:
            values.convert(batch)
            yield batch


class PlainValues:
    """Converts values column by column; the first value of a column decides whether the column is converted.

    Checking every value would take as long as encoding it. So only the first value of each column is checked. NULL,
    empty lists and lists of NULLs do not count as the first value, because they do not show the type of the column. If
    JSON can represent the first value but not a later one, the stream fails.
    """

    def __init__(self) -> None:
        self._unknown: list[str] | None = None
        self._odd: list[str] = []

    def convert(self, batch: Rows) -> None:
        """Convert the values of a batch of rows in place. All rows have the same columns."""
        if self._unknown is None:
            self._unknown = list(batch[0])
        for name in list(self._unknown):
            value = next((row[name] for row in batch if _shows_type(row[name])), None)
            if value is not None:
                self._unknown.remove(name)
                if not _is_plain(value):
                    self._odd.append(name)
        for name in self._odd:
            for row in batch:
                row[name] = _plain(row[name])


def _shows_type(value: Any) -> bool:
    return value is not None and not (isinstance(value, list) and not any(map(_shows_type, value)))


def _is_plain(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except TypeError:
        return False
    except (ValueError, OverflowError, RecursionError):
        # JSON can represent the type but not this value, for example a text with a lone surrogate. The value is not
        # converted, so the encoder raises an error for it.
        return True
    return True


def _plain(value: Any) -> Any:
    if _is_plain(value):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    # A value of a composite type of PostgreSQL has the method items(), and is converted to a dict.
    if hasattr(value, "items"):
        return {name: _plain(element) for name, element in value.items()}
    # A bit string of asyncpg has the method as_string(), and is converted to text.
    if hasattr(value, "as_string"):
        return value.as_string()
    # A path or polygon of asyncpg has the attribute `points`, and is converted to a list of points.
    if hasattr(value, "points"):
        return [_plain(point) for point in value.points]
    if hasattr(value, "lower_inc"):
        return _range_text(value)
    # Objects of known packages, such as network addresses, are converted to text. Any other object, such as an instance
    # of an ORM class, stays as it is, so that the encoder raises an error for it.
    return str(value) if type(value).__module__.partition(".")[0] in _KNOWN_BY_TEXT else value


def _range_text(value: Any) -> str:
    """Return the text of a range in the syntax of PostgreSQL, such as ``[1,5)``."""
    if value.isempty:
        return "empty"
    lower, upper = (
        "" if bound is None else bound.isoformat() if hasattr(bound, "isoformat") else bound
        for bound in (value.lower, value.upper)
    )
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"
