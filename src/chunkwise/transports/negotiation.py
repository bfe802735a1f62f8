"""The Accept, Accept-Encoding and Prefer headers of a request -> format, coding, preferences (RFC 9110, RFC 7240)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar

from chunkwise.errors import UnknownFormat
from chunkwise.formats import FORMATS, Format, by_name

FormatChoice = str | Format | Sequence[str | Format] | None
"""The formats that a handler offers: one (always used), several (the first is the default), or None for all."""


IDENTITY = "identity"
"""The content coding of data that is not compressed."""

# The weight of "identity" (uncompressed data) if no header names it. In a header, each coding
# that the client accepts has a weight of at least 0.001, so these codings are preferred to uncompressed data.
_UNNAMED_IDENTITY = 0.0001


# Quoted strings (RFC 9110 §5.6.4). A string without a closing quote also matches, up to the end of the text. Otherwise
# the search would start again at each escaped quote inside the string, which takes quadratic time.
_quoted = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|$)')

PREFERENCE_APPLIED = "Preference-Applied"


class Offer(Protocol):
    """Something that a client can choose by its media type, such as a `Format`."""

    @property
    def media_types(self) -> tuple[str, ...]:
        """The media types that a client may name in Accept; the first one is sent as Content-Type."""


AnyOffer = TypeVar("AnyOffer", bound=Offer)


class MediaRange(NamedTuple):
    """One element of an Accept header, such as ``text/*;q=0.5``."""

    type: str
    subtype: str
    quality: float

    def match(self, media_type: str) -> int:
        """Return how specific the match is: 3 for the exact type, 2 for ``type/*``, 1 for ``*/*``, 0 for no match."""
        main, _, sub = media_type.partition("/")
        if self.type == "*":
            return 1
        if self.type != main:
            return 0
        return 2 if self.subtype == "*" else 3 * (self.subtype == sub)


@lru_cache  # a small cache is enough, because the clients of one server send few different headers
def parse_accept(values: tuple[str, ...]) -> tuple[MediaRange, ...]:
    """Return the media ranges of Accept headers (RFC 9110 §12.5.1); malformed ranges are ignored."""
    ranges = []
    for media_range, quality in _weighted(values):
        main, slash, sub = media_range.partition("/")
        if main and slash and sub and not (main == "*" and sub != "*"):
            ranges.append(MediaRange(main, sub, quality))
    return tuple(ranges)


def _elements(values: Iterable[str]) -> list[str]:
    """Return the elements of a list header (RFC 9110 §5.6.1).

    Quoted strings may contain commas, so each is replaced with ``""`` first.
    """
    text = ",".join(values)
    return (_quoted.sub('""', text) if '"' in text else text).split(",")


def _weighted(values: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Yield each element of a header in lower case with its weight, by default 1 (RFC 9110 §12.4.2)."""
    for element in _elements(values):
        name, *parameters = (part.strip().lower() for part in element.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _quality(value.strip())
        yield name, quality


def _quality(text: str) -> float:
    # RFC 9110 §12.4.2 allows "0" or "1" and at most three digits after the point. Any other weight counts as 0.
    whole, _, digits = text.partition(".")
    good = whole in ("0", "1") and len(digits) <= 3 and (not digits or (digits.isascii() and digits.isdigit()))
    return min(float(text), 1.0) if good else 0.0


def _liking(ranges: Sequence[MediaRange], media_types: Sequence[str]) -> tuple[float, int]:
    """Return the weight that a client gives to a format, and how specific the client's media range is.

    The second number is the one that `MediaRange.match` returns.
    """
    sent, *aliases = media_types
    # The weight is that of the most specific range that matches (RFC 9110 §12.5.1).
    specific, quality = max(((found.match(sent), found.quality) for found in ranges), default=(0, 0.0))
    # The first media type of a format is the Content-Type of the response. The others count only if the client names
    # them exactly. Otherwise ``*/*`` would allow a format whose first media type the client refuses.
    named = (found.quality for found in ranges for alias in aliases if found.match(alias) == 3)
    return max([(quality if specific else 0.0, specific), *((liked, 3) for liked in named)])


def offered(choice: FormatChoice) -> list[Format]:
    """Return the formats that a handler offers; raise UnknownFormat for an unknown name or an empty list."""
    if choice is None:
        return list(FORMATS.values())
    if isinstance(choice, (str, Format)):
        return [by_name(choice)]
    if not choice:
        raise UnknownFormat("got an empty list of formats, expected at least one, or None for all")
    return [by_name(name) for name in choice]


def negotiate(accept: Sequence[str], formats: Sequence[AnyOffer]) -> AnyOffer | None:
    """Return the format that a client prefers, or None if it accepts none of the formats.

    A client without a well-formed Accept header accepts any format. ``*/*`` selects the first format, unless the header
    names another format with the same weight.
    """
    ranges = parse_accept(tuple(accept))
    if not ranges:
        return formats[0]
    best: tuple[float, int] = (0.0, 0)
    chosen = None
    for candidate in formats:
        quality, specific = _liking(ranges, candidate.media_types)
        if quality > 0 and (quality, specific) > best:
            best, chosen = (quality, specific), candidate
    return chosen


def negotiate_coding(accept_encoding: Sequence[str], codings: Sequence[str]) -> str | None:
    """Return the content coding that a client prefers, or None if it refuses all codings and uncompressed data.

    ``codings`` are in the server's order of preference. A client without an Accept-Encoding header possibly knows
    no coding, so it gets uncompressed data: ``"identity"`` (RFC 9110 §12.5.3).
    """
    return _negotiate_coding(tuple(accept_encoding), tuple(codings))


@lru_cache
def _negotiate_coding(accept_encoding: tuple[str, ...], codings: tuple[str, ...]) -> str | None:
    weights = {name.removeprefix("x-"): quality for name, quality in _weighted(accept_encoding) if name}
    best, chosen = 0.0, None
    for coding in (*codings, IDENTITY):
        # A client that names neither "identity" nor ``*`` accepts uncompressed data, but prefers each coding that it
        # accepts by name.
        unnamed = weights.get("*", _UNNAMED_IDENTITY if coding == IDENTITY else 0.0)
        if (quality := weights.get(coding, unnamed)) > best:
            best, chosen = quality, coding
    return chosen


def prefers(values: Iterable[str], preference: str) -> bool:
    """Whether Prefer headers contain a preference, with any value and parameters (RFC 7240 §2)."""
    names = (element.partition(";")[0].partition("=")[0] for element in _elements(values))
    return any(name.strip().lower() == preference for name in names)
