"""formats/text.py: lines of UTF-8, and text as it comes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, TruncatedError
from chunkwise.formats.text import TextDecoder, TextEncoder, TextPieces
from tests.formats.reading import bytewise, cuts, every_split, random_split, read


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("a\nb\r\nc\n", ["a", "b", "c"]),
        ("\n\r\n\n", ["", "", ""]),
        ("a\rb\n", ["a\rb"]),
        ("a\r\r\n", ["a\r"]),
        ("\u2028x\u2029\x85\x0b\x0c\x1c\n", ["\u2028x\u2029\x85\x0b\x0c\x1c"]),
        ("é€😀\n", ["é€😀"]),
        ("\0\n", ["\0"]),
        ("", []),
    ],
)
def test_lines(data: str, lines: list[str]) -> None:
    for pieces in (*every_split(data.encode()), [data.encode()]):
        assert read(TextDecoder, pieces) == (lines, None)


def test_a_type_is_made_of_each_line() -> None:
    for pieces in every_split(b"1\n2\nx\n3\n"):
        got = read(lambda: TextDecoder(type=int), pieces)
        assert got.items == [1, 2]
        assert type(got.error) is DecodeError
        assert got.error.item_index == 2
    assert read(lambda: TextDecoder(type=float), [b"1.5\n2"], framed=True) == ([1.5, 2.0], None)


def test_text_has_no_paths() -> None:
    with pytest.raises(TypeError, match="no paths"):
        TextDecoder("a")


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xe2\x82\n", b"\xf4\x90\x80\x80"])
def test_invalid_utf8_is_refused_where_it_stands(bad: bytes) -> None:
    for pieces in every_split("é\nab".encode() + bad + b"\nc\n"):
        got = read(TextDecoder, pieces)
        assert got.items == ["é"]
        assert type(got.error) is DecodeError
        assert (got.error.byte_offset, got.error.item_index) == (5, 1)


def test_strings_are_written_as_they_are_and_other_items_as_lines_of_json() -> None:
    encoder = TextEncoder()
    items: list[Any] = ["a", "", "é\n", 5, {"a": None}, "b"]
    assert encoder.start() + encoder.encode(items) + encoder.finish() == 'aé\n5\n{"a":null}\nb'.encode()
    assert encoder.encode(["x", "y"]) == b"xy"
    assert encoder.open_item() + b"[1]" + encoder.close_item() == b"[1]\n"


class TestPieces:
    @given(text=st.text().filter(lambda text: not text.startswith("\ufeff")), drawn=cuts)
    def test_text_in_any_split_is_the_text(self, text: str, drawn: list[int]) -> None:
        data = text.encode()
        for pieces in (*every_split(data), random_split(data, drawn)):
            got = read(TextPieces, pieces)
            assert ("".join(got.items), got.error) == (text, None)
            assert all(got.items), "no piece is empty"

    def test_each_piece_comes_at_once(self) -> None:
        decoder = TextPieces()
        assert decoder.feed("aé".encode()) == ["aé"]
        assert decoder.feed(b"\xe2\x82") == []
        assert decoder.feed(b"\xacb\xf0") == ["€b"]
        with pytest.raises(TruncatedError):
            decoder.finish()

    def test_what_came_before_invalid_utf8_is_delivered(self) -> None:
        for pieces in ([b"a\xc3\xa9\xffb"], bytewise(b"a\xc3\xa9\xffb")):
            got = read(TextPieces, pieces)
            assert "".join(got.items) == "aé"
            assert type(got.error) is DecodeError
