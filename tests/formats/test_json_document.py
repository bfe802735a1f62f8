"""formats/json_document.py: grammar, limits, encoder and checkpoints. (For paths see test_paths.py.)"""

import json
import math
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, EncodeError, LimitError, TruncatedError
from chunkwise.formats import FORMATS
from chunkwise.formats.contract import Limits
from chunkwise.formats.json_document import JsonDecoder, JsonEncoder
from chunkwise.formats.parsing import scanner
from chunkwise.formats.paths import PathLike
from tests.formats.json_grammar import BAD, GOOD, LENIENT, documents
from tests.formats.reading import Reading, bytewise, checked_places, cut_at, cuts, every_split, random_split, read
from tests.tables import check_rows, cross, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")


def read_json(data: bytes, path: PathLike = "", *, byte_by_byte: bool = False, **options: Any) -> Reading:
    return read(lambda: JsonDecoder(path, **options), bytewise(data) if byte_by_byte else [data])


def no_constant(text: str) -> None:
    raise ValueError(text)


BOTH_WAYS = {"whole": False, "bytes": True}
both_ways = pytest.mark.parametrize("byte_by_byte", BOTH_WAYS.values(), ids=BOTH_WAYS)


class TestGrammar:
    def test_grammar_has_enough_cases(self) -> None:
        assert len(GOOD) >= 40
        assert len(BAD) >= 80
        assert BAD.keys() >= LENIENT

    def test_json_loads_refuses_invalid_cases(self) -> None:
        def check(data: bytes) -> None:
            with pytest.raises(ValueError):
                json.loads(data.decode(), parse_constant=no_constant)

        check_rows(named([data for name, data in BAD.items() if name not in LENIENT]), check)

    def test_valid_json_is_decoded_like_json_loads(self) -> None:
        def check(byte_by_byte: bool, data: bytes) -> None:
            value = json.loads(data)
            assert repr(read_json(data, (), byte_by_byte=byte_by_byte)) == repr(Reading([value], None))
            elements = value if isinstance(value, list) else [value]
            assert repr(read_json(data, byte_by_byte=byte_by_byte)) == repr(Reading(elements, None))

        check_rows(cross(BOTH_WAYS, GOOD), check)

    def test_valid_json_outside_path_is_skipped(self) -> None:
        def check(byte_by_byte: bool, data: bytes) -> None:
            around = b'{"x":%b,"a":7,"y":[%b]}' % (data, data)
            assert read_json(around, "a", byte_by_byte=byte_by_byte) == ([7], None)

        check_rows(cross(BOTH_WAYS, GOOD), check)

    def test_invalid_json_is_refused_in_any_chunks(self) -> None:
        def check(byte_by_byte: bool, data: bytes) -> None:
            for path in ("", ()):
                got = read_json(data, path, byte_by_byte=byte_by_byte)
                assert isinstance(got.error, DecodeError)
                assert path != () or got.items in ([], *([json.loads(data[:size])] for size in shown_ends(data)))

        check_rows(cross(BOTH_WAYS, BAD), check)

    def test_invalid_skipped_json_is_refused(self) -> None:
        def check(byte_by_byte: bool, data: bytes) -> None:
            got = read_json(b'{"x":%b,"a":7}' % data, "a", byte_by_byte=byte_by_byte)
            assert got.items == []
            assert isinstance(got.error, DecodeError)
            got = read_json(b'{"a":7,"x":[[[%b]]]}' % (data.strip() or b","), "a", byte_by_byte=byte_by_byte)
            assert got.items == [7]
            assert isinstance(got.error, DecodeError)

        check_rows(cross(BOTH_WAYS, BAD), check)

    @given(text=documents, drawn=cuts)
    def test_random_json_is_decoded_like_json_loads(self, text: str, drawn: list[int]) -> None:
        data = text.encode()
        expected = repr(Reading([json.loads(text)], None))
        for pieces in ([data], bytewise(data), random_split(data, drawn)):
            assert repr(read(lambda: JsonDecoder(()), pieces)) == expected

    def test_number_outside_float_range_is_refused(self) -> None:
        for data in (b"[1,1e400,2]", b"[1,-1e400,2]", b"[1,1" + b"0" * 400 + b".0]"):
            for pieces in every_split(data):
                got = read(JsonDecoder, pieces)
                assert got.items == [1]
                assert isinstance(got.error, DecodeError)

    def test_int_with_too_many_digits_is_refused(self) -> None:
        got = read_json(b"[1," + b"9" * 5000 + b"]")
        assert got.items == [1]
        assert isinstance(got.error, DecodeError)

    def test_error_has_the_offset_of_invalid_byte(self) -> None:
        def check(bom: bytes, byte_by_byte: bool) -> None:
            cases: dict[bytes, int] = {
                b"[1, x]": 4,
                b'[1,\n"\xff"]': 5,
                b'[1,"\x01"]': 4,
                b'[1,"\\x"]': 4,
                b"[1,02]": 3,
            }
            for data, offset in cases.items():
                error = read_json(bom + data, byte_by_byte=byte_by_byte).error
                assert error is not None
                assert (error.byte_offset, error.item_index) == (offset + len(bom), 1)
                assert error.format == "json"

        check_rows(cross(named([b"", b"\xef\xbb\xbf"]), BOTH_WAYS), check)


