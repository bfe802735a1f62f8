"""Values as drivers of databases give them -> values that JSON holds.

Must not know any one driver: what it asks of a value stands in several.
"""

from __future__ import annotations

from typing import Any

import msgspec

_KNOWN_BY_TEXT = {"ipaddress", "asyncpg", "psycopg", "sqlalchemy"}
"""Packages whose values are as good as their texts: addresses, say."""


class PlainValues:
    """Converts what JSON cannot hold, column by column: the first value of a column tells of the others.

    Looking at each value would cost as much as encoding it. So a column is looked at until it has shown a value that
    tells its type; a later one that JSON cannot hold fails the stream.
    """

    def __init__(self) -> None:
        self._unknown: list[str] | None = None
        self._odd: list[str] = []

    def convert(self, batch: list[dict[str, Any]]) -> None:
        """Convert a batch of rows, all with the same columns, in place."""
        if self._unknown is None:
            self._unknown = list(batch[0])
        for name in list(self._unknown):
            value = next((row[name] for row in batch if _tells(row[name])), None)
            if value is not None:
                self._unknown.remove(name)
                if not _is_plain(value):
                    self._odd.append(name)
        for name in self._odd:
            for row in batch:
                row[name] = _plain(row[name])


def _tells(value: Any) -> bool:
    return value is not None and not (isinstance(value, list) and all(not _tells(element) for element in value))


def _is_plain(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except TypeError:
        return False
    except (ValueError, OverflowError, RecursionError):  # for the encoder to tell, with the place
        return True
    return True


def _plain(value: Any) -> Any:
    if _is_plain(value):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    if hasattr(value, "items"):  # a composite
        return {name: _plain(element) for name, element in value.items()}
    if hasattr(value, "as_string"):  # bits
        return value.as_string()
    if hasattr(value, "points"):  # a path or a polygon
        return [_plain(point) for point in value.points]
    if hasattr(value, "lower_inc"):
        return _range_text(value)
    # What is nobody's value of a database (an object of a model, say) is left for the encoder to refuse.
    return str(value) if type(value).__module__.partition(".")[0] in _KNOWN_BY_TEXT else value


def _range_text(value: Any) -> str:
    """Return a range as PostgreSQL writes it: ``[1,5)``."""
    if value.isempty:
        return "empty"
    lower, upper = (_bound_text(bound) for bound in (value.lower, value.upper))
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"


def _bound_text(bound: Any) -> str:
    if bound is None:
        return ""
    return str(bound.isoformat() if hasattr(bound, "isoformat") else bound)
