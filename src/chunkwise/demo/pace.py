"""A request's query -> the number of items to make, their pace, their size, and when to fail."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable

from aiohttp import web

MAX_ITEMS = 100_000_000
MAX_SECONDS = 60.0
MAX_SIZE_BYTES = 1_000_000


class Pace:
    """Numbers by ``async for``, with a pause between two: 0 at once, then 1, 2, ...

    The query changes the defaults: ``?items=10&interval=0.1&size=100&fail=3``. ``seconds`` is the pause, and ``fail``
    after how many items to fail (None for never). `padding` is a text of ``size`` bytes, to make items larger.
    """

    def __init__(self, request: web.BaseRequest, items: int, seconds: float, fail: int | None = None) -> None:
        self.items: int = int(_number(request, "items", items, MAX_ITEMS, int))
        self.seconds: float = _number(request, "interval", seconds, MAX_SECONDS, float)
        self.padding = "x" * int(_number(request, "size", 0, MAX_SIZE_BYTES, int))
        self._fail = _number(request, "fail", math.inf if fail is None else fail, MAX_ITEMS, int)
        self._beats = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(self.items):
            await self.beat()
            yield number

    async def beat(self) -> None:
        """Wait until it is time for the next item; the first one is not delayed. Fail where ``fail`` says so."""
        if self._beats and self.seconds:
            await asyncio.sleep(self.seconds)
        if self._beats >= self._fail:
            # The client gets the text of an HTTP exception; it never gets the text of any other exception.
            raise web.HTTPServiceUnavailable(text=f"the producer fails on purpose after {self._beats} items")
        self._beats += 1


def _number(request: web.BaseRequest, name: str, default: float, most: float, parse: Callable[[str], float]) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    number = parse(text) if re.fullmatch(r"[0-9]{1,12}" if parse is int else r"[0-9]{1,12}(\.[0-9]*)?", text) else -1
    if not 0 <= number <= most:
        kind = "a whole number" if parse is int else "seconds"
        raise web.HTTPBadRequest(text=f"{name}: got {text[:40]!r}, expected {kind} from 0 to {int(most):,}")
    return number
