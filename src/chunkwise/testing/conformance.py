"""Test cases that check one promise each. The error of a failed case says which promise is broken, and how."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ConformanceCase:
    """A test case that checks one promise. If a test has cases as parameters, pytest shows the name of each case.

    Attributes:
        name: the promise, in words joined by hyphens.
        check: a function that raises `AssertionError` if the promise is broken. It may be asynchronous.
    """

    name: str
    check: Callable[[], Awaitable[None] | None]

    @property
    def __name__(self) -> str:
        return self.name

    async def run(self) -> None:
        """Run the check of the promise, and await it if it is asynchronous.

        Raises:
            AssertionError: the promise is broken. The message says how, and a note names the promise.
        """
        try:
            checking = self.check()
            if checking is not None:
                await checking
        except AssertionError as error:
            error.add_note(f"broken promise: {self.name}")
            raise


def cases_of(checks: object, left_out: Collection[object], prefix: str = "") -> list[ConformanceCase]:
    """Return one case for each public method of ``checks``, an object whose public methods each check one promise.

    Methods in ``left_out`` get no case. The name of a case is ``prefix`` and then the name of its method, in which
    hyphens replace the underscores.
    """
    promises = [name for name, check in vars(type(checks)).items() if name[0] != "_" and check not in left_out]
    return [ConformanceCase(prefix + name.replace("_", "-"), getattr(checks, name)) for name in promises]


def shown(value: object, most: int = 200) -> str:
    """Return a value as text for a message. If the text is long, only its start and its end are returned."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and have the same types. Unlike with ``==``, 1, 1.0 and True differ."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return same([*one], [*other]) and same([*one.values()], [*other.values()])
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)
