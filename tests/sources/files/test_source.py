"""sources/files/source.py: reading may start at any item without reading the file from its beginning."""

import errno
import gzip
import io
import itertools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, LimitError, PathNotFound, StreamError, TruncatedError, UnknownFormat
from chunkwise.formats import FORMATS
from chunkwise.sources.files import file_source
from chunkwise.sources.files import index as file_index
from chunkwise.sources.files import source as files
from chunkwise.sources.files.index import FileVersion
from chunkwise.sources.files.source import _lists, _Wanted
from chunkwise.sources.resumable import Resumable
from tests.formats.samples import ITEMS, NAMES, written
from tests.needs import needs_linux
from tests.sources.reading import items_from, written_file
from tests.tables import check_rows_async, cross, named

MEBIBYTE = 2**20


async def items_and_error(file: Path, format: str, start: int, path: str = "") -> tuple[list[Any], Exception | None]:
    items: list[Any] = []
    try:
        async for batch in file_source(file, format, path, required=bool(path)).start(start).lists:
            assert batch
            items += batch
    except (StreamError, OSError) as error:
        return items, error
    return items, None


def joined(lists: Iterator[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(lists))


# --- the same items as from the start

ROWS = [{"n": index, "name": f"é{index}\n"} for index in range(20)]
TEXTS: dict[str, tuple[str, str, str]] = {
    "array": ("json", "", json.dumps(ROWS, indent=1, ensure_ascii=False)),
    "inside": ("json", "users.item", json.dumps({"n": [1], "users": ROWS, "end": [2]}, ensure_ascii=False)),
    "brackets": (
        "json",
        "a.b.item",
        json.dumps({"x": '"]}', "a": {"[": '\\"]', "b": ['[{"', "\\", '\\"],', "]}", "😀", {"b": ["}", '"']}] * 4}}),
    ),
    "members": ("json", "users.item.name", json.dumps({"users": ROWS, "item": {"name": 1}})),
    "blank lines": ("ndjson", "", "\n\n" + "".join(f"{json.dumps(row)}\n\r\n \n" for row in ROWS)),
    "CR LF": ("ndjson", "", "\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)),
    "inside lines": ("ndjson", "a.item", '{"a": [1, 2]}\n{"b": 3}\n{"a": []}\n{"a": ["é", 4, 5]}\n' * 5),
    "quoted line ends": ("csv", "", '"a, ""b""\r\n",c\r\n' + "".join(f'"é""\r\n,{n}",x\n\r\n,\r\n' for n in range(9))),
    "a column": ("csv", "b", "a,b\n" + "".join(f"{n},é{n}\n" for n in range(20))),
    "sequence": ("json-seq", "", "".join(f"\x1e\x1e{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS)),
    "inside a sequence": ("json-seq", "item", "".join(f"\x1e[{n}, {n}, 0]\n" for n in range(9))),
    "events": ("sse", "", "".join(f": x\r\nid: {n}\r\ndata: {n}\r\n\r\n" for n in range(20))),
    "lines": ("text", "", "".join(f"{n}é\r\n\n\ufeff\n" for n in range(9))),
}


async def test_reading_may_start_at_any_item(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(bom: str, block_bytes: int, what: str) -> None:
        shutil.rmtree(small, ignore_errors=True)
        monkeypatch.setattr(files, "_BLOCK_BYTES", block_bytes)
        name, path, text = TEXTS[what]
        file = written_file(tmp_path, bom + text)
        whole = await items_from(file, name, 0, path)
        assert len(whole) >= 18
        assert small.exists() == (name != "sse")
        version = FileVersion.of(file.stat())
        for start in range(len(whole) + 3):
            # The same work as in the thread of a source, but without many calls to a thread.
            assert joined(_lists(_Wanted(file, FORMATS[name], path, False, start, version))) == whole[start:]
        assert await items_from(file, name, 3, path) == whole[3:]

    await check_rows_async(
        cross({"plain": "", "byte order mark": "\ufeff"}, named([1, 7, 64]), named(TEXTS)), check, at_once=1
    )


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_random_file_may_start_at_any_item(name: str, data: st.DataObject) -> None:
    """Reading one item builds an index, which is then used to find the other items."""
    stream = "\ufeff".encode() * data.draw(st.integers(0, 1)) + written(name, data.draw(ITEMS[name]))
    order = data.draw(st.permutations(range(6)))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHUNKWISE_CACHE", folder)
        patch.setattr(files, "_BLOCK_BYTES", data.draw(st.integers(1, 40)))
        file = Path(folder, "file")
        file.write_bytes(stream)
        whole = joined(_lists(_Wanted(file, FORMATS[name], "", required=False)))
        patch.setattr(file_index, "_SPACING_BYTES", data.draw(st.integers(1, 40)))
        version = FileVersion.of(file.stat())
        for start in order:
            got = joined(_lists(_Wanted(file, FORMATS[name], "", False, start, version)))
            assert repr(got) == repr(whole[start:])


async def test_max_items_counts_from_start_of_file(tmp_path: Path, small: Path) -> None:
    file = written_file(tmp_path, "".join(f"{number}\n" for number in range(100)))
    for start, rest in ((0, list(range(50))), (48, [48, 49]), (50, []), (51, []), (200, [])):
        assert await items_from(file, "ndjson", start, max_items=50) == rest


async def test_required_path_may_be_before_the_start(tmp_path: Path, small: Path) -> None:
    file = written_file(tmp_path, json.dumps({"users": [{"a": n} for n in range(20)] + [{"b": 1}] * 20}))
    whole = await items_from(file, "json", 0, "users.item.a", required=True)
    assert len(whole) == 20
    for start in (19, 20, 30):
        assert await items_from(file, "json", start, "users.item.a", required=True) == whole[start:]
        with pytest.raises(PathNotFound):
            await items_from(file, "json", start, "users.item.c", required=True)
    lines = written_file(tmp_path, '{"a": 1}\n' * 20 + '{"b": 1}\n' * 20)
    await items_from(lines, "ndjson", 0, "a", required=True)
    assert await items_from(lines, "ndjson", 20, "a", required=True) == []


# --- without reading the start


class Counted(io.FileIO):
    """A file that counts the bytes read."""

    bytes_read = 0

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        Counted.bytes_read += count or 0
        return count

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        Counted.bytes_read += len(data)
        return data


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(files, "_opened", lambda wanted: io.BufferedReader(Counted(wanted.path, "rb")))
    Counted.bytes_read = 0
    return Counted


BIG = 16 * MEBIBYTE  # the distance between checkpoints is one MiB
COUNT = BIG // 860
PAD = "é" * 400


def big(format: str) -> Iterator[str]:
    if format == "json":
        yield '{"before": [' + "1, " * 1000 + '2], "users": ['
        for n in range(COUNT):
            yield "," * (n > 0) + f'{{"n": {n}, "pad": "{PAD}"}}\n'
        yield '], "behind": 0}'
    elif format == "csv":
        yield "n,pad\n"
        for n in range(COUNT):
            yield f'{n},"{PAD}\n"\n'
    else:
        for n in range(COUNT):
            yield ("\x1e" if format == "json-seq" else "") + f'{{"n": {n}, "pad": "{PAD}"}}\n'


def number_in(item: Any) -> int:
    """Return the number in a row of a large file, in any format."""
    row = json.loads(item) if isinstance(item, str) else item
    return int(row["n"] if isinstance(row, dict) else row)


async def test_last_item_of_large_file_is_found_fast(tmp_path: Path, cache: Path, counted: type[Counted]) -> None:
    async def check(format: str, path: str) -> None:
        seed = random.randrange(10**6)
        print("seed", seed)  # noqa: T201 - shown where the test fails
        shutil.rmtree(cache, ignore_errors=True)
        counted.bytes_read = 0
        file = tmp_path / "file"
        file.write_text("".join(big(format)), newline="")
        size = file.stat().st_size
        assert size > BIG * 0.9
        assert len(await items_from(file, format, COUNT - 2, path)) == 2
        assert counted.bytes_read >= size  # there is no index yet: the whole file is read, and an index is saved
        for start in (COUNT - 2, COUNT // 2, *random.Random(seed).sample(range(COUNT - 2), 20)):
            counted.bytes_read = 0
            got = await items_from(file, format, start, path, max_items=start + 2)
            assert [number_in(item) for item in got] == [start, start + 1]
            assert counted.bytes_read < 1.5 * MEBIBYTE
        assert sum(kept.stat().st_size for kept in cache.iterdir()) < 4096

    await check_rows_async(
        named(
            [
                ("json", "users.item"),
                ("json", "users.item.n"),
                ("ndjson", ""),
                ("ndjson", "n"),
                ("json-seq", ""),
                ("csv", ""),
                ("text", ""),
            ]
        ),
        check,
        at_once=1,
    )


async def test_abandoned_reading_saves_index(tmp_path: Path, cache: Path, counted: type[Counted]) -> None:
    file = written_file(tmp_path, "".join(f"{number:1023}\n" for number in range(10 * 1024)))
    lists = file_source(file, "ndjson").start(0).lists
    received = 0
    async for batch in lists:
        received += len(batch)
        if received > 5 * 1024:
            break
    await lists.aclose()
    counted.bytes_read = 0
    assert (await items_from(file, "ndjson", 4 * 1024, max_items=4 * 1024 + 1)) == [4 * 1024]
    assert counted.bytes_read < 1.5 * MEBIBYTE


async def test_index_is_saved_while_reading(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a process is killed, the last saved index remains."""
    monkeypatch.setattr(files, "_SAVE_BYTES", MEBIBYTE)
    file = written_file(tmp_path, "".join(f"{number:1023}\n" for number in range(10 * 1024)))
    lists = aiter(file_source(file, "ndjson").start(0).lists)
    while not cache.exists():
        await anext(lists)
    await lists.aclose()


# --- errors count from the start of the file


async def test_error_offset_counts_from_start_of_file(tmp_path: Path, small: Path) -> None:
    async def check(format: str, path: str, good: str, bad: str | bytes, kind: type[StreamError]) -> None:
        shutil.rmtree(small, ignore_errors=True)
        file = written_file(tmp_path, good.encode() + (bad if isinstance(bad, bytes) else bad.encode()))
        items, error = await items_and_error(file, format, 0, path)
        assert type(error) is kind
        for start in range(0, len(items) + 1, 3):
            rest, again = await items_and_error(file, format, start, path)
            assert rest == items[start:]
            assert type(again) is kind
            assert str(again) == str(error)
            assert vars(again) == vars(error)

    await check_rows_async(
        {
            "invalid line": ("ndjson", "", '{"é": 1}\n' * 30, "oops\n", DecodeError),
            "line too deep": ("ndjson", "", '{"é": 1}\n' * 30, "[" * 600 + "\n", LimitError),
            "invalid JSON": ("json", "a.item", '{"a": [' + '"é", ' * 30, "oops", DecodeError),
            "truncated JSON": ("json", "", "[" + '"é", ' * 30, "{", TruncatedError),
            "row with too many cells": ("csv", "", "a,b\n" + "é,1\n" * 30, "1,2,3\n", DecodeError),
            "open quote": ("csv", "", "a,b\n" + "é,1\n" * 30, '1,"2', TruncatedError),
            "invalid record": ("json-seq", "", '\x1e"é"\n' * 30, "\x1eoops\n", DecodeError),
            "invalid UTF-8": ("text", "", "é\n" * 30, b"\xff", DecodeError),
        },
        check,
        at_once=1,
    )


async def test_error_before_requested_item_is_raised(tmp_path: Path, small: Path) -> None:
    items, error = await items_and_error(written_file(tmp_path, "1\n2\n3\noops\n5\n"), "ndjson", 4)
    assert items == []
    assert isinstance(error, DecodeError)
    assert (error.item_index, error.byte_offset) == (3, 6)


# --- versions


async def test_changed_file_has_new_etag_and_index(tmp_path: Path, small: Path) -> None:
    file = written_file(tmp_path, "10\n20\n30\n40\n50\n60\n")
    old = file_source(file, "ndjson")
    stat = file.stat()
    assert old.etag == f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    assert await items_from(file, "ndjson", 4) == [50, 60]
    written_file(tmp_path, "1\n2\n3\n4\n5\n6\n7\n8\n9\n")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert stat.st_size == file.stat().st_size
    assert file_source(file, "ndjson").etag not in (None, old.etag)
    assert await items_from(file, "ndjson", 4) == [5, 6, 7, 8, 9]
    with pytest.raises(OSError, match="has changed") as raised:
        await anext(old.start(4).lists)
    assert (raised.value.errno, raised.value.filename) == (errno.ESTALE, str(file))


def more_is_written(file: Path) -> None:
    with file.open("a") as writing:
        writing.write("7\n")


def it_is_written_over(file: Path) -> None:
    file.write_text("4\n5\n6\n" * 100)
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))  # both writes may be within one tick of the clock


def it_is_written_over_and_its_time_set_back(file: Path) -> None:
    before = file.stat()
    with file.open("r+b") as writing:
        writing.write(b"4\n5\n6\n" * 100)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FileVersion.of(file.stat()).etag == FileVersion.of(before).etag


@pytest.mark.parametrize(
    "change",
    [
        more_is_written,
        it_is_written_over,
        it_is_written_over_and_its_time_set_back,
        lambda file: file.write_text(""),
        lambda file: os.truncate(file, 599),
    ],
)
async def test_file_changed_while_reading_is_an_error(
    tmp_path: Path, small: Path, change: Callable[[Path], object]
) -> None:
    content = [1, 2, 3] * 100
    file = written_file(tmp_path, "".join(f"{number}\n" for number in content))
    for most in (None, 200):
        source = file_source(file, "ndjson", max_items=most)
        items: list[Any] = []

        async def read(source: Resumable = source, items: list[Any] = items) -> None:
            async for batch in source.start(0):
                if not items:
                    change(file)
                items.extend(batch)

        with pytest.raises(OSError, match="has changed"):
            await read()
        assert items == content[: len(items)]
        assert not small.exists()  # the checkpoints of another version
        written_file(tmp_path, "".join(f"{number}\n" for number in content))


async def test_replaced_file_is_read_to_its_end(tmp_path: Path, small: Path) -> None:
    """An open file stays readable after another file has replaced it."""
    file = written_file(tmp_path, "1\n2\n3\n" * 100)
    other = tmp_path / "other"
    other.write_text("4\n")
    items: list[Any] = []
    async for batch in file_source(file, "ndjson").start(0):
        if not items:
            other.replace(file)
        items += batch
    assert items == [1, 2, 3] * 100
    assert await items_from(file, "ndjson", 0) == [4]


@pytest.mark.parametrize(
    "rename",
    [
        lambda file: file.rename(file.with_name("old")),
        lambda file: file.with_name("second").hardlink_to(file),
        lambda file: file.unlink(),
    ],
)
async def test_renamed_or_deleted_file_is_read_to_its_end(
    tmp_path: Path, small: Path, rename: Callable[[Path], object]
) -> None:
    file = written_file(tmp_path, "1\n2\n3\n" * 100)
    items: list[Any] = []
    async for batch in file_source(file, "ndjson").start(0):
        if not items:
            rename(file)
        items += batch
    assert items == [1, 2, 3] * 100


async def test_restored_time_does_not_hide_a_change(tmp_path: Path, small: Path) -> None:
    file = written_file(tmp_path, "1\n2\n3\n4\n5\n6\n")
    source = file_source(file, "ndjson")
    assert await items_from(file, "ndjson", 0) == [1, 2, 3, 4, 5, 6]  # builds an index
    before = file.stat()
    with file.open("r+b") as writing:
        writing.write(b"10\n20\n30\n40\n"[:12])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [item async for batch in source.start(3) for item in batch] == [40]


@needs_linux
async def test_pipe_replacing_file_does_not_block(tmp_path: Path, small: Path) -> None:
    file = written_file(tmp_path, "1\n")
    lists = file_source(file, "ndjson").start(0)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="has changed") as raised:
        await anext(aiter(lists))
    assert raised.value.errno == errno.ESTALE


async def test_compressed_file_is_refused(tmp_path: Path, small: Path) -> None:
    file = written_file(tmp_path, gzip.compress(b"1\n2\n"))
    for name in NAMES:
        items, error = await items_and_error(file, name, 1)
        assert items == []
        message = "the file is compressed with gzip, expected an uncompressed file: decompress it first"
        assert str(error) == f"{message} (format {name}, item 0, byte 0)"


async def test_pipe_as_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="regular file"):
        file_source(tmp_path, "json")
    with pytest.raises(FileNotFoundError):
        file_source(tmp_path / "nothing", "json")
    with pytest.raises(UnknownFormat):
        file_source(written_file(tmp_path, "1"), "xml")