def shown_ends(data: bytes) -> Iterator[int]:
    """Yield the sizes at which the first bytes of the data are a complete document."""
    for size in range(1, len(data)):
        try:
            json.loads(data[:size].decode(), parse_constant=no_constant)
        except ValueError:
            continue
        yield size


class TestLimits:
    @both_ways
    def test_too_large_item_fails_after_earlier_items(self, byte_by_byte: bool) -> None:
        limits = Limits(max_item_bytes=10)
        for item in (b'"123456789"', b"12345678901", b"[1,2,3,4,5]", b'{"a":[{} ]}'):
            data = b'[1,"12345678",%b,2]' % item
            got = read_json(data, byte_by_byte=byte_by_byte, limits=limits)
            assert got.items == [1, "12345678"]
            assert type(got.error) is LimitError
            assert got.error.byte_offset == 14
            whole = read_json(data, "item", byte_by_byte=byte_by_byte, limits=Limits(max_item_bytes=11))
            assert whole.error is None

    def test_long_names_and_numbers_are_refused(self) -> None:
        for data in (b'{"longer than ten":1}', b'{"a":12345678901}', b'{"b":[[12345678901]]}'):
            for pieces in every_split(data):
                got = read(lambda: JsonDecoder("a", limits=Limits(max_item_bytes=10)), pieces)
                assert got.items == []
                assert type(got.error) is LimitError

    @both_ways
    def test_skipped_values_have_no_size_limit(self, byte_by_byte: bool) -> None:
        data = b'{"x":"%b","y":{"%b":[%b0]},"a":5}' % (b"s" * 1000, b"n" * 1000, b"1," * 1000)
        got = read_json(data, "a", byte_by_byte=byte_by_byte, limits=Limits(max_item_bytes=10))
        assert got == ([5], None)

    def test_depth_of_arrays_and_objects_is_limited(self) -> None:
        def check(byte_by_byte: bool, path: PathLike, case: tuple[bytes, bytes]) -> None:
            opener, closer = case
            for most in (1, 2, 3, 5, 512):
                inside = b"1" if opener != b"[" else b""
                deep = opener * most + inside + closer * most
                limits = Limits(max_depth=most)
                assert read_json(deep, path, byte_by_byte=byte_by_byte, limits=limits).error is None
                deep = opener * (most + 1) + inside + closer * (most + 1)
                got = read_json(deep, path, byte_by_byte=byte_by_byte, limits=limits)
                assert got.items == []
                assert type(got.error) is LimitError

        check_rows(
            cross(
                BOTH_WAYS,
                named(["", (), "item", "no.such.path"]),
                named([(b"[", b"]"), (b'{"a":', b"}")]),
            ),
            check,
        )

    @both_ways
    def test_items_before_too_deep_item_are_returned(self, byte_by_byte: bool) -> None:
        got = read_json(b"[1,[2],[[[]]],3]", byte_by_byte=byte_by_byte, limits=Limits(max_depth=3))
        assert got.items == [1, [2]]
        assert type(got.error) is LimitError


