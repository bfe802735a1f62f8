"""An async iterable -> its iterator, closed when it is left, if it can be.

Must not know what it gives. `contextlib.aclosing` insists on an ``aclose``, which only generators have to have.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any


class closing:  # noqa: N801 - as contextlib's
    """Gives the iterator of an iterable, and closes it however the body ends.

    Args:
        iterable: the iterable.
    """

    def __init__(self, iterable: AsyncIterable[Any]) -> None:
        self._iterator = aiter(iterable)

    async def __aenter__(self) -> Any:
        return self._iterator

    async def __aexit__(self, *_: object) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()
