"""formats/__init__.py: FORMATS, and lookup by name, media type and suffix."""

import re

import pytest

from chunkwise.errors import UnknownFormat
from chunkwise.formats import FORMATS, by_media_type, by_name, by_suffix
from tests.formats.samples import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_format_is_found_by_each_of_its_names(name: str) -> None:
    row = FORMATS[name]
    assert by_name(name) is by_name(row) is row
    assert by_media_type(row.content_type) is row
    for media_type in row.media_types:
        assert by_media_type(media_type.upper() + " ; charset=UTF-8") is row
    for suffix in row.suffixes:
        assert by_suffix("a/b.c" + suffix.upper()) is row


@pytest.mark.parametrize("name", NAMES)
def test_keepalive_is_not_an_item(name: str) -> None:
    row = FORMATS[name]
    if row.keepalive is None:
        return
    encoder, decoder = row.encoder(), row.decoder()
    items = []
    for part in (encoder.start(), encoder.encode([1]), encoder.encode([[2]]), encoder.finish()):
        items += decoder.feed(row.keepalive + part + row.keepalive)
    assert [*items, *decoder.finish()] == [1, [2]]


@pytest.mark.parametrize("name", NAMES)
def test_end_record_differs_from_keepalive(name: str) -> None:
    row = FORMATS[name]
    if row.end_record is None:
        assert row.encoder(stream_end=True).fail({}) == b""
        return
    assert row.keepalive is not None
    assert not row.end_record.before.startswith(row.keepalive)
    assert row.end_record.after.endswith(b"\n")
    assert row.encoder(stream_end=True).finish().startswith(row.end_record.before)


@pytest.mark.parametrize(
    ("content_type", "name"),
    [
        ("application/problem+json", "json"),
        ("application/geo+json-seq; charset=utf-8", "json-seq"),
        ('application/json; charset="utf-8"', "json"),
        ("text/event-stream;charset=utf-8", "sse"),
        ("text/csv; header=present; charset=us-ascii", "csv"),
        ("application/jsonl", "ndjson"),
    ],
)
def test_media_type_may_have_parameters(content_type: str, name: str) -> None:
    assert by_media_type(content_type).name == name


@pytest.mark.parametrize("content_type", ["", "text/html", "json", "application/json; charset=latin-1", "x/y+xml"])
def test_error_names_unknown_media_type(content_type: str) -> None:
    with pytest.raises(UnknownFormat, match=re.escape(content_type.rpartition("=")[2]) or "no content type"):
        by_media_type(content_type)


def test_error_lists_known_names_and_suffixes() -> None:
    with pytest.raises(UnknownFormat, match="'xml', expected one of json, ndjson"):
        by_name("xml")
    with pytest.raises(TypeError, match=r"one of json, ndjson.*, got \['json'\]"):
        by_name(["json"])  # type: ignore[arg-type]
    with pytest.raises(UnknownFormat, match=r"\.ndjson"):
        by_suffix("a.xml")


@pytest.mark.parametrize("name", ["a.json.gz", "B.NDJSON.ZST"])
def test_error_names_compressed_file(name: str) -> None:
    with pytest.raises(UnknownFormat, match="decompress"):
        by_suffix(name)
    with pytest.raises(UnknownFormat, match=r"expected one of [^;]*$"):
        by_suffix("a.exe")
