"""No file is longer than 500 lines: such a file is two rooms."""

from pathlib import Path

import chunkwise

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests", "benchmarks", "tools", "examples", "deploy", "fuzzing")
SUFFIXES = {".py", ".pyi", ".pyx", ".h", ".js", ".css", ".html", ".mjs", ".sh", ".md", ".conf"}
MOST_LINES = 500


def lengths(*folders: Path) -> dict[Path, int]:
    """The lines of each file that people write."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]
    return {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}


def test_no_file_has_more_than_500_lines() -> None:
    package = Path(chunkwise.__file__).parent  # installed or not
    found = lengths(package, *(ROOT / name for name in FOLDERS))
    assert len(found) > 100
    assert {path.name: count for path, count in found.items() if count > MOST_LINES} == {}


def test_a_file_that_is_too_long_is_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "long.py").write_text("x = 1\n" * 501)
    (tmp_path / "short.py").write_text("x = 1\n" * 500)
    (tmp_path / "made.c").write_text("\n" * 1000)
    assert {path.name: count for path, count in lengths(tmp_path).items()} == {"long.py": 501, "short.py": 500}
