"""formats/ndjson.py: lines of JSON -> items, and items -> lines."""

from typing import Any

import pytest

from chunkwise.errors import DecodeError, LimitError, PathNotFound, TruncatedError
from chunkwise.formats.contract import Limits
from chunkwise.formats.ndjson import NdjsonDecoder, NdjsonEncoder
from tests.formats.json_grammar import BAD, GOOD
from tests.formats.reading import bytewise, checked_places, every_split, read
from tests.tables import check_rows, cross, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")


def test_lines_are_decoded_as_items() -> None:
    def check(data: bytes, items: list[Any]) -> None:
        for pieces in (*every_split(data), [data]):
            assert read(NdjsonDecoder, pieces) == (items, None)

    check_rows(
        named(
            [
                (b'{"a":1}\n[2]\n3\n', [{"a": 1}, [2], 3]),
                (b'{"a":1}\r\n[2]\r\n3\r\n', [{"a": 1}, [2], 3]),
                (b"\n\n1\n\r\n \t\n2\n\n", [1, 2]),
                (b' {"a" : 1 } \n\t2\t\n', [{"a": 1}, 2]),
                (b'1\n{"a":2}', [1, {"a": 2}]),
                (b'1\n"a"\r', [1, "a"]),
                (b"false\nnull\ntrue", [False, None, True]),
                ('"\u2028\u2029\x85"\n"é"\n'.encode(), ["\u2028\u2029\x85", "é"]),
                (b'"]\\n["\n"],["\n', ["]\n[", "],["]),
                (b"", []),
                (b"\n", []),
            ]
        ),
        check,
    )


def test_invalid_line_fails_after_earlier_lines() -> None:
    def check(bad: bytes) -> None:
        data = b'{"a":1}\n\n2\n%b\n3\n' % bad
        for pieces in every_split(data):
            got = read(NdjsonDecoder, pieces)
            assert got.items == [{"a": 1}, 2]
            assert type(got.error) is DecodeError
            assert got.error.item_index == 2
            assert 11 <= (got.error.byte_offset or 0) <= 11 + len(bad)

    rows = [
        b"1 2", b"1,2", b"1][2", b"1],[2", b"],[", b"[1", b"1]", b'"a', b'"a\tb"', b"{", b"}", b"nul", b"01", b"1.",
        b"NaN", b"\xef\xbb\xbf1", b"\x00", b"\x1e1", b"1\r2", b"[1\r", b"'a'", b"\x0b1", b"\xc2\xa01",
    ]  # fmt: skip
    check_rows(named(rows), check)


def test_value_on_two_lines_is_refused() -> None:
    def check(first: str, second: str) -> None:
        for pieces in every_split(f"0\n{first}\n{second}\n".encode()):
            got = read(NdjsonDecoder, pieces)
            assert got.items == [0]
            assert type(got.error) is DecodeError

    check_rows(named([("[1,", "2]"), ('"a', 'b"'), ("1],[2", "3"), ("[1],[2", "3"), ("{", "}")]), check)


def no_line_ends(cases: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in cases.items() if b"\n" not in data and data.strip()}


def test_invalid_json_is_refused() -> None:
    def check(data: bytes, path: str) -> None:
        for pieces in ([data + b"\n"], bytewise(data + b"\n"), [b"1\n" + data + b"\n2\n"]):
            got = read(lambda: NdjsonDecoder(path), pieces)
            assert got.items == ([1] if len(pieces[0]) > len(data) + 1 and not path else [])
            assert isinstance(got.error, DecodeError)

    check_rows(cross(no_line_ends(BAD), {"decoded": "", "skipped": "no.such"}), check)


def test_valid_json_is_decoded_as_one_item() -> None:
    def check(data: bytes) -> None:
        alone = read(NdjsonDecoder, [data + b"\n"])
        assert (len(alone.items), alone.error) == (1, None)
        around = read(NdjsonDecoder, [b"1\n" + data + b"\r\n2\n"])
        assert repr(around.items) == repr([1, alone.items[0], 2])
        assert read(lambda: NdjsonDecoder("no.such"), [data + b"\n"]) == ([], None)

    check_rows(no_line_ends(GOOD), check)


def test_cut_last_line_is_truncated() -> None:
    def check(last: bytes) -> None:
        for pieces in every_split(b"0\n" + last):
            got = read(NdjsonDecoder, pieces)
            assert got.items == [0]
            assert type(got.error) is TruncatedError

    check_rows(named([b"[1", b'{"a":1', b'"a', b"tru", b"1", b"-1.5e3", b'{"a":1}x', b"1 "]), check)


def test_too_deep_last_line_is_limit_error() -> None:
    for pieces in every_split(b"1\n[[[]]]"):
        got = read(lambda: NdjsonDecoder(limits=Limits(max_depth=2)), pieces)
        assert got.items == [1]
        assert type(got.error) is LimitError


def test_path_selects_inside_each_line() -> None:
    data = b'{"a":[1,2]}\n{"b":[3]}\n{"a":[4]}\n'
    for pieces in every_split(data):
        assert read(lambda: NdjsonDecoder("a.item", required=True), pieces) == ([1, 2, 4], None)
        assert read(lambda: NdjsonDecoder("c"), pieces) == ([], None)
        assert type(read(lambda: NdjsonDecoder("c", required=True), pieces).error) is PathNotFound
    assert read(lambda: NdjsonDecoder("a.item", required=True), [b'{"a":[]}\n']) == ([], None)
    assert read(lambda: NdjsonDecoder("item"), [b"[1,2]\n[]\n[3]\n"]) == ([1, 2, 3], None)
    got = read(lambda: NdjsonDecoder("item"), [b"[1]\n[2,3,x]\n[4]\n"])
    assert got.items == [1, 2, 3]
    assert got.failed


def test_encoder_writes_one_line_per_item() -> None:
    encoder = NdjsonEncoder()
    assert encoder.start() + encoder.encode([{"a": "\n"}, 1]) + encoder.finish() == b'{"a":"\\n"}\n1\n'
    assert encoder.encode([]) == b""
    assert encoder.open_item() + b"[1]" + encoder.close_item() == b"[1]\n"


def test_each_line_is_one_record_with_any_path() -> None:
    decoder = NdjsonDecoder("a.item")
    for data, items, records in ((b'{"a":[1,2,4]}\n{"b":0}\n{"a":', [1, 2, 4], 2), (b"[3]}", [], 2), (b"\n\n", [3], 3)):
        assert decoder.feed(data) == items
        assert decoder.records_seen == decoder.whole_records == records


def test_each_line_has_a_checkpoint() -> None:
    lines = [b'{"n":0}\n', b' {"n":"\xc3\xa9"}\r\n', b"[2]\n", b"3\n"]
    places = checked_places(NdjsonDecoder, lines)
    assert [(place.byte_offset, place.item_index) for place in places] == [(8, 1), (21, 2), (25, 3), (27, 4)]
    checked_places(NdjsonDecoder, bytewise(b"".join(lines)))
