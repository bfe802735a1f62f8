"""Where a stream that broke goes on: `whole_records`, at any cut, in any format, whatever the path selects."""

from typing import Any

import pytest

from chunkwise import FORMATS
from chunkwise.formats.end_record import StreamEndDecoder

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
    """All items of some records."""
    row = FORMATS[name]
    encoder = row.encoder()
    data = encoder.start() + encoder.encode(records) + encoder.finish()
    decoder = row.decoder(path)
    return [*decoder.feed(data), *decoder.finish(framed=True)]


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("end_record", [False, True])
@pytest.mark.parametrize("name", ["json", "ndjson", "json-seq", "sse"])
def test_what_came_at_any_cut_is_all_of_the_whole_records_and_nothing_else(
    name: str, end_record: bool, path: Any
) -> None:
    row = FORMATS[name]
    if end_record and row.end_record is None:
        return
    encoder = row.encoder(stream_end=end_record)
    data = encoder.start() + encoder.encode(RECORDS) + encoder.finish()
    by_records = [items_of(name, path, RECORDS[:count]) for count in range(len(RECORDS) + 1)]
    told = 0
    for cut in range(len(data) + 1):
        for size in (1, 7, len(data)):
            decoder = row.decoder(path)
            if end_record and row.end_record is not None:
                decoder = StreamEndDecoder(decoder, row.end_record)
            came: list[Any] = []
            for start in range(0, cut, size):
                came += decoder.feed(data[start : min(cut, start + size)])
            whole = decoder.whole_records
            if whole is not None:
                told += 1
                assert came == by_records[whole], (cut, size, whole)
    in_document = name == "json" and path not in ("", "item")
    assert (told == 0) == in_document
    if name in ("ndjson", "sse") or (path in ("", "item") and name == "json"):
        assert told == 3 * (len(data) + 1)  # at every cut


@pytest.mark.parametrize("name", ["csv", "text"])
def test_what_has_no_records_tells_none(name: str) -> None:
    decoder = FORMATS[name].decoder()
    assert decoder.feed(b"a\n1\n") != []
    assert decoder.whole_records is None
