"""Fixtures: a cache folder for each test, and small distances between checkpoints, so that small files have some."""

from pathlib import Path

import pytest

from chunkwise.sources.files import index as file_index
from chunkwise.sources.files import source as files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a separate cache; return its folder."""
    monkeypatch.setenv("CHUNKWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "file-indexes"


@pytest.fixture
def small(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use small blocks with a checkpoint in each of them; return the folder of the cache."""
    monkeypatch.setattr(file_index, "_SPACING_BYTES", 1)
    monkeypatch.setattr(files, "_BLOCK_BYTES", 7)
    return cache
