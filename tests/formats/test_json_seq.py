"""formats/json_seq.py: RFC 7464, and how decoding continues after an invalid text."""

import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, LimitError, PathNotFound, TruncatedError
from chunkwise.formats import FORMATS
from chunkwise.formats.contract import Limits
from chunkwise.formats.json_seq import JsonSeqDecoder, JsonSeqEncoder
from tests.formats.reading import bytewise, cuts, every_split, random_split, read, read_on
from tests.formats.samples import values
from tests.tables import check_rows, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")

BAD = DecodeError
THROUGH: dict[str, tuple[bytes, list[Any]]] = {
    "texts": (b'\x1e{"a":1}\n\x1e[2]\n\x1e3\n', [{"a": 1}, [2], 3]),
    "over lines": (b'\x1e{"a":\n1}\r\n\x1e\n\n[\n2]\n', [{"a": 1}, [2]]),
    "RS RS is no text": (b"\x1e\x1e1\n\x1e\x1e\x1e2\n", [1, 2]),
    "white space before the first RS": (b"\n \t\r\x1e1\n", [1]),
    "line feeds as keepalive": (b"\n\x1e1\n\n\n\x1e2\n\n", [1, 2]),
    "garbage before the first RS": (b" x y\x1e1\n", [BAD, 1]),
    "garbage without any RS": (b"[1]\n[2]\n", [BAD]),
    "a text cut short": (b'\x1e{"a":1\x1e{"b":2}\n', [BAD, {"b": 2}]),
    "a string cut short": (b'\x1e"ab\x1e"c"\n', [BAD, "c"]),
    "a number cut short": (b"\x1e12\x1e3\n", [BAD, 3]),
    "true without white space": (b"\x1etrue\x1efalse\n\x1enull\x1e1\n", [BAD, False, BAD, 1]),
    "true before white space": (b"\x1etrue \x1e\nfalse\t\x1enull\r\x1e1 ", [True, False, None, 1]),
    "a container needs no white space": (b'\x1e[1]\x1e{}\x1e"a"\x1e[]', [[1], {}, "a", []]),
    "white space alone": (b"\x1e \n\x1e1\n", [BAD, 1]),
    "two texts on two lines": (b"\x1e1\n2\n\x1e3\n", [1, BAD, 3]),
    "two texts": (b"\x1e1 2\n\x1e3\n", [1, BAD, 3]),
    "a defect in the middle": (b"\x1e[1}\n\x1e2\n\x1e[}\n\x1e3\n", [BAD, 2, BAD, 3]),
    "defects at the end": (b"\x1e1\n\x1e]\n\x1e]\n", [1, BAD, BAD]),
    "invalid UTF-8": (
        b'\x1e"a"\n\x1e"\xff"\n\x1e"b"\n\x1e"\xc3\x1e"c"\n\x1e\xc3(\n\x1e4\n',
        ["a", BAD, "b", BAD, "c", BAD, 4],
    ),
    "a byte order mark before a text": (b"\x1e\xef\xbb\xbf1\n\x1e2\n", [BAD, 2]),
    "NaN": (b"\x1e1\n\x1eNaN\n\x1e2\n", [1, BAD, 2]),
    "1e400": (b"\x1e1\n\x1e1e400\n\x1e2\n", [1, BAD, 2]),
}


def test_decoding_continues_at_next_rs() -> None:
    def check(data: bytes, expected: list[Any]) -> None:
        for pieces in (*every_split(data), [data]):
            assert read_on(JsonSeqDecoder, pieces) == expected

    check_rows(THROUGH, check)


def test_invalid_utf8_in_unknown_name_is_refused() -> None:
    class Row(msgspec.Struct):
        a: int = 0

    def decoder() -> JsonSeqDecoder:
        return JsonSeqDecoder(type=Row)

    data = b'\x1e{"\xaca":1}\n\x1e{"a":2,"\xc3":[]}\n\x1e{"a":3}\n'
    for pieces in (*every_split(data), [data]):
        assert read_on(decoder, pieces) == [BAD, BAD, Row(3)]


def test_rs_at_end_starts_incomplete_text() -> None:
    decoder = JsonSeqDecoder()
    assert decoder.feed(b"\x1e1\n\x1e") == [1]
    with pytest.raises(TruncatedError, match="RS"):
        decoder.finish()
    decoder = JsonSeqDecoder()
    assert decoder.feed(b"\x1e1\n\x1e") == [1]
    assert decoder.finish(framed=True) == []


