"""One answer -> its items, and what is known of how they could go on behind a break.

Must not know how it was asked for.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import ClientResponse

from chunkwise.client.stream import Over, Stream
from chunkwise.client.upload import ClosingPayload
from chunkwise.errors import StreamError
from chunkwise.flow.inbound import Broken, Inbound
from chunkwise.formats.contract import Decoder
from chunkwise.transports.http_body import is_empty
from chunkwise.transports.range_headers import RangeInfo

_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 §5.5


class Answer(Inbound, Stream):
    """The items of one answer.

    Args:
        over: see `Stream.over`.
        chunks: see `Inbound`.
        make_decoder: see `Inbound`.
        framed: see `Inbound`.
        empty: see `Inbound`.
        upload: what is sent meanwhile, if anything: its failure is the stream's, too.

    Attributes:
        start: what is known of its beginning; None as long as nothing is. Over a WebSocket its first message tells.
    """

    def __init__(
        self,
        over: Over,
        chunks: AsyncIterator[bytes],
        make_decoder: Callable[[], Decoder],
        framed: Callable[[], bool],
        *,
        empty: bool = False,
        upload: ClosingPayload | None = None,
        start: RangeInfo | None = None,
    ) -> None:
        super().__init__(_unless_failed(chunks, upload) if upload else chunks, make_decoder, framed, empty=empty)
        self._over = over
        self.start = start

    @property
    def over(self) -> Over:
        """See `Stream.over`."""
        return self._over

    @property
    def decoder(self) -> Any:
        """What decodes it, once something came."""
        return self._decoder

    @property
    def whole_records(self) -> int | None:
        """See `Decoder.whole_records`."""
        return 0 if self._decoder is None else self._decoder.whole_records

    @property
    def id_to_go_on_behind(self) -> str:
        """Of server-sent events, the id of the last, if it has one of its own that a header can hold; else nothing."""
        inner = _inner(self._decoder)
        if not getattr(inner, "is_behind_id", False) or _control.search(inner.last_event_id):
            return ""
        return str(inner.last_event_id)

    @property
    def first_event_id(self) -> str:
        """Of server-sent events, the first id that came; else nothing."""
        return str(getattr(_inner(self._decoder), "first_event_id", ""))

    @property
    def retry_seconds(self) -> float | None:
        """Of server-sent events, how long to wait before going on, if they said so."""
        milliseconds = getattr(_inner(self._decoder), "retry", None)
        return None if milliseconds is None else milliseconds / 1000

    @property
    def empty_status(self) -> int | None:
        """Its status if that has no content, such as 204; else None."""
        return self._over.status if isinstance(self._over, ClientResponse) and is_empty(self._over) else None


def _inner(decoder: Any) -> Any:
    return getattr(decoder, "decoder", decoder)  # of one that looks for an end record


async def _unless_failed(chunks: AsyncIterator[bytes], upload: ClosingPayload) -> AsyncIterator[bytes]:
    """Raise what has failed in the upload instead of the end that it has made of the answer."""
    try:
        async for data in chunks:
            yield data
    except (Broken, StreamError):
        if upload.failure is None:
            raise
    if upload.failure is not None:
        raise upload.failure
