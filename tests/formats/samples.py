"""Strategies for items that each format can represent, and for the bytes of their streams."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from chunkwise.formats import FORMATS
from chunkwise.formats.contract import Format

NAMES = list(FORMATS)
JSON_BASED = ["json", "ndjson", "json-seq", "sse"]

texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    [
        "",
        "\u2028\u2029\x85",
        "é€😀",
        'a"b\\c',
        "\r\n",
        "\n",
        "\ufeff",
        "null",
        "[1, 2",
        "data: x",
        "\x1e",
        "\x00\x7f",
        "%s",
    ]
)
numbers = (
    st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([-0.0, 1e22, 5e-324, 2**64, -(2**63)])
)
scalars = st.none() | st.booleans() | numbers | texts
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)


def _not_bom(text: str) -> bool:
    """A text that starts with U+FEFF looks the same as one with a byte order mark."""
    return not text.startswith("\ufeff")


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, str]]:
    names = draw(st.lists(texts, min_size=1, max_size=4, unique=True).filter(lambda names: _not_bom(names[0])))
    cells = st.lists(texts, min_size=len(names), max_size=len(names))
    return [dict(zip(names, row, strict=True)) for row in draw(st.lists(cells, max_size=4))]


_lines = st.lists(texts.map(lambda text: text.replace("\n", "").rstrip("\r")), max_size=5)

ITEMS: dict[str, st.SearchStrategy[list[Any]]] = {
    **dict.fromkeys(JSON_BASED, st.lists(values, max_size=5)),
    "csv": rows(),
    "text": _lines.filter(lambda lines: not lines or _not_bom(lines[0])),
}


def written(name: str, items: Sequence[Any], *, batch_size: int = 2) -> bytes:
    """Encode items as a stream. (The text encoder adds no line ends.)"""
    encoder = FORMATS[name].encoder()
    sent = [f"{item}\n" for item in items] if name == "text" else items
    parts = [encoder.start()]
    parts += [encoder.encode(sent[index : index + batch_size]) for index in range(0, len(sent), batch_size)]
    return b"".join([*parts, encoder.finish()])


_ODD = [
    b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"\x00", b"\x1e", b'"', b"[", b"]", b"{", b"}", b",", b":", b"\\", b"\\ud800",
    b"\xff", b"\xc3", b"\xef\xbb\xbf", b"0", b"-", b"e", b"1e400", b"true", b"data",
]  # fmt: skip


@st.composite
def broken(draw: st.DrawFn, row: Format) -> bytes:
    """Draw random bytes, or a valid stream in which bytes were inserted, removed or replaced."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=24) | st.lists(st.sampled_from(_ODD), max_size=10).map(b"".join))
    data = written(row.name, draw(ITEMS[row.name]))
    for _ in range(draw(st.integers(1, 2))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 2)))
        data = data[:start] + draw(st.just(b"") | st.sampled_from(_ODD) | st.binary(max_size=2)) + data[end:]
    return data