def test_bytes_fed_before_an_error_are_kept() -> None:
    decoder = JsonSeqDecoder()
    assert decoder.feed(b"\x1e1\n\x1e]\n\x1e2\n") == [1]
    with pytest.raises(DecodeError) as caught:
        decoder.feed(b"\x1e3\n\x1e]\n")
    assert (caught.value.item_index, caught.value.byte_offset) == (1, 4)
    assert decoder.feed(b"\x1e4\n") == [2, 3]
    with pytest.raises(DecodeError) as caught:
        decoder.finish()
    assert (caught.value.item_index, caught.value.byte_offset) == (3, 13)
    assert decoder.finish() == [4]
    assert decoder.finish() == []
    assert (decoder.items_seen, decoder.bytes_seen) == (4, 18)


def test_finish_returns_items_after_an_error() -> None:
    decoder = JsonSeqDecoder()
    with pytest.raises(DecodeError):
        decoder.feed(b"\x1e]\n\x1e]\n\x1e1\n\x1e]\n\x1e2\n")
    with pytest.raises(DecodeError):
        decoder.finish()
    assert decoder.finish() == [1]
    with pytest.raises(DecodeError):
        decoder.finish()
    assert decoder.finish() == [2]
    assert decoder.finish() == []


def test_decoding_stops_after_limit_error() -> None:
    decoder = JsonSeqDecoder(limits=Limits(max_depth=2))
    assert decoder.feed(b"\x1e[1]\n\x1e[[[]]]\n\x1e2\n") == [[1]]
    for _ in range(2):
        with pytest.raises(LimitError):
            decoder.feed(b"\x1e3\n")


def test_cut_last_text_is_truncated() -> None:
    def check(rest: bytes) -> None:
        for pieces in every_split(b"\x1e1\n\x1e" + rest):
            got = read(JsonSeqDecoder, pieces)
            assert got.items == [1]
            assert type(got.error) is TruncatedError

    check_rows(named([b"[1", b'"a', b"12", b"true", b"tru", b'{"a":']), check)


def test_path_selects_inside_each_text() -> None:
    data = b'\x1e{"a":[1,2]}\n\x1e{"b":0}\n\x1e{"a":[3,{"x":[]}]}\n'
    for pieces in every_split(data):
        assert read(lambda: JsonSeqDecoder("a.item", required=True), pieces) == ([1, 2, 3, {"x": []}], None)
        assert type(read(lambda: JsonSeqDecoder("c", required=True), pieces).error) is PathNotFound
    assert read(lambda: JsonSeqDecoder("a.item", required=True), [b'\x1e{"a":[]}\n']) == ([], None)


@given(items=st.lists(values, max_size=6), bad=st.integers(0, 5), drawn=cuts)
def test_invalid_text_does_not_affect_others(items: list[Any], bad: int, drawn: list[int]) -> None:
    encoder = JsonSeqEncoder()
    texts = [encoder.encode([item]) for item in items]
    texts.insert(bad, b'\x1e{"a":[1,\xff\n')
    data = b"".join(texts)
    for pieces in ([data], bytewise(data), random_split(data, drawn)):
        got = read_on(JsonSeqDecoder, pieces)
        assert got.count(DecodeError) == 1
        assert repr([item for item in got if item is not DecodeError]) == repr(items)


