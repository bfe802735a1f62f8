"""Format, content coding and status -> the response with its headers."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from aiohttp import hdrs, web

from chunkwise.formats import Format
from chunkwise.formats.contract import STREAM_END
from chunkwise.transports.negotiation import IDENTITY, PREFERENCE_APPLIED


class StreamedResponse(web.StreamResponse):
    """A response that is compressed already: aiohttp would compress it again, and hold it back until the end."""

    def enable_compression(self, force: Any = None, strategy: int | None = None) -> None:
        """Do nothing."""


def stream_response(
    status: int, own: Mapping[str, str], format: Format, coding: str, varies: Sequence[str], *, stream_end: bool
) -> web.StreamResponse:
    """Return a response with its headers: the handler's own ones, joined with ours.

    ``varies`` are the request headers that decided the format and the coding. ``stream_end`` says whether the stream
    ends with an end record, as the client asked.
    """
    choice = _Choice(format.content_type, tuple(format.headers.items()), coding, tuple(varies), stream_end)
    headers = _plain_headers(choice) if not own else _headers(own, choice)
    return StreamedResponse(status=status, headers=headers)  # which copies them


class _Choice(NamedTuple):
    """Everything that our part of the headers depends on."""

    content_type: str
    of_format: tuple[tuple[str, str], ...]
    coding: str
    varies: tuple[str, ...]
    stream_end: bool


@lru_cache  # most handlers have no headers of their own, and there are few formats and clients
def _plain_headers(choice: _Choice) -> Mapping[str, str]:
    return _headers({}, choice)


def _headers(own: Mapping[str, str], choice: _Choice) -> Mapping[str, str]:
    headers = StreamedResponse(headers=own).headers
    of_format = dict(choice.of_format)
    if choice.stream_end:
        headers[PREFERENCE_APPLIED] = STREAM_END
    headers[hdrs.CONTENT_TYPE] = choice.content_type
    # RFC 9111 §5.2.2.6: a proxy that transforms reads ahead, and its response may look whole when the stream is not.
    mine = headers.getall(hdrs.CACHE_CONTROL, [])
    directives = [*mine, of_format.get(hdrs.CACHE_CONTROL), "no-transform"]
    headers[hdrs.CACHE_CONTROL] = ", ".join(dict.fromkeys(directive for directive in directives if directive))
    for name, value in choice.of_format:
        headers.setdefault(name, value)
    headers.setdefault("X-Accel-Buffering", "no")  # nginx
    headers.setdefault("Incremental", "?1")  # draft-ietf-httpbis-incremental
    if choice.coding != IDENTITY:
        headers[hdrs.CONTENT_ENCODING] = choice.coding
    known = [name.strip() for name in ",".join(headers.getall(hdrs.VARY, [])).split(",") if name.strip()]
    varies = {name.lower(): name for name in (*known, *choice.varies)}
    # RFC 9110 §8.8.3: a strong entity tag is of one representation, byte for byte.
    etag = headers.get(hdrs.ETAG, "")
    if etag.startswith('"') and (
        choice.coding != IDENTITY or hdrs.ACCEPT.lower() in varies or PREFERENCE_APPLIED in headers
    ):
        headers[hdrs.ETAG] = f"W/{etag}"
    if choice.varies:
        headers[hdrs.VARY] = ", ".join(varies.values())
    return headers
