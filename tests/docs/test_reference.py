"""The reference pages are complete."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import chunkwise
import chunkwise.testing
from chunkwise.errors import StreamError
from chunkwise.formats import Limits
from tests.pages import ROOT, section

REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize("module", [chunkwise, chunkwise.testing], ids=lambda module: module.__name__)
def test_every_public_name_is_documented_once(module: object) -> None:
    documented = re.findall(r"^\.\. auto\w+:: (\S+)$", (REFERENCE / "api.md").read_text(), re.MULTILINE)
    for name in module.__all__:  # type: ignore[attr-defined]
        assert documented.count(f"{module.__name__}.{name}") == 1, name  # type: ignore[attr-defined]


def errors(root: type[StreamError]) -> Iterator[type[StreamError]]:
    for error in root.__subclasses__():
        if error.__module__ == StreamError.__module__:
            yield error
            yield from errors(error)


def test_page_of_errors_says_what_to_do_about_each() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(REFERENCE / "errors.md", "What to do about each"), re.MULTILINE)
    kinds = {error.__name__ for error in errors(StreamError)}
    assert sorted(rows) == sorted(kinds - {"StreamError"})


def test_every_format_has_a_page_and_a_row_that_names_its_media_type() -> None:
    rows = re.findall(
        r"^\| \[`(\S+)`\]\((\S+)\) \| `(\S+)` \|", (REFERENCE / "formats" / "index.md").read_text(), re.MULTILINE
    )
    expected = [(name, f"{name}.md", row.media_types[0]) for name, row in chunkwise.FORMATS.items()]
    assert rows == expected
    for _, page, media_type in expected:
        assert media_type in (REFERENCE / "formats" / page).read_text()


def test_table_lists_every_limit_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+(?: MiB)?)", (REFERENCE / "limits.md").read_text(), re.MULTILINE))
    for name in Limits.__slots__:
        value = getattr(Limits(), name)
        assert rows[name] == (f"{value // 2**20} MiB" if value >= 2**20 else str(value))