def calls_of(step: Callable[[], object]) -> int:
    """Count all calls of functions, which measure the work on any machine."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(note)
    try:
        step()
    finally:
        sys.setprofile(None)
    return count


def test_twice_the_errors_cost_twice_the_work() -> None:
    def through(texts: int) -> int:
        data = b"\x1e]\n\x1e1\n" * texts
        return calls_of(lambda: read_on(JsonSeqDecoder, [data]))

    assert through(400) <= 2.2 * through(200)


def test_encoder_writes_rs_and_line_feed() -> None:
    encoder = JsonSeqEncoder()
    assert encoder.encode([{"a": "\n\x1e"}, 1]) == b'\x1e{"a":"\\n\\u001e"}\n\x1e1\n'
    assert encoder.encode([]) == b""
    assert encoder.open_item() + b"[1]" + encoder.close_item() == b"\x1e[1]\n"


def test_too_large_text_fails_before_invalid_part() -> None:
    # Decoding continues after an invalid text, but not after a text over the limit. The chunks must not change which
    # of the two errors is raised.
    stream = b'\x1e{"aaaa";1}\n\x1e2\n'
    for size, expected in ((5, [LimitError]), (6, [LimitError]), (7, [DecodeError, 2]), (9, [DecodeError, 2])):
        limits = Limits(max_item_bytes=size)
        for pieces in every_split(stream):
            assert read_on(lambda limits=limits: JsonSeqDecoder(limits=limits), pieces) == expected  # type: ignore[misc]


def test_first_error_is_the_same_in_any_chunks() -> None:
    def check(text: str) -> None:
        stream = b"\x1e" + text.encode() + b"\n\x1e2\n"
        seen = set()
        for size in range(1, len(text) + 1):
            limits = Limits(max_item_bytes=size, max_depth=3)
            each = [
                repr(read_on(lambda limits=limits: JsonSeqDecoder(limits=limits), pieces))  # type: ignore[misc]
                for pieces in every_split(stream)
            ]
            assert each == each[:1] * len(each)
            seen.add(each[0])
        assert repr([LimitError]) in seen
        assert any(each.endswith(", 2]") for each in seen) or "[[[[" in text

    check_rows(named(["[0,nu3]", "[0,12.,3]", r'["\ud83dx"]', '["a" "b",123456]', "falsey", "[[[[[0,nu3]"]), check)


@pytest.mark.parametrize(("path", "text"), [("item", "[1,]"), ("*", '{"a":1,"b":]')])
def test_invalid_first_byte_is_never_too_large(path: str, text: str) -> None:
    stream = b"\x1e" + text.encode() + b" " * 9 + b"\n\x1e[2]\n" * (path == "item") + b'\x1e{"a":2}\n' * (path == "*")
    limits = Limits(max_item_bytes=8)
    for pieces in (*every_split(stream), [stream]):
        assert read_on(lambda: JsonSeqDecoder(path, limits=limits), pieces) == [1, BAD, 2]


def test_no_checkpoint_until_next_text_after_error() -> None:
    decoder = JsonSeqDecoder()
    assert decoder.feed(b"\x1e1\n\x1e") == [1]
    place = decoder.checkpoint()
    assert place is not None
    assert (place.byte_offset, place.item_index) == (3, 1)
    with pytest.raises(DecodeError):
        decoder.feed(b"]")
    assert decoder.checkpoint() is None
    assert decoder.feed(b"\n\x1e2\n\x1e") == [2]
    place = decoder.checkpoint()
    assert place is not None
    assert (place.byte_offset, place.item_index) == (9, 2)


def test_number_ended_by_rs_is_refused() -> None:
    decoder = JsonSeqDecoder(type=str)
    assert decoder.feed(b'\x1e"a"\n\x1e 12') == ["a"]
    with pytest.raises(DecodeError, match="Expected `str`, got `int`") as caught:
        decoder.finish(framed=True)
    assert (caught.value.byte_offset, caught.value.item_index) == (7, 1)


def test_literal_at_end_needs_framing() -> None:
    def check(text: str, value: object) -> None:
        for pieces in every_split(b"\x1e1\n\x1e" + text.encode()):
            assert read(JsonSeqDecoder, pieces, framed=True) == ([1, value], None)
            assert type(read(JsonSeqDecoder, pieces).error) is TruncatedError
            assert type(read(JsonSeqDecoder, [*pieces, b"x"], framed=True).error) is DecodeError

    check_rows(named([("true", True), ("false", False), ("null", None), (" \n true", True)]), check)


def test_text_is_counted_at_its_end() -> None:
    decoder = JsonSeqDecoder("a.item")
    assert (decoder.records_seen, decoder.whole_records) == (0, 0)
    steps: list[tuple[bytes, list[Any], int, int | None]] = [
        (b'\x1e{"a":[', [], 0, 0),
        (b"1,2,", [1, 2], 0, None),  # the rest of the text may have more items
        (b"3]}", [3], 0, 1),
        (b"\n", [], 0, 1),
        (b'\x1e{"b":[4]}', [], 1, 1),
        (b'\n\x1e{"a":[5]}\n', [5], 2, 3),
    ]
    for data, items, seen, whole in steps:
        assert decoder.feed(data) == items
        assert (decoder.records_seen, decoder.whole_records) == (seen, whole)
    assert decoder.finish() == []
    assert (decoder.records_seen, decoder.whole_records) == (3, 3)


def test_many_empty_texts_create_no_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = msgspec.json.Decoder

    def make(*args: object) -> object:
        made.append(args)
        return real(*args)

    monkeypatch.setattr(msgspec.json, "Decoder", make)
    decoder = FORMATS["json-seq"].decoder()
    assert decoder.feed(b"\x1e" * 1000 + b"1\n") == [1]
    assert len(made) < 20
