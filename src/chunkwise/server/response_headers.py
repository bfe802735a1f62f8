"""Status, format, content coding and the handler's own headers -> an aiohttp response with all its headers."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from aiohttp import hdrs, web

from chunkwise.formats import Format
from chunkwise.formats.contract import STREAM_END
from chunkwise.transports.negotiation import IDENTITY, PREFERENCE_APPLIED


class StreamedResponse(web.StreamResponse):
    """A response that aiohttp never compresses: aiohttp would delay items, or compress a compressed stream again."""

    def enable_compression(self, force: Any = None, strategy: int | None = None) -> None:
        """Do nothing, so that a middleware cannot turn on aiohttp's compression."""


def stream_response(
    status: int, own: Mapping[str, str], format: Format, coding: str, varies: Sequence[str], *, stream_end: bool
) -> web.StreamResponse:
    """Return an aiohttp response that has all its headers, and is not sent yet.

    Args:
        status: the status of the response.
        own: the headers that the handler passed.
        format: the format of the stream.
        coding: the content coding, or `IDENTITY` if the content is not compressed.
        varies: the names of the request headers that format and coding depend on, for the Vary header.
        stream_end: whether the stream ends with an end record, as the client asked.
    """
    choice = _Choice(format.content_type, tuple(format.headers.items()), coding, tuple(varies), stream_end)
    headers = _plain_headers(choice) if not own else _headers(own, choice)
    # aiohttp copies the headers, so a change of the headers does not change the cache of `_plain_headers`.
    return StreamedResponse(status=status, headers=headers)


class _Choice(NamedTuple):
    """The values that determine the headers that chunkwise adds; they are the key of the cache of `_plain_headers`."""

    content_type: str
    of_format: tuple[tuple[str, str], ...]
    coding: str
    varies: tuple[str, ...]
    stream_end: bool


# The results can be cached: if the handler passes no headers, only a few different values of `_Choice` occur.
@lru_cache
def _plain_headers(choice: _Choice) -> Mapping[str, str]:
    return _headers({}, choice)


def _headers(own: Mapping[str, str], choice: _Choice) -> Mapping[str, str]:
    headers = StreamedResponse(headers=own).headers
    of_format = dict(choice.of_format)
    if choice.stream_end:
        headers[PREFERENCE_APPLIED] = STREAM_END
    headers[hdrs.CONTENT_TYPE] = choice.content_type
    # no-transform (RFC 9111 §5.2.2.6): a proxy that transforms a response may make a failed stream look complete.
    mine = headers.getall(hdrs.CACHE_CONTROL, [])
    directives = [*mine, of_format.get(hdrs.CACHE_CONTROL), "no-transform"]
    headers[hdrs.CACHE_CONTROL] = ", ".join(dict.fromkeys(directive for directive in directives if directive))
    for name, value in choice.of_format:
        headers.setdefault(name, value)
    headers.setdefault("X-Accel-Buffering", "no")  # asks nginx not to buffer the response
    headers.setdefault("Incremental", "?1")  # asks every proxy not to buffer it (draft-ietf-httpbis-incremental)
    if choice.coding != IDENTITY:
        headers[hdrs.CONTENT_ENCODING] = choice.coding
    known = [name.strip() for name in ",".join(headers.getall(hdrs.VARY, [])).split(",") if name.strip()]
    varies = {name.lower(): name for name in (*known, *choice.varies)}
    # A strong ETag promises that the bytes are always the same (RFC 9110 §8.8.3). It becomes weak if other requests for
    # the same items can get other bytes, because of their format, content coding or end record.
    etag = headers.get(hdrs.ETAG, "")
    if etag.startswith('"') and (
        choice.coding != IDENTITY or hdrs.ACCEPT.lower() in varies or PREFERENCE_APPLIED in headers
    ):
        headers[hdrs.ETAG] = f"W/{etag}"
    if choice.varies:
        headers[hdrs.VARY] = ", ".join(varies.values())
    return headers
