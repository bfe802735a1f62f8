"""A request's query -> the items to make: their number, pace, size and text, and when to fail."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable

from aiohttp import web

NAMES = ("Tom", "Adam", "Sam", "Eve", "Kim")
MAX_ITEMS = 100_000_000
MAX_SECONDS = 60.0
MAX_SIZE_BYTES = 1_000_000


class Pace:
    """Yields the numbers 0, 1, 2, ... for ``async for``, with a pause between two; the first one is yielded at once.

    Args:
        request: its query replaces the defaults: ``?items=10&interval=0.1&size=100&fail=3``. With ``parts=0``, there is
            no pause between the parts of an item. With ``names=1``, lines of text contain users, such as ``1 Tom``.
        items: the number of items.
        seconds: the pause between two items.
        fail: the number of items after which to fail; None for never.

    Attributes:
        padding: a text of ``size`` bytes, to make items larger.
        part_seconds: the pause between two parts of an item.
    """

    def __init__(self, request: web.BaseRequest, items: int, seconds: float, fail: int | None = None) -> None:
        self.items: int = int(_number(request, "items", items, MAX_ITEMS, int))
        self.seconds: float = _number(request, "interval", seconds, MAX_SECONDS, float)
        self.padding: str = "x" * int(_number(request, "size", 0, MAX_SIZE_BYTES, int))
        self._has_parts: bool = _number(request, "parts", 1, 1, int) == 1
        self.part_seconds: float = self.seconds if self._has_parts else 0.0
        self._has_names: bool = _number(request, "names", 0, 1, int) == 1
        self._fail = _number(request, "fail", math.inf if fail is None else fail, MAX_ITEMS, int)
        self._beats = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(self.items):
            await self.beat()
            yield number

    async def beat(self) -> None:
        """Wait until the next item is due; the first one is due at once. Fail if ``fail`` items were made before."""
        if self._beats and self.seconds:
            await asyncio.sleep(self.seconds)
        if self._beats >= self._fail:
            # This is an HTTP exception because chunkwise sends its text to the client. It never sends the text of any
            # other exception, which may be secret.
            raise web.HTTPServiceUnavailable(text=f"the producer fails on purpose after {self._beats} items")
        self._beats += 1

    async def part(self) -> None:
        """Wait until the next part of an item is due, as `beat` does for an item. With ``parts=0``, do not wait."""
        if self._has_parts:
            await self.beat()

    def line(self, number: int, word: str) -> str:
        """Return an item as a line of text: ``Chunk 0``, or ``1 Tom`` with ``names=1``."""
        text = f"{number + 1} {name_of(number)}" if self._has_names else f"{word} {number}"
        return f"{text}{self.padding}\n"


def name_of(number: int) -> str:
    """Return the name of the user with this number."""
    return NAMES[number % len(NAMES)]


def _number(request: web.BaseRequest, name: str, default: float, most: float, parse: Callable[[str], float]) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    number = parse(text) if re.fullmatch(r"[0-9]{1,12}" if parse is int else r"[0-9]{1,12}(\.[0-9]*)?", text) else -1
    if not 0 <= number <= most:
        kind = "a whole number" if parse is int else "seconds"
        raise web.HTTPBadRequest(text=f"{name}: got {text[:40]!r}, expected {kind} from 0 to {int(most):,}")
    return number
