"""Room 1: bytes <-> items, one file a format, and the table of them.

Pure: nothing here waits, reads a clock, or knows a socket. Each format is an `Encoder` and a `Decoder` side by side in
one file and a row in `FORMATS`; `contract` says what they keep, and
`stream_end` how those that cannot prove their end say it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from chunkwise.errors import UnknownFormat
from chunkwise.formats.contract import Decoder, Encoder, Format, Limits
from chunkwise.formats.csv_rows import CSV
from chunkwise.formats.json_document import JSON
from chunkwise.formats.json_seq import JSON_SEQ
from chunkwise.formats.ndjson import NDJSON
from chunkwise.formats.sse import SSE
from chunkwise.formats.text import TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMATS", "Decoder", "Encoder", "Format", "Limits", "by_media_type", "by_name", "by_suffix"]

FORMATS: Mapping[str, Format] = MappingProxyType({row.name: row for row in (JSON, NDJSON, JSON_SEQ, SSE, CSV, TEXT)})
"""Every format by its name. The order counts: a client that takes anything gets the first."""

FORMAT_HINT = "name the format with format="
"""The end of an error of `by_media_type`: to who writes Python. Who tells it to somebody else says it otherwise."""

_media_types = {media_type: row for row in FORMATS.values() for media_type in row.media_types}
_suffixes = {suffix: row for row in FORMATS.values() for suffix in row.suffixes}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".br", ".zip")


def by_name(name: str | Format) -> Format:
    """Return the format of that name; a `Format` is returned as it is.

    Args:
        name: one of `FORMATS`.

    Raises:
        TypeError: it is no name.
        UnknownFormat: there is none.
    """
    if isinstance(name, Format):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a format is a name, one of {', '.join(FORMATS)}, got {name!r}")
    if name not in FORMATS:
        raise UnknownFormat(f"unknown format {name!r}, expected one of {', '.join(FORMATS)}")
    return FORMATS[name]


def by_media_type(content_type: str) -> Format:
    """Return the format of a ``Content-Type`` header, its parameters and structured suffix (RFC 6839) understood.

    Args:
        content_type: the header's value: ``"application/json; charset=utf-8"``.

    Raises:
        UnknownFormat: no format has that media type, or its charset is not UTF-8.
    """
    essence, *parameters = (part.strip().lower() for part in content_type.split(";"))
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name.strip() == "charset" and charset.strip(' "') not in ("utf-8", "utf8", "us-ascii"):
            raise UnknownFormat(f"charset {charset.strip()} is not UTF-8: chunkwise reads UTF-8 only")
    _, plus, suffix = essence.rpartition("+")
    structured = {"+json": JSON, "+json-seq": JSON_SEQ}.get(plus + suffix)
    if (found := _media_types.get(essence) or structured) is None:
        shown = f"content type {content_type!r}" if content_type else "no content type"
        raise UnknownFormat(f"{shown}: expected one of {', '.join(_media_types)}; {FORMAT_HINT}")
    return found


def by_suffix(file_name: str) -> Format:
    """Return the format of a file's name.

    Args:
        file_name: with its suffix, of any case: ``"users.csv"``.

    Raises:
        UnknownFormat: no format has its suffix.
    """
    for suffix, row in _suffixes.items():
        if file_name.lower().endswith(suffix):
            return row
    msg = f"file {file_name!r} has none of the suffixes {', '.join(_suffixes)}"
    if file_name.lower().endswith(_COMPRESSED):
        msg += "; files are not decompressed here: do so first"
    raise UnknownFormat(msg)
