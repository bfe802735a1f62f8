"""A file and a first item -> the items from there on."""

from pathlib import Path
from typing import Any

from chunkwise.sources.files import file_source

LINES = "".join(f"{number}\n" for number in range(100))


async def items_from(file: Path, format: str, start: int, path: str = "", **options: Any) -> list[Any]:
    source = file_source(file, format, path, **options).start(start)
    return [item async for batch in source.lists for item in batch]


def written_file(folder: Path, content: str | bytes) -> Path:
    file = folder / "file"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def kept_in(folder: Path) -> Path:
    """Return the only index of a folder."""
    [file] = folder.iterdir()
    return file