class TestEncoder:
    def test_stream_of_items_is_one_array(self) -> None:
        encoder = JsonEncoder()
        parts = [encoder.start(), encoder.encode([]), encoder.encode([1]), encoder.encode([]), encoder.encode([2, 3])]
        assert b"".join([*parts, encoder.finish()]) == b"[1,2,3]"

    def test_no_items_are_an_empty_array(self) -> None:
        encoder = JsonEncoder()
        assert encoder.start() + encoder.finish() == b"[]"

    def test_failure_leaves_array_open(self) -> None:
        for document in (False, True):
            encoder = JsonEncoder(document=document, stream_end=True)
            data = encoder.start() + encoder.encode([[1]]).removesuffix(b"]")
            assert encoder.fail({"status": 500}) == b""
            assert type(read_json(data).error) is TruncatedError

    def test_item_in_parts_is_written_between_others(self) -> None:
        encoder = JsonEncoder()
        parts = [encoder.start(), encoder.encode([1]), encoder.open_item(), b'{"a":[]}', encoder.close_item()]
        assert b"".join([*parts, encoder.encode([2]), encoder.finish()]) == b'[1,{"a":[]},2]'

    def test_document_is_written_without_brackets(self) -> None:
        encoder = JsonEncoder(document=True)
        assert encoder.start() + encoder.encode([{"a": 1}]) + encoder.finish() == b'{"a":1}'
        encoder = JsonEncoder(document=True)
        assert encoder.start() + encoder.open_item() + b"[1]" + encoder.close_item() + encoder.finish() == b"[1]"

    def test_document_must_be_one_value(self) -> None:
        encoder = JsonEncoder(document=True)
        with pytest.raises(EncodeError) as caught:
            encoder.finish()
        assert caught.value.item_index == 0
        with pytest.raises(EncodeError) as caught:
            encoder.encode([1, 2])
        assert caught.value.item_index == 1
        assert encoder.encode([1]) == b"1"
        steps: list[Callable[[], bytes]] = [lambda: encoder.encode([2]), encoder.open_item]
        for step in steps:
            with pytest.raises(EncodeError) as caught:
                step()
            assert caught.value.item_index == 1
        assert encoder.finish() == b""

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_floats_are_decoded_exactly(self, number: float) -> None:
        encoder = JsonEncoder()
        data = encoder.start() + encoder.encode([number]) + encoder.finish()
        (got,) = read_json(data).items
        assert (got, math.copysign(1, got)) == (number, math.copysign(1, number))


def test_token_may_be_split_anywhere() -> None:
    data = '{"é\\u20ac": ["😀\\ud83d\\ude00\\n", -12.5e+3, true, false, null, 123456789012345678901234567890]}'.encode()
    expected = [json.loads(data)]
    for pieces in every_split(data):
        assert read(JsonDecoder, pieces) == (expected, None)
    for first in range(len(data)):
        for size in range(1, 8):
            assert read(JsonDecoder, cut_at(data, [first, min(first + size, len(data))])) == (expected, None)


def test_deep_values_are_decoded_one_by_one() -> None:
    # Many values are decoded in one call as an array, which adds one level of depth.
    taken, refused = 1, 100_000
    while refused - taken > 1:  # to the greatest depth accepted
        depth = (taken + refused) // 2
        text = b"[" * depth + b"]" * depth
        reading = read_json(b"[%b,%b,1]" % (text, text), "item", limits=Limits(max_depth=200_000))
        if reading.error is None:
            assert [len(reading.items), reading.items[2]] == [3, 1]
            taken = depth
        else:
            assert isinstance(reading.error, LimitError)
            refused = depth
    assert 1 < taken < refused < 100_000


ROWS = [{"n": index, "name": f"é{index}\n"} for index in range(20)]
TREE = {"other": [1, {"item": 2}], "item": {"item": 5, "a": 6, "x": ROWS}, "users": ROWS, "a": {"b": [[1], 2, []]}}


def test_checkpoint_has_open_brackets() -> None:
    def check(path: PathLike, count: int) -> None:
        stream = json.dumps(TREE, ensure_ascii=False, indent=1).encode()
        assert len(read_json(stream, path).items) == count
        places = checked_places(lambda: JsonDecoder(path), bytewise(stream))
        if path != ():
            assert {place.item_index for place in places} == set(range(1, count))

    check_rows(
        named(
            [
                ("users.item", 20),
                ("users.item.name", 20),
                ("users.item.*", 40),
                ("*.item", 23),
                ("item.item", 1),
                ("item.*", 3),
                ("*.*.item", 23),
                ("*", 4),
                ((), 1),
                ("a.b.item.item", 1),
                (("item", "x", "item", "n"), 20),
            ]
        ),
        check,
    )


