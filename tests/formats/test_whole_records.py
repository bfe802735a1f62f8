"""`whole_records`: the number of records after which a cut stream resumes, in any format and for any path."""

from typing import Any

import pytest

from chunkwise import FORMATS
from chunkwise.formats import Decoder
from chunkwise.formats.end_record import StreamEndDecoder
from tests.tables import check_rows, cross, named

RECORDS: list[Any] = [
    {"tags": ["a", "b"], "n": 1},
    {"tags": [], "n": 22},
    [[1, 2], 3, []],
    {"tags": ["ä", {"deep": [1]}], "n": None},
    [],
    "text",
    333,
    {"n": {"tags": 4}, "tags": "none"},
]
PATHS: list[Any] = ["", (), "item", "tags", "tags.item", "n", "*", "item.item", "item.tags.item", "item.n"]


def items_of(name: str, path: Any, records: list[Any]) -> list[Any]:
    """Return the items of some records."""
    row = FORMATS[name]
    encoder = row.encoder()
    data = encoder.start() + encoder.encode(records) + encoder.finish()
    decoder = row.decoder(path)
    return [*decoder.feed(data), *decoder.finish(framed=True)]


def test_whole_records_match_items_at_any_cut() -> None:
    def check(path: Any, end_record: bool, name: str) -> None:
        row = FORMATS[name]
        encoder = row.encoder(stream_end=end_record)
        data = encoder.start() + encoder.encode(RECORDS) + encoder.finish()
        by_records = [items_of(name, path, RECORDS[:count]) for count in range(len(RECORDS) + 1)]

        def new_decoder() -> Decoder:
            decoder = row.decoder(path)
            return StreamEndDecoder(decoder, row.end_record) if end_record and row.end_record else decoder

        def is_counted(decoder: Decoder, items: list[Any]) -> bool:
            """Compare the items of a decoder with its number of whole records; return whether it has this number."""
            whole = decoder.whole_records
            assert whole is None or items == by_records[whole], whole
            return whole is not None

        decoder, items = new_decoder(), list[Any]()
        counted = int(is_counted(decoder, items))
        for start in range(len(data)):
            items += decoder.feed(data[start : start + 1])
            counted += is_counted(decoder, items)
        for size in (7, len(data)):
            for cut in range(len(data) + 1):
                decoder, items = new_decoder(), list[Any]()
                for start in range(0, cut, size):
                    items += decoder.feed(data[start : min(cut, start + size)])
                counted += is_counted(decoder, items)
        in_document = name == "json" and path not in ("", "item")
        assert (counted == 0) == in_document
        if name in ("ndjson", "sse") or (path in ("", "item") and name == "json"):
            assert counted == 3 * (len(data) + 1)  # at every cut

    rows = cross(
        {str(path): path for path in PATHS},
        {"plain": False, "end record": True},
        named(["json", "ndjson", "json-seq", "sse"]),
    )
    check_rows({name: row for name, row in rows.items() if FORMATS[row[2]].end_record or not row[1]}, check)


@pytest.mark.parametrize("name", ["csv", "text"])
def test_formats_without_records_count_none(name: str) -> None:
    decoder = FORMATS[name].decoder()
    assert decoder.feed(b"a\n1\n") != []
    assert decoder.whole_records is None
