"""The index itself: sparse, bounded, and the same after it was written."""

from pathlib import Path

from chunkwise.formats.contract import Checkpoint
from chunkwise.sources import file_index
from chunkwise.sources.file_index import FileVersion

MEBIBYTE = 2**20


def test_an_index_of_a_very_large_file_is_small(tmp_path: Path) -> None:
    key = file_index.IndexKey.of(tmp_path, "csv", "")
    index = file_index.FileIndex(key, FileVersion(10**13, 1, 1))
    before = b'"a","b"\r\n' * 100
    items = range(1, 100_000)
    for number in items:
        index.add(Checkpoint(number * MEBIBYTE, number, before))
    assert 2000 < len(index) <= 4096
    assert len(index.to_bytes()) < 100_000
    again = file_index.FileIndex.from_bytes(index.to_bytes(), key, index.version)
    assert again is not None
    assert again.to_bytes() == index.to_bytes()
    for number in (0, 1, 31, 5000, 99_999, 10**9):
        place = index.place_before(number)
        assert place.item_index <= number
        assert min(number, 99_999) - place.item_index <= 2 * 99_999 / len(index)


def test_an_index_takes_no_more_than_it_may_hold(tmp_path: Path) -> None:
    index = file_index.FileIndex(file_index.IndexKey.of(tmp_path, "csv", ""), FileVersion(10**13, 1, 1))
    index.add(Checkpoint(MEBIBYTE, 1, b"1" * 65_537))
    assert not len(index)
    for number in range(1, 100):
        index.add(Checkpoint(number * MEBIBYTE, number, b"%d" % number))
    assert len(index) == 16
    index.add(Checkpoint(17 * MEBIBYTE - 1, 201, b"1"))
    assert len(index) == 16
