"""An async iterable -> its iterator, which is closed afterwards if it can be.

`contextlib.aclosing` requires an ``aclose`` method, which only generators are sure to have.
"""

from collections.abc import AsyncIterable
from typing import Any


class closing:  # noqa: N801 - as contextlib's
    """Return the iterator of an iterable, and close it at the end of the ``async with`` block."""

    def __init__(self, iterable: AsyncIterable[Any]) -> None:
        self._iterator = aiter(iterable)

    async def __aenter__(self) -> Any:
        return self._iterator

    async def __aexit__(self, *_: object) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()
