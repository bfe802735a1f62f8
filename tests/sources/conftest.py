"""A cache folder of each test's own, and places so near to each other that small files have some."""

from pathlib import Path

import pytest

from chunkwise.sources.files import index as file_index
from chunkwise.sources.files import source as files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache of its own."""
    monkeypatch.setenv("CHUNKWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "file-indexes"


@pytest.fixture
def small(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Places as near to each other as blocks are, and small blocks; the folder of the cache."""
    monkeypatch.setattr(file_index, "_SPACING_BYTES", 1)
    monkeypatch.setattr(files, "_BLOCK_BYTES", 7)
    return cache
