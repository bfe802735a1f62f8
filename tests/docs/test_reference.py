"""The reference pages are complete and match the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from operator import attrgetter
from textwrap import dedent
from typing import Any

import pytest

import chunkwise
import chunkwise.sources.files
import chunkwise.sources.sql
import chunkwise.testing
from chunkwise.errors import StreamError
from chunkwise.formats import Limits
from tests.pages import ROOT, section

REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize("module", [chunkwise, chunkwise.testing], ids=lambda module: module.__name__)
def test_each_public_name_is_documented(module: object) -> None:
    documented = re.findall(r"^\.\. auto\w+:: (\S+)$", (REFERENCE / "api.md").read_text(), re.MULTILINE)
    for name in module.__all__:  # type: ignore[attr-defined]
        assert documented.count(f"{module.__name__}.{name}") == 1, name  # type: ignore[attr-defined]


REQUIRED = inspect.Parameter.empty
UNITS = {"": 1, " s": 1, " MiB": 2**20}


def options_in_table(function: str) -> dict[str, Any]:
    """Return the names and defaults in the table of a function's options."""
    table = (REFERENCE / "api.md").read_text().split(f"\n### Options of `{function}`\n")[1]
    table = re.split(r"\n```|\n### ", table)[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| `", table, re.MULTILINE)), "a row does not have four cells"
    return {name: default_of(cell) for name, cell in rows}


def default_of(cell: str) -> Any:
    """Return the default that a cell names: a number with a unit, or Python code."""
    if cell == "required":
        return REQUIRED
    if number := re.fullmatch(r"([\d.,]+)( s| MiB|)", cell):
        return float(number[1].replace(",", "")) * UNITS[number[2]]
    code = cell.strip("`")
    return Any if code == "Any" else ast.literal_eval(code)


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the names and defaults of a function's options; ``**limits`` are those of `Limits`."""
    parameters = inspect.signature(function).parameters.values()
    options = {each.name: each.default for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD}
    if len(options) < len(parameters):
        options |= {limit.name: limit.default for limit in fields(Limits)}
    return options


FUNCTIONS = [
    *("respond", "setup", "resumable", "open_stream", "items", "body"),
    *("sources.files.file_source", "sources.sql.rows", "sources.sql.table"),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_table_matches_signature(function: str) -> None:
    assert options_in_table(function) == options_of(attrgetter(function)(chunkwise))


def attributes_of(kind: type) -> set[str]:
    """Return the names of a class's public attributes: annotated, or properties."""
    names = {name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})}
    names |= {name for name, _ in inspect.getmembers(kind, lambda member: isinstance(member, property))}
    names |= set(getattr(kind, "_fields", ()))
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("name", ["Outcome", "Stream", "ResumePoint"])
def test_table_matches_attributes(name: str) -> None:
    table = re.split(r"\n```|\n### ", (REFERENCE / "api.md").read_text().split(f"\n### Attributes of `{name}`\n")[1])[0]
    expected = attributes_of(getattr(chunkwise, name)) | ({"reconnects"} if name == "Stream" else set())
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(expected)


def errors(root: type[StreamError]) -> Iterator[type[StreamError]]:
    for error in root.__subclasses__():
        if error.__module__ == StreamError.__module__:
            yield error
            yield from errors(error)


def test_errors_page_lists_each_error() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(REFERENCE / "errors.md", "What to do about each"), re.MULTILINE)
    kinds = {error.__name__ for error in errors(StreamError)}
    assert sorted(rows) == sorted(kinds - {"StreamError"})


def test_errors_page_shows_the_tree() -> None:
    tree = inspect.cleandoc(str(chunkwise.errors.__doc__)).split("::\n\n")[1]
    assert f"```text\n{dedent(tree).strip()}\n```" in (REFERENCE / "errors.md").read_text()


def test_glossary_is_sorted() -> None:
    words = re.findall(r"^(\S.*)\n: ", (REFERENCE / "glossary.md").read_text(), re.MULTILINE)
    assert words == sorted(words, key=str.lower)


def test_formats_page_lists_each_format() -> None:
    rows = re.findall(
        r"^\| \[`(\S+)`\]\((\S+)\) \| `(\S+)` \|", (REFERENCE / "formats" / "index.md").read_text(), re.MULTILINE
    )
    assert rows == [(name, f"{name}.md", row.media_types[0]) for name, row in chunkwise.FORMATS.items()]


@pytest.mark.parametrize("name", chunkwise.FORMATS)
def test_format_page_lists_types_and_suffixes(name: str) -> None:
    page = (REFERENCE / "formats" / f"{name}.md").read_text()
    row = chunkwise.FORMATS[name]
    for text in (row.content_type, *row.media_types[1:], *row.suffixes):
        assert f"`{text}`" in page


def test_limits_page_lists_each_limit() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", (REFERENCE / "limits.md").read_text(), re.MULTILINE))
    for limit in fields(Limits):
        assert default_of(rows[limit.name]) == limit.default
