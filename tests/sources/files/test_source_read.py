"""sources/files/source.py, `read_file`: a file -> batches of its items, and its errors."""

import json
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from chunkwise.errors import DecodeError, LimitError, PathNotFound, TruncatedError
from chunkwise.formats import FORMATS
from chunkwise.sources.files import read_file
from tests.needs import DATA, needs_data, needs_linux
from tests.tables import check_rows_async, named

BLOCK_BYTES = 64 * 1024


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "file"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


async def items_of(file: Path, format: str, path: str = "", **options: Any) -> list[Any]:
    return [item async for batch in read_file(file, FORMATS[format], path, **options) for item in batch]


async def items_and_error(file: Path, format: str, **options: Any) -> tuple[list[Any], Exception | None]:
    items: list[Any] = []
    try:
        async for batch in read_file(file, FORMATS[format], **options):
            items += batch
    except (DecodeError, PathNotFound, OSError) as error:
        return items, error
    return items, None


ROWS = [{"a": "é", "b": "2"}, {"a": "x", "b": "y"}]


@pytest.mark.parametrize(
    ("format", "content"),
    [
        ("json", json.dumps(ROWS)),
        ("ndjson", "\n".join(map(json.dumps, ROWS))),
        ("json-seq", "".join(f"\x1e{json.dumps(row)}\n" for row in ROWS)),
        ("sse", "".join(f"data: {json.dumps(row)}\n\n" for row in ROWS)),
        ("csv", "\ufeffa,b\r\né,2\r\nx,y"),
    ],
)
async def test_file_of_any_format_is_read(tmp_path: Path, format: str, content: str) -> None:
    assert await items_of(written(tmp_path, content), format) == ROWS


async def test_last_line_of_file_needs_no_line_end(tmp_path: Path) -> None:
    file = written(tmp_path, "1\n23")
    assert await items_of(file, "ndjson") == [1, 23]
    assert await items_of(file, "text") == ["1", "23"]
    assert await items_of(written(tmp_path, "123"), "json") == [123]


@pytest.mark.parametrize("format", ["ndjson", "json-seq", "sse", "csv", "text"])
async def test_empty_file_has_no_items(tmp_path: Path, format: str) -> None:
    assert await items_of(written(tmp_path, ""), format) == []


async def test_empty_file_is_truncated_json(tmp_path: Path) -> None:
    items, error = await items_and_error(written(tmp_path, ""), "json")
    assert (items, type(error)) == ([], TruncatedError)


@needs_data("movies.json")
async def test_large_file_is_read_in_many_batches(tmp_path: Path) -> None:
    batches = [batch async for batch in read_file(DATA / "movies.json", FORMATS["json"])]
    assert sum(batches, []) == json.loads((DATA / "movies.json").read_bytes())  # noqa: RUF017 - a few dozen
    assert len(batches) >= (DATA / "movies.json").stat().st_size // BLOCK_BYTES
    assert all(batches)


async def test_path_selects_the_items_of_the_file(tmp_path: Path) -> None:
    assert await items_of(written(tmp_path, '{"users": [{"n": 1}, {"n": 2}]}'), "json", "users.item.n") == [1, 2]


async def test_missing_required_path_is_an_error(tmp_path: Path) -> None:
    file = written(tmp_path, '{"users": [1]}')
    assert await items_of(file, "json", "nothing.item") == []
    with pytest.raises(PathNotFound, match=r"nothing\.item"):
        await items_of(file, "json", "nothing.item", required=True)


# --- a limit


async def test_max_items_limits_the_number_of_items(tmp_path: Path) -> None:
    numbers = list(range(40_000))
    file = written(tmp_path, json.dumps(numbers))

    async def check(count: int) -> None:
        assert await items_of(file, "json", max_items=count) == numbers[:count]

    await check_rows_async(named([0, 1, 9_999, 10_000, 10_001, 50_000, 10**18]), check)


async def test_error_after_max_items_is_ignored(tmp_path: Path) -> None:
    assert await items_of(written(tmp_path, "[1, 2, oops"), "json", max_items=2) == [1, 2]
    far = written(tmp_path, "[1, 2, " + " " * 10 * BLOCK_BYTES + "oops")
    assert await items_of(far, "json", max_items=2) == [1, 2]


async def test_error_before_max_items_is_raised(tmp_path: Path) -> None:
    items, error = await items_and_error(written(tmp_path, "[1, 2, oops"), "json", max_items=3)
    assert (items, type(error)) == ([1, 2], DecodeError)


# --- errors


@pytest.mark.parametrize(
    ("content", "items", "kind", "offset"),
    [
        ("[1, 2, oops]", [1, 2], DecodeError, 7),
        ("[1, 2", [1], TruncatedError, None),
        ("[1, 2,", [1, 2], TruncatedError, None),
        ("[1, " + "[" * 600, [1], LimitError, 515),
        (b'[1, "\xff"]', [1], DecodeError, 5),
    ],
)
async def test_items_before_error_are_returned(
    tmp_path: Path, content: str | bytes, items: list[Any], kind: type[DecodeError], offset: int | None
) -> None:
    received, error = await items_and_error(written(tmp_path, content), "json")
    assert received == items
    assert type(error) is kind
    assert error.byte_offset == offset


async def test_items_before_error_in_later_block_are_returned(tmp_path: Path) -> None:
    lines = "".join(f"{number}\n" for number in range(100_000))
    items, error = await items_and_error(written(tmp_path, lines + "oops\n7\n"), "ndjson")
    assert items == list(range(100_000))
    assert isinstance(error, DecodeError)
    assert (error.item_index, error.byte_offset) == (100_000, len(lines))


@pytest.mark.parametrize(("name", "kind"), [("nothing", FileNotFoundError), (".", IsADirectoryError)])
async def test_unreadable_file_raises_oserror(tmp_path: Path, name: str, kind: type[OSError]) -> None:
    source = read_file(tmp_path / name, FORMATS["json"])
    with pytest.raises(kind):
        await anext(aiter(source))


# --- the file is closed


def is_open(file: Path) -> bool:
    descriptors = Path("/proc/self/fd")
    return str(file) in {str(path.readlink()) for path in descriptors.iterdir() if path.is_symlink()}


@needs_linux
@pytest.mark.parametrize("content", ["[1, 2]", "[1, oops", "[1, 2" + ", 3" * 5 * BLOCK_BYTES])
@pytest.mark.parametrize("limit", [None, 1])
async def test_file_is_closed_however_reading_ends(tmp_path: Path, content: str, limit: int | None) -> None:
    file = written(tmp_path, content)
    await items_and_error(file, "json", max_items=limit)
    assert not is_open(file)


@needs_linux
async def test_file_is_closed_when_reader_stops(tmp_path: Path) -> None:
    file = written(tmp_path, "1\n" * 50 * BLOCK_BYTES)
    async with aclosing(aiter(read_file(file, FORMATS["ndjson"]))) as batches:
        assert await anext(batches)
        assert is_open(file)
    assert not is_open(file)


async def test_file_is_opened_with_the_first_read(tmp_path: Path) -> None:
    file = tmp_path / "later"
    source = read_file(file, FORMATS["ndjson"])
    file.write_bytes(b"1\n")
    assert [batch async for batch in source] == [[1]]


async def test_thread_that_reads_the_file_ends(tmp_path: Path) -> None:
    await items_of(written(tmp_path, "[1]"), "json")
    await items_of(written(tmp_path, "[1, 2, 3]"), "json", max_items=1)
    for thread in threading.enumerate():
        if thread.name.startswith("chunkwise-source"):
            thread.join(30)
            assert not thread.is_alive()
