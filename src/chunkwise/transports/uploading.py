"""A source of items -> the body of a client's request.

Must not know any one format.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from aiohttp import AsyncIterablePayload
from aiohttp.abc import AbstractStreamWriter

from chunkwise.flow.outbound import open_outbound
from chunkwise.formats import Format, by_name


def body(source: Any, format: str | Format) -> AsyncIterablePayload:
    """Return a source of items as a request's body: ``session.post(url, data=chunkwise.body(rows(), "ndjson"))``.

    It is sent as chunks while the source gives items, with the format's content type. A source that fails never sends
    the last chunk.

    Args:
        source: see `respond`.
        format: a name from `FORMATS`.

    Raises:
        UnknownFormat: there is no such format.
        TypeError: the source is a function.
    """
    chosen = by_name(format)
    return ClosingPayload(open_outbound(source, chosen).pieces(), content_type=chosen.content_type)


class ClosingPayload(AsyncIterablePayload):
    """Closes the source when sending ends, however it ends, which aiohttp leaves to the garbage collector."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], *, content_type: str) -> None:
        super().__init__(pieces, content_type=content_type)
        self._pieces = pieces

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the pieces, then close their source."""
        async with aclosing(self._pieces):
            await super().write_with_length(writer, content_length)
