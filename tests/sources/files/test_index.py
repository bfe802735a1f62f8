"""sources/files/index.py: the size of an index is limited, and it is loaded as it was saved."""

from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from chunkwise.formats.contract import Checkpoint
from chunkwise.sources.files import cache as index_cache
from chunkwise.sources.files import index as file_index
from chunkwise.sources.files.index import FileIndex, FileVersion, IndexKey
from tests.sources.reading import LINES, items_from, kept_in, written_file

MEBIBYTE = 2**20


def test_index_of_large_file_is_small(tmp_path: Path) -> None:
    key = IndexKey.of(tmp_path, "csv", "")
    index = FileIndex(key, FileVersion(10**13, 1, 1))
    before = b'"a","b"\r\n' * 100
    items = range(1, 100_000)
    for number in items:
        index.add(Checkpoint(number * MEBIBYTE, number, before))
    assert 2000 < len(index) <= 4096
    assert len(index.to_bytes()) < 100_000
    again = FileIndex.from_bytes(index.to_bytes(), key, index.version)
    assert again is not None
    assert again.to_bytes() == index.to_bytes()
    for number in (0, 1, 31, 5000, 99_999, 10**9):
        place = index.place_before(number)
        assert place.item_index <= number
        assert min(number, 99_999) - place.item_index <= 2 * 99_999 / len(index)


def test_number_of_checkpoints_is_limited(tmp_path: Path) -> None:
    index = FileIndex(IndexKey.of(tmp_path, "csv", ""), FileVersion(10**13, 1, 1))
    index.add(Checkpoint(MEBIBYTE, 1, b"1" * 65_537))
    assert not len(index)
    for number in range(1, 100):
        index.add(Checkpoint(number * MEBIBYTE, number, b"%d" % number))
    assert len(index) == 16
    index.add(Checkpoint(17 * MEBIBYTE - 1, 201, b"1"))
    assert len(index) == 16


# --- invalid indexes


VERSION = FileVersion(10**9, 1, 1)


def written(file: Path) -> bytes:
    index = FileIndex(IndexKey.of(file, "csv", "a.b"), VERSION)
    index.add(Checkpoint(MEBIBYTE, 5, b"a,b\n"))
    return index.to_bytes()


@pytest.mark.parametrize(
    ("file", "format", "path", "version"),
    [
        ("b", "csv", "a.b", VERSION),
        ("a", "ndjson", "a.b", VERSION),
        ("a", "csv", "a", VERSION),
        ("a", "csv", "a.b", VERSION._replace(size=10**9 + 1)),
        ("a", "csv", "a.b", VERSION._replace(modified_ns=2)),
        ("a", "csv", "a.b", VERSION._replace(changed_ns=2)),
    ],
)
def test_index_of_another_file_is_ignored(
    tmp_path: Path, file: str, format: str, path: str, version: FileVersion
) -> None:
    own, key = IndexKey.of(tmp_path / "a", "csv", "a.b"), IndexKey.of(tmp_path / file, format, path)
    data = written(tmp_path / "a")
    assert FileIndex.from_bytes(data, own, VERSION) is not None
    assert FileIndex.from_bytes(data, key, version) is None
    assert (key.name == own.name) is (key == own)


def test_changed_byte_in_index_is_detected(tmp_path: Path) -> None:
    key, data = IndexKey.of(tmp_path / "a", "csv", "a.b"), written(tmp_path / "a")
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert FileIndex.from_bytes(damaged, key, VERSION) is None


async def test_invalid_index_with_checksum_is_rebuilt(tmp_path: Path, small: Path) -> None:
    file = written_file(tmp_path, LINES)
    await items_from(file, "ndjson", 0)
    kept = kept_in(small)
    good = kept.read_bytes()
    for data in (b"", b"\xc1", b"\x90", good[16:].replace(b"\x01", b"\x02", 1)):
        kept.write_bytes(file_index._digest(data) + data)
        assert await items_from(file, "ndjson", 90) == list(range(90, 100))
        assert kept.read_bytes() == good


async def test_impossible_checkpoints_are_rebuilt(tmp_path: Path, small: Path) -> None:
    """An index of a file with 290 bytes and 100 items."""
    file = written_file(tmp_path, LINES)
    await items_from(file, "ndjson", 0)
    kept = kept_in(small)
    good = kept.read_bytes()
    version, key, file_version, *_ = msgspec.msgpack.decode(good[16:])
    most = file_index._MAX_PLACES
    for spacing, befores, places in (
        (1, [b""], [(-5, 30, 0)]),
        (1, [b""], [(80, -3, 0)]),
        (1, [b""], [(0, 3, 0)]),
        (1, [b""], [(291, 90, 0)]),
        (1, [b""], [(2**63, 90, 0)]),
        (1, [b""], [(290, 291, 0)]),
        (1, [b""], [(80, 30, 0), (20, 40, 0)]),
        (1, [b""], [(20, 40, 0), (80, 30, 0)]),
        (1, [b""], [(20, 10, 1)]),
        (1, [b"", b"1\n"], [(20, 10, -1)]),
        (1, [b"", b""], [(20, 10, 0)]),
        (1, [bytes([number]) for number in range(17)], []),
        (1, [b"x" * (64 * 1024 + 1)], []),
        (1, [b""], [(20, 10, 0)] * (most + 1)),
        (0, [b""], []),
        (291, [b""], []),
    ):
        data = msgspec.msgpack.encode([version, key, file_version, spacing, befores, places])
        kept.write_bytes(file_index._digest(data) + data)
        assert len(index_cache.load(IndexKey.of(file, "ndjson", ""), FileVersion.of(file.stat()))) == 0
        assert await items_from(file, "ndjson", 90) == list(range(90, 100))
        assert kept.read_bytes() == good


# --- versions


async def test_etag_of_file_is_that_of_aiohttp(tmp_path: Path) -> None:
    file = written_file(tmp_path, LINES)

    async def send_file(_: web.Request) -> web.FileResponse:
        return web.FileResponse(file)

    app = web.Application()
    app.router.add_get("/", send_file)
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        assert response.headers["ETag"] == f'"{FileVersion.of(file.stat()).etag}"'
