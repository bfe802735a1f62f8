"""formats/text.py: UTF-8 -> lines, and strings -> UTF-8."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, EncodeError, TruncatedError
from chunkwise.formats.parsing.json_values import LivePart
from chunkwise.formats.text import TextDecoder, TextEncoder, TextPieces
from tests.formats.reading import bytewise, checked_places, cuts, every_split, random_split, read
from tests.tables import check_rows, named


def test_lines_are_decoded_as_items() -> None:
    def check(data: str, lines: list[str]) -> None:
        for pieces in (*every_split(data.encode()), [data.encode()]):
            assert read(TextDecoder, pieces) == (lines, None)

    check_rows(
        named(
            [
                ("a\nb\r\nc\n", ["a", "b", "c"]),
                ("\n\r\n\n", ["", "", ""]),
                ("a\rb\n", ["a\rb"]),
                ("a\r\r\n", ["a\r"]),
                ("\u2028x\u2029\x85\x0b\x0c\x1c\n", ["\u2028x\u2029\x85\x0b\x0c\x1c"]),
                ("é€😀\n", ["é€😀"]),
                ("\0\n", ["\0"]),
                ("", []),
            ]
        ),
        check,
    )


def test_type_converts_each_line() -> None:
    for pieces in every_split(b"1\n2\nx\n3\n"):
        got = read(lambda: TextDecoder(type=int), pieces)
        assert got.items == [1, 2]
        assert type(got.error) is DecodeError
        assert got.error.item_index == 2
    assert read(lambda: TextDecoder(type=float), [b"1.5\n2"], framed=True) == ([1.5, 2.0], None)


def test_path_is_refused_in_text_format() -> None:
    with pytest.raises(TypeError, match="path cannot be used with the text format"):
        TextDecoder("a")


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xe2\x82\n", b"\xf4\x90\x80\x80"])
def test_invalid_utf8_error_has_its_offset(bad: bytes) -> None:
    for pieces in every_split("é\nab".encode() + bad + b"\nc\n"):
        got = read(TextDecoder, pieces)
        assert got.items == ["é"]
        assert type(got.error) is DecodeError
        assert (got.error.byte_offset, got.error.item_index) == (5, 1)


def test_items_other_than_strings_are_json_lines() -> None:
    encoder = TextEncoder()
    items: list[Any] = ["a", "", "é\n", 5, {"a": None}, "b"]
    assert encoder.start() + encoder.encode(items) + encoder.finish() == 'aé\n5\n{"a":null}\nb'.encode()
    assert encoder.encode(["x", "y"]) == b"xy"
    assert encoder.open_item() + b"[1]" + encoder.close_item() == b"[1]\n"


class TestPieces:
    @given(text=st.text().filter(lambda text: not text.startswith("\ufeff")), drawn=cuts)
    def test_text_is_the_same_in_any_chunks(self, text: str, drawn: list[int]) -> None:
        data = text.encode()
        for pieces in (*every_split(data), random_split(data, drawn)):
            got = read(TextPieces, pieces)
            assert ("".join(got.items), got.error) == (text, None)
            assert all(got.items), "no piece is empty"

    def test_each_chunk_of_text_is_returned_at_once(self) -> None:
        decoder = TextPieces()
        assert decoder.feed("aé".encode()) == ["aé"]
        assert decoder.feed(b"\xe2\x82") == []
        assert decoder.feed(b"\xacb\xf0") == ["€b"]
        with pytest.raises(TruncatedError):
            decoder.finish()

    def test_text_before_invalid_utf8_is_returned(self) -> None:
        for pieces in ([b"a\xc3\xa9\xffb"], bytewise(b"a\xc3\xa9\xffb")):
            got = read(TextPieces, pieces)
            assert "".join(got.items) == "aé"
            assert type(got.error) is DecodeError


@pytest.mark.parametrize("bad", ["\ud800", ["\udfff"], math.nan, object()], ids=["text", "in a list", "NaN", "object"])
def test_unencodable_item_error_has_its_index(bad: Any) -> None:
    encoder = TextEncoder()
    assert encoder.encode(["a", 1]) == b"a1\n"
    for batch in (["b", bad], ["b", bad, "c"], [2, bad]):
        with pytest.raises(EncodeError) as caught:
            encoder.encode(batch)
        assert caught.value.item_index == 3
    assert encoder.encode(["b"]) == b"b"


def test_item_with_live_parts_has_its_index() -> None:
    encoder = TextEncoder()
    encoder.encode(["a", "b"])
    for batch, index in (([iter([1])], 0), (["x", 1, {"rows": iter([1])}, "y"], 2)):
        with pytest.raises(LivePart) as caught:
            encoder.encode(batch)
        assert caught.value.index == index


def test_each_line_has_a_checkpoint() -> None:
    lines = ["ab\n", "é\r\n", "\n", "c\n"]
    places = checked_places(TextDecoder, [line.encode() for line in lines])
    assert [(place.byte_offset, place.item_index) for place in places] == [(3, 1), (7, 2), (8, 3), (10, 4)]
    checked_places(TextDecoder, bytewise("".join(lines).encode()))


@pytest.mark.parametrize("last", [b"b", b"b\r", b" "])
def test_last_line_without_end_needs_framing(last: bytes) -> None:
    for pieces in every_split(b"a\n" + last):
        got = read(TextDecoder, pieces)
        assert got.items == ["a"]
        assert type(got.error) is TruncatedError
        assert read(TextDecoder, pieces, framed=True) == (["a", last.decode().removesuffix("\r")], None)
