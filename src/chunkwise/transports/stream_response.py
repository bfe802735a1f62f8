"""What was negotiated -> the head of a streamed answer.

Must not know any one format: what it needs of them is data in `Format`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    response = StreamedResponse(status=status, headers=own)
    headers = response.headers
    if stream_end:
        headers[PREFERENCE_APPLIED] = STREAM_END
    headers[hdrs.CONTENT_TYPE] = format.content_type
    # RFC 9111 §5.2.2.6: a proxy that transforms reads ahead, and what it makes may look whole when the stream is not.
    mine = headers.getall(hdrs.CACHE_CONTROL, [])
    directives = [*mine, format.headers.get(hdrs.CACHE_CONTROL), "no-transform"]
    headers[hdrs.CACHE_CONTROL] = ", ".join(dict.fromkeys(directive for directive in directives if directive))
    for name, value in format.headers.items():
        headers.setdefault(name, value)
    headers.setdefault("X-Accel-Buffering", "no")  # nginx
    headers.setdefault("Incremental", "?1")  # draft-ietf-httpbis-incremental
    if coding != IDENTITY:
        headers[hdrs.CONTENT_ENCODING] = coding
    known = [name.strip() for name in ",".join(headers.getall(hdrs.VARY, [])).split(",") if name.strip()]
    # RFC 9110 §8.8.3: a strong entity tag is of one representation, byte for byte.
    etag = headers.get(hdrs.ETAG, "")
    chosen = hdrs.ACCEPT.lower() in {name.lower() for name in (*known, *varies)}
    if etag.startswith('"') and (coding != IDENTITY or chosen or PREFERENCE_APPLIED in headers):
        headers[hdrs.ETAG] = f"W/{etag}"
    if varies:
        headers[hdrs.VARY] = ", ".join({name.lower(): name for name in (*known, *varies)}.values())
    return response
