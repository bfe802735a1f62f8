"""What was negotiated -> the head of a streamed answer.

Must not know any one format: what it needs of them is data in `Format`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from aiohttp import hdrs, web

from chunkwise.formats import Format
from chunkwise.formats.contract import STREAM_END
from chunkwise.transports.negotiation import IDENTITY, PREFERENCE_APPLIED


class StreamedResponse(web.StreamResponse):
    """Has its content coding already: aiohttp's would hold everything back until the end, and code it twice."""

    def enable_compression(self, force: Any = None, strategy: int | None = None) -> None:
        """Do nothing."""


def stream_response(
    status: int, own: Mapping[str, str], format: Format, coding: str, varies: Sequence[str], *, stream_end: bool
) -> web.StreamResponse:
    """Return an answer with its headers complete.

    Args:
        status: its status.
        own: the handler's own headers, which are joined with ours.
        format: what it carries.
        coding: its content coding, or `IDENTITY`.
        varies: the request headers on which the choice depended.
        stream_end: whether the client has asked for an end record, and gets it.
    """
    told = _Told(format.content_type, tuple(format.headers.items()), coding, tuple(varies), stream_end)
    headers = _plain_headers(told) if not own else _headers(own, told)
    return StreamedResponse(status=status, headers=headers)  # which copies them


class _Told(NamedTuple):
    """What our part of the headers depends on."""

    content_type: str
    of_format: tuple[tuple[str, str], ...]
    coding: str
    varies: tuple[str, ...]
    stream_end: bool


@lru_cache  # nearly all handlers have no headers of their own, and formats and clients are few
def _plain_headers(told: _Told) -> Mapping[str, str]:
    return _headers({}, told)


def _headers(own: Mapping[str, str], told: _Told) -> Mapping[str, str]:
    headers = StreamedResponse(headers=own).headers
    of_format = dict(told.of_format)
    if told.stream_end:
        headers[PREFERENCE_APPLIED] = STREAM_END
    headers[hdrs.CONTENT_TYPE] = told.content_type
    # RFC 9111 §5.2.2.6: a proxy that transforms reads ahead, and what it makes may look whole when the stream is not.
    mine = headers.getall(hdrs.CACHE_CONTROL, [])
    directives = [*mine, of_format.get(hdrs.CACHE_CONTROL), "no-transform"]
    headers[hdrs.CACHE_CONTROL] = ", ".join(dict.fromkeys(directive for directive in directives if directive))
    for name, value in told.of_format:
        headers.setdefault(name, value)
    headers.setdefault("X-Accel-Buffering", "no")  # nginx
    headers.setdefault("Incremental", "?1")  # draft-ietf-httpbis-incremental
    if told.coding != IDENTITY:
        headers[hdrs.CONTENT_ENCODING] = told.coding
    known = [name.strip() for name in ",".join(headers.getall(hdrs.VARY, [])).split(",") if name.strip()]
    varies = {name.lower(): name for name in (*known, *told.varies)}
    # RFC 9110 §8.8.3: a strong entity tag is of one representation, byte for byte.
    etag = headers.get(hdrs.ETAG, "")
    if etag.startswith('"') and (
        told.coding != IDENTITY or hdrs.ACCEPT.lower() in varies or PREFERENCE_APPLIED in headers
    ):
        headers[hdrs.ETAG] = f"W/{etag}"
    if told.varies:
        headers[hdrs.VARY] = ", ".join(varies.values())
    return headers
