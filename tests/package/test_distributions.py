"""The published files: a source distribution that builds with and without a compiler, and wheels without tests."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.timeout(180)  # the first test that needs them builds them

ROOT = Path(__file__).parents[2]

MADE = {".c", ".so", ".pyc", "__pycache__"}
"""Suffixes and folders of generated files."""

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


class Built(NamedTuple):
    """Return the names of files in a source distribution, and in the wheel built from it without a compiler."""

    source: list[str]
    wheel: list[str]
    metadata: str
    said: str


def build(kind: str, tree: Path, out: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{kind}", str(out)],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("distributions")
    tree = folder / "tree"
    # Build in a copy, because a build writes files beside the sources. The copy also has some generated files.
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", "*_cache", "__pycache__", ".hypothesis", "build", "dist", "results", "*.egg-info"
    )
    shutil.copytree(ROOT, tree, ignore=ignored)
    (tree / "src" / "chunkwise" / "formats" / "speedups" / "_speedups.c").write_text("left by a build")
    build("sdist", tree, folder)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        names = [name.partition("/")[2] for name in source.getnames()]
        source.extraction_filter = getattr(tarfile, "data_filter", None)  # an argument that Python 3.11.2 lacks
        source.extractall(folder / "source")
    [unpacked] = (folder / "source").iterdir()
    done = build("wheel", unpacked, folder, CC="/bin/false")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        [metadata] = [name for name in content.namelist() if name.endswith(".dist-info/METADATA")]
        return Built(names, content.namelist(), content.read(metadata).decode(), done.stdout + done.stderr)


def test_sdist_has_all_files_to_build_and_test(built: Built) -> None:
    for folder in ("src", "tests", "examples", "requirements", "tools", "fuzzing", "docs"):
        files = [
            path for path in (ROOT / folder).rglob("*") if path.is_file() and not MADE & {path.suffix, *path.parts}
        ]
        assert files
        assert {path.relative_to(ROOT).as_posix() for path in files if ".egg-info" not in str(path)} - set(
            built.source
        ) == set()
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml"} <= set(built.source)
    made = [name for name in built.source if name.endswith((".so", ".pyc", ".c")) or "/results/" in name]
    assert made == [], "the source distribution contains generated files"


def test_wheel_is_built_without_compiler(built: Built) -> None:
    assert "chunkwise/formats/parsing/scanner.py" in built.wheel
    assert [name for name in built.wheel if name.endswith((".so", ".pyd"))] == []
    assert "optional" in built.said or "failed" in built.said, "the build does not report that extensions are omitted"


def test_wheel_contains_only_the_package(built: Built) -> None:
    top = {name.partition("/")[0] for name in built.wheel}
    assert {"chunkwise"} == {name for name in top if not name.endswith(".dist-info")}
    assert [name for name in built.wheel if "test_" in name or "conftest" in name] == []
    assert "chunkwise/py.typed" in built.wheel
    page = {name for name in built.wheel if name.startswith("chunkwise/demo/page/")}
    assert page == {
        f"chunkwise/{path.relative_to(ROOT / 'src' / 'chunkwise').as_posix()}"
        for path in (ROOT / "src" / "chunkwise" / "demo" / "page").iterdir()
    }
    assert [name for name in built.wheel if name.endswith(".c")] == []


def test_metadata_has_all_fields_of_an_index(built: Built) -> None:
    told = email.message_from_string(built.metadata)
    assert (told["Name"], told["License-Expression"], told["License-File"]) == ("chunkwise", "Apache-2.0", "LICENSE")
    assert told["Requires-Python"] == ">=3.11"
    assert told["Description-Content-Type"] == "text/markdown"
    assert str(told.get_payload()).startswith("# chunkwise")
    classifiers = told.get_all("Classifier", [])
    for version in ("3.11", "3.12", "3.13", "3.14"):
        assert f"Programming Language :: Python :: {version}" in classifiers
    assert "Typing :: Typed" in classifiers
    assert not [name for name in classifiers if name.startswith("License ::")], (
        "the licence must be an expression (PEP 639)"
    )
    assert set(told.get_all("Provides-Extra", [])) == {"cli", "demo", "sql"}
