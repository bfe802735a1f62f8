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

_UNNAMED_IDENTITY = 0.0001  # the weight of identity if no header names it: less than any weight that a header can have


# Quoted strings (RFC 9110 §5.6.4). One without a closing quote extends to the end, so that matching takes linear time.
_quoted = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|$)')

PREFERENCE_APPLIED = "Preference-Applied"


class Offer(Protocol):
    """Anything that is sent with a media type, such as a `Format`."""

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


@lru_cache  # the clients of one server send few different headers
def parse_accept(values: tuple[str, ...]) -> tuple[MediaRange, ...]:
    """Return the media ranges of Accept headers (RFC 9110 §12.5.1); malformed ones are ignored."""
    ranges = []
    for media_range, quality in _weighted(values):
        main, slash, sub = media_range.partition("/")
        if main and slash and sub and not (main == "*" and sub != "*"):
            ranges.append(MediaRange(main, sub, quality))
    return tuple(ranges)


def _elements(values: Iterable[str]) -> list[str]:
    """Return the elements of a list header (RFC 9110 §5.6.1), with an empty string for each quoted string."""
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
    """Return the client's weight for a format, and how specific the media range with this weight is."""
    sent, *aliases = media_types
    # The most specific range that matches decides (RFC 9110 §12.5.1).
    specific, quality = max(((found.match(sent), found.quality) for found in ranges), default=(0, 0.0))
    # An alias counts only if the client names it: ``*/*`` must not allow a format whose main type is refused.
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

    ``codings`` are in the server's order of preference. A client without an Accept-Encoding header may not know any
    coding, and gets uncompressed data: ``"identity"`` (RFC 9110 §12.5.3).
    """
    return _negotiate_coding(tuple(accept_encoding), tuple(codings))


@lru_cache
def _negotiate_coding(accept_encoding: tuple[str, ...], codings: tuple[str, ...]) -> str | None:
    weights = {name.removeprefix("x-"): quality for name, quality in _weighted(accept_encoding) if name}
    best, chosen = 0.0, None
    for coding in (*codings, IDENTITY):
        # Uncompressed data is allowed unless the client refuses it, but each coding that the client names is preferred.
        unnamed = weights.get("*", _UNNAMED_IDENTITY if coding == IDENTITY else 0.0)
        if (quality := weights.get(coding, unnamed)) > best:
            best, chosen = quality, coding
    return chosen


def prefers(values: Iterable[str], preference: str) -> bool:
    """Whether Prefer headers contain a preference, with any value and parameters (RFC 7240 §2)."""
    names = (element.partition(";")[0].partition("=")[0] for element in _elements(values))
    return any(name.strip().lower() == preference for name in names)
