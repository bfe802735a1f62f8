"""The formats that convert items to bytes and back: one module for each, and `FORMATS`, the table of all formats.

This package does no I/O: no code in it awaits, reads a clock or uses a socket. A format is an `Encoder` and a `Decoder`
in one module, and one row in `FORMATS`. The protocols are in `contract`. The module `end_record` adds a last
record to formats whose grammar does not prove that a stream is complete.
"""

from collections.abc import Mapping
from types import MappingProxyType

from chunkwise.errors import UnknownFormat
from chunkwise.formats.contract import Decoder, Encoder, Format, Limits
from chunkwise.formats.csv_rows import CSV
from chunkwise.formats.json_document import JSON
from chunkwise.formats.json_seq import JSON_SEQ
from chunkwise.formats.ndjson import NDJSON
from chunkwise.formats.sse import SSE
from chunkwise.formats.text import TEXT

__all__ = ["FORMATS", "Decoder", "Encoder", "Format", "Limits", "by_media_type", "by_name", "by_suffix"]

FORMATS: Mapping[str, Format] = MappingProxyType({row.name: row for row in (JSON, NDJSON, JSON_SEQ, SSE, CSV, TEXT)})
"""All formats by name, in the order in which they are offered: a client that accepts any format gets the first one."""

FORMAT_HINT = "name the format with format="
"""The last words of an error message of `by_media_type`. The command line replaces them with its own advice."""

_media_types = {media_type: row for row in FORMATS.values() for media_type in row.media_types}
_suffixes = {suffix: row for row in FORMATS.values() for suffix in row.suffixes}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".br", ".zip")


def by_name(name: str | Format) -> Format:
    """Return the format with the given name, or the given `Format` unchanged.

    Args:
        name: a key of `FORMATS`, or a `Format`.

    Raises:
        TypeError: ``name`` is neither a string nor a `Format`.
        UnknownFormat: no format has this name.
    """
    if isinstance(name, Format):
        return name
    if not isinstance(name, str):
        raise TypeError(f"format must be one of {', '.join(FORMATS)}, or a Format, got {name!r}")
    if name not in FORMATS:
        raise UnknownFormat(f"unknown format {name!r}, expected one of {', '.join(FORMATS)}")
    return FORMATS[name]


def by_media_type(content_type: str) -> Format:
    """Return the format for the value of a ``Content-Type`` header.

    Parameters after the media type are allowed, and so are structured suffixes such as ``+json`` (RFC 6839).

    Args:
        content_type: the value of the header, such as ``"application/json; charset=utf-8"``.

    Raises:
        UnknownFormat: no format has this media type, or the charset is not UTF-8.
    """
    essence, *parameters = (part.strip().lower() for part in content_type.split(";"))
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name.strip() == "charset" and charset.strip(' "') not in ("utf-8", "utf8", "us-ascii"):
            raise UnknownFormat(f"charset {charset.strip()!r} in content type {content_type!r}, expected utf-8")
    _, plus, suffix = essence.rpartition("+")
    structured = {"+json": JSON, "+json-seq": JSON_SEQ}.get(plus + suffix)
    if (found := _media_types.get(essence) or structured) is None:
        shown = f"content type {content_type!r}" if content_type else "no content type"
        raise UnknownFormat(f"got {shown}, expected one of {', '.join(_media_types)}; {FORMAT_HINT}")
    return found


def by_suffix(file_name: str) -> Format:
    """Return the format for the suffix of a file name.

    Args:
        file_name: the name with its suffix, in upper or lower case, such as ``"users.csv"``.

    Raises:
        UnknownFormat: no format has this suffix.
    """
    for suffix, row in _suffixes.items():
        if file_name.lower().endswith(suffix):
            return row
    msg = f"unknown suffix in file name {file_name!r}, expected one of {', '.join(_suffixes)}"
    if file_name.lower().endswith(_COMPRESSED):
        msg += "; decompress the file first"
    raise UnknownFormat(msg)
