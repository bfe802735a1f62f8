"""sources/files/cache.py: damaged, outdated, unwritable or too many indexes never raise an error."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from chunkwise.formats.contract import Checkpoint
from chunkwise.sources.files import cache as index_cache
from chunkwise.sources.files import index as file_index
from chunkwise.sources.files.index import FileVersion
from tests.needs import needs_linux
from tests.sources.reading import LINES, items_from, kept_in, written_file


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:40],
        lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        lambda data: b"x" + data[1:],
        lambda data: data + b"\n",
    ],
)
async def test_damaged_index_is_rebuilt(tmp_path: Path, small: Path, damage: Any) -> None:
    file = written_file(tmp_path, LINES)
    await items_from(file, "ndjson", 0)
    kept = kept_in(small)
    good = kept.read_bytes()
    kept.write_bytes(damage(good))
    assert await items_from(file, "ndjson", 90) == list(range(90, 100))
    assert kept.read_bytes() == good


@needs_linux
@pytest.mark.parametrize("device", [None, "/dev/zero"])
async def test_pipe_or_device_as_index_is_ignored(tmp_path: Path, small: Path, device: str | None) -> None:
    file = written_file(tmp_path, LINES)
    await items_from(file, "ndjson", 0)
    kept = kept_in(small)
    kept.unlink()
    if device is None:
        os.mkfifo(kept)
    else:
        kept.symlink_to(device)
    assert await items_from(file, "ndjson", 90) == list(range(90, 100))
    assert kept.is_file()


async def test_index_belongs_to_file_format_and_path(tmp_path: Path, small: Path) -> None:
    file = written_file(tmp_path, LINES)
    other = tmp_path / "other"
    other.write_text(LINES)
    await items_from(file, "ndjson", 0)
    await items_from(file, "text", 0)
    await items_from(other, "text", 0)
    await items_from(written_file(tmp_path, '{"a": 1}\n' * 20), "ndjson", 0, "a")
    assert len(list(small.iterdir())) == 4


@needs_linux
@pytest.mark.parametrize("folder", ["/proc/nothing", "", "\0"])
async def test_unwritable_cache_folder_is_ignored(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    file = written_file(tmp_path, LINES)
    if folder == "\0":
        (tmp_path / "taken").write_text("")
        folder = str(tmp_path / "taken")
    monkeypatch.setenv("CHUNKWISE_CACHE", folder)
    for _ in range(2):
        assert await items_from(file, "ndjson", 90) == list(range(90, 100))


async def test_cache_keeps_recently_used_indexes(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "_MAX_FILES", 3)
    for name in "abcde":
        (tmp_path / name).write_text(LINES)
        await items_from(tmp_path / name, "ndjson", 0)
        for age, kept in enumerate(sorted(small.iterdir(), key=lambda kept: kept.stat().st_mtime_ns, reverse=True)):
            os.utime(kept, (1000 - age, 1000 - age))
        assert (small / file_index.IndexKey.of(tmp_path / "a", "ndjson", "").name).exists()
        await items_from(tmp_path / "a", "ndjson", 5)  # recently used, so the others are removed first
    assert len(list(small.iterdir())) == 3


async def test_shorter_index_does_not_replace_longer_one(tmp_path: Path, small: Path) -> None:
    file = written_file(tmp_path, LINES)
    key, version = file_index.IndexKey.of(file, "ndjson", ""), FileVersion.of(file.stat())
    short = index_cache.load(key, version)
    await items_from(file, "ndjson", 0)
    far = kept_in(small).read_bytes()
    short.add(Checkpoint(4, 2, b""))
    index_cache.save(short)
    assert kept_in(small).read_bytes() == far


READER = """
import asyncio, sys
from pathlib import Path
from chunkwise.sources.files import index as file_index, source as files

file_index._SPACING_BYTES, files._BLOCK_BYTES, files._SAVE_BYTES = 128, 128, 128


async def read():
    print("ready", flush=True)
    sys.stdin.readline()
    for start in (0, 5_000, 19_990):
        lists = files.file_source(Path(sys.argv[1]), "ndjson").start(start)
        assert [item async for batch in lists for item in batch] == list(range(start, 20_000))


asyncio.run(read())
"""


def test_processes_may_build_the_same_index(tmp_path: Path, cache: Path) -> None:
    """Each process writes the same index several hundred times."""
    file = written_file(tmp_path, "".join(f"{number}\n" for number in range(20_000)))
    with ExitStack() as started:
        readers = [
            started.enter_context(
                subprocess.Popen([sys.executable, "-c", READER, str(file)], stdin=PIPE, stdout=PIPE, stderr=PIPE)
            )
            for _ in range(4)
        ]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"ready\n"
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write(b"go\n")
            reader.stdin.flush()
        assert [(reader.communicate()[1], reader.returncode) for reader in readers] == [(b"", 0)] * 4
    key, version = file_index.IndexKey.of(file, "ndjson", ""), FileVersion.of(file.stat())
    assert kept_in(cache).name == key.name  # no temporary file is left
    assert index_cache.load(key, version).end > file.stat().st_size - 4096


def test_cache_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CHUNKWISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert index_cache._folder() == tmp_path / ".cache" / "chunkwise" / "file-indexes"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert index_cache._folder() == tmp_path / "caches" / "chunkwise" / "file-indexes"
    monkeypatch.setenv("CHUNKWISE_CACHE", str(tmp_path / "own"))
    assert index_cache._folder() == tmp_path / "own" / "file-indexes"
    monkeypatch.setenv("CHUNKWISE_CACHE", "")
    assert index_cache._folder() is None


def test_nothing_is_cached_without_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CHUNKWISE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert index_cache._folder() is None