@pytest.mark.parametrize(
    ("row", "path"), [("   7  ,", "item"), ('{"a": "7" } , ', "item.a"), ('{"b":1,"a":[7]},', "item.*.item")]
)
def test_rows_as_long_as_chunks_have_checkpoints(row: str, path: str) -> None:
    """Each chunk ends at the same offset inside a row, also between two values."""
    stream = f"[{row * 50} {{}}]".encode()
    for phase in range(1, len(row) + 1):
        pieces = [stream[:phase], *(stream[at : at + len(row)] for at in range(phase, len(stream), len(row)))]
        places = checked_places(lambda: JsonDecoder(path), pieces)
        assert {place.item_index for place in places} >= set(range(1, 49))


@pytest.mark.parametrize(
    ("before", "path"), [(b'{"b":1,"a":', "a.item"), (b'[2,{"a":', "item.a.item"), (b'{"a":', "*.item")]
)
def test_path_is_found_in_empty_container(before: bytes, path: str) -> None:
    decoder = JsonDecoder(path, required=True)
    decoder.feed(before)
    assert not decoder.found
    with pytest.raises(TruncatedError):
        decoder.finish()
    decoder = JsonDecoder(path, required=True)
    decoder.feed(before + b"[")
    assert decoder.found
    assert decoder.feed(b"]}" if before.startswith(b"{") else b"]}]") == []
    assert decoder.finish() == []


def test_whole_records_are_root_elements() -> None:
    def check(path: PathLike, counted: bool) -> None:
        decoder = JsonDecoder(path)
        for data, count in ((b'[{"a":1},', 1), (b'{"a":', 1), (b"2}", 2), (b"]", 2)):
            decoder.feed(data)
            assert decoder.whole_records == (count if counted else None)

    check_rows(named([("", True), ("item", True), ((), False), ("item.a", False), ("*", False)]), check)


def test_document_is_complete_with_last_bracket() -> None:
    decoder = JsonDecoder()
    for data, complete in ((b"[", False), (b"1,[2]", False), (b"]", True), (b" \n", True)):
        decoder.feed(data)
        assert decoder.complete is complete
    with pytest.raises(DecodeError):
        decoder.feed(b"x")
    assert not decoder.complete


def test_decoder_counts_scanned_bytes() -> None:
    decoder = JsonDecoder("no.such")
    assert decoder.bytes_walked == 0
    decoder.feed(b'{"a":1,')
    first = decoder.bytes_walked
    assert first > 0
    decoder.feed(b'"b":[2]}')
    assert decoder.bytes_walked > first


def test_invalid_json_outside_path_is_refused() -> None:
    def check(text: bytes) -> None:
        with pytest.raises(DecodeError):
            FORMATS["json"].decoder("b").feed(text)

    check_rows(
        named(
            [
                b'{"skip":[1.,2],"b":1}',
                b'{"skip":1e,"b":1}',
                b'{"skip":{"a"},"b":1}',
                b'{"skip":{"a":},"b":1}',
                b'{"skip":[[1,2],[3,]],"b":1}',
                b'{"skip":["\\u12"],"b":1}',
            ]
        ),
        check,
    )


def test_surrogate_pair_may_be_split_anywhere() -> None:
    decoder = FORMATS["json"].decoder()
    items = [item for byte in b'["\\ud83d\\ude00","\\n"]' for item in decoder.feed(bytes([byte]))]
    assert [*items, *decoder.finish()] == ["\N{GRINNING FACE}", "\n"]


def test_engine_probe_finds_known_cases() -> None:
    # gh-106052: a possessive group has to undo a repetition that fails half-way.
    sound = re.fullmatch(rb"(?:ab?c)*+a", b"aca") is not None
    assert (scanner._TURNS == b"*+") is sound


@pytest.mark.parametrize("skipped", [b'"' + b"\\n" * 50_000 + b'"', b"[" + b"1," * 50_000 + b"1]"])
def test_skipped_value_uses_little_memory(skipped: bytes) -> None:
    document = b'{"skip":%b,"b":1}' % skipped
    tracemalloc.start()
    try:
        assert FORMATS["json"].decoder("b").feed(document) == [1]
        assert tracemalloc.get_traced_memory()[1] < 1.5 * 2**20
    finally:
        tracemalloc.stop()
