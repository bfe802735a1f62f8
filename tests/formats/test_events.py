"""formats/events.py: the events are those of ijson in any chunks; input that crashes its C backend is refused."""

import itertools
import json
import re
import tracemalloc
from typing import Any

import ijson
import pytest
from hypothesis import given

from chunkwise.errors import DecodeError, LimitError, TruncatedError
from chunkwise.formats.contract import Limits
from chunkwise.formats.events import EventsDecoder
from tests.formats.json_grammar import BAD, GOOD, documents
from tests.formats.reading import bytewise, cut_at, cuts, every_split, random_split, read
from tests.tables import check_rows

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")

Event = tuple[str, str, Any]

# (The backends of ijson disagree on the prefix of values under an empty name.)
named = documents.map(lambda text: re.sub(r'""(\s*):', r'"n"\1:', text))


def naive_events(value: Any, *path: str) -> list[Event]:
    """Return the events of a value, computed by simple code; objects are tuples of pairs."""
    prefix = ".".join(path)
    if isinstance(value, tuple):
        members = [[(prefix, "map_key", name), *naive_events(member, *path, name)] for name, member in value]
        return [(prefix, "start_map", None), *itertools.chain(*members), (prefix, "end_map", None)]
    if isinstance(value, list):
        elements = [naive_events(element, *path, "item") for element in value]
        return [(prefix, "start_array", None), *itertools.chain(*elements), (prefix, "end_array", None)]
    if value is None or isinstance(value, bool):
        return [(prefix, "null" if value is None else "boolean", value)]
    return [(prefix, "string" if isinstance(value, str) else "number", value)]


def loaded(data: bytes | str) -> Any:
    return json.loads(data, object_pairs_hook=tuple)


@given(text=named, drawn=cuts)
def test_events_match_simple_parser(text: str, drawn: list[int]) -> None:
    data, expected = text.encode(), repr(naive_events(loaded(text)))
    for pieces in ([data], bytewise(data), random_split(data, drawn)):
        got = read(EventsDecoder, pieces)
        assert got.error is None
        assert repr(got.items) == expected


def test_valid_json_gives_the_expected_events() -> None:
    def check(data: bytes) -> None:
        expected = repr(naive_events(loaded(data)))
        for pieces in ([data], bytewise(data)):
            got = read(EventsDecoder, pieces)
            assert got.error is None
            assert repr(got.items) == expected

    check_rows(GOOD, check)


def test_events_are_the_same_as_those_of_ijson() -> None:
    data = b'{"users": [{"name": "A", "tags": []}, {"name": null}], "a.b": {"": [1, true]}}'
    assert read(EventsDecoder, [data]).items == list(ijson.parse(data))


def test_invalid_json_is_refused_in_any_chunks() -> None:
    def check(data: bytes) -> None:
        whole = read(EventsDecoder, [data])
        assert isinstance(whole.error, DecodeError)
        for pieces in every_split(data):
            assert read(EventsDecoder, pieces).shown == whole.shown
        around = b'{"a":%b,"b":1}' % data
        assert read(EventsDecoder, [around]).shown == read(EventsDecoder, bytewise(around)).shown

    check_rows(BAD, check)


@given(text=named)
def test_stream_cut_at_any_byte_is_truncated(text: str) -> None:
    data, whole = text.encode().rstrip(), naive_events(loaded(text))
    for size in range(len(data)):
        got = read(EventsDecoder, [data[:size]])
        assert type(got.error) is TruncatedError
        assert repr(got.items) == repr(whole[: len(got.items)])


def test_event_is_returned_with_its_last_byte() -> None:
    decoder = EventsDecoder()
    assert decoder.feed(b'{"a": [') == [("", "start_map", None), ("", "map_key", "a"), ("a", "start_array", None)]
    assert decoder.feed(b'"x"') == [("a.item", "string", "x")]
    assert decoder.feed(b", 12") == []
    assert decoder.feed(b"3]") == [("a.item", "number", 123), ("a", "end_array", None)]
    assert decoder.feed(b"}") == [("", "end_map", None)]
    assert decoder.finish() == []


def test_root_number_needs_proof_of_end() -> None:
    assert type(read(EventsDecoder, [b"12"]).error) is TruncatedError
    assert read(EventsDecoder, [b"12"], framed=True) == ([("", "number", 12)], None)
    assert read(EventsDecoder, [b"1", b"2 "]) == ([("", "number", 12)], None)


@pytest.mark.parametrize("piece_bytes", [1, 1000, 10**6])
def test_int_with_too_many_digits_is_refused(piece_bytes: int) -> None:
    for digits in (b"1" * 5000, b"-" + b"1" * 5000, b"0." + b"1" * 5000, b"1" * 20_000):
        data = b"[1,%b,2]" % digits
        got = read(EventsDecoder, cut_at(data, range(piece_bytes, len(data), piece_bytes)))
        assert got.items == [("", "start_array", None), ("item", "number", 1)]
        assert type(got.error) is LimitError
        assert got.error.byte_offset == 3
    for data in (b"[1," + b"1" * 5000, b'{"a":' + b"1" * 5000 + b"}"):
        assert type(read(EventsDecoder, [data]).error) is LimitError
    most = b"[" + b"1" * 4300 + b"]"
    assert read(EventsDecoder, [most]).items[1] == ("item", "number", int(b"1" * 4300))


def test_number_outside_float_range_is_refused() -> None:
    for data in (b"[1,1e400]", b"[1,-1E+999]"):
        for pieces in every_split(data):
            got = read(EventsDecoder, pieces)
            assert got.items == [("", "start_array", None), ("item", "number", 1)]
            assert isinstance(got.error, DecodeError)


@pytest.mark.parametrize("number", [b"1e99999999999999999999", b"0e4890123451469135780", b"-2.5E-9999999999999999999"])
def test_number_with_huge_exponent_is_refused(number: bytes) -> None:
    data = b"[1,%b,2]" % number
    for pieces in every_split(data):
        got = read(EventsDecoder, pieces)
        assert got.items == [("", "start_array", None), ("item", "number", 1)]
        assert type(got.error) is LimitError
        assert "exponent" in str(got.error)
    most = b"[0e%b,1e-%b]" % (b"9" * 18, b"9" * 18)
    assert [value for _, kind, value in read(EventsDecoder, [most]).items if kind == "number"] == [0.0, 0.0]


def test_string_and_name_sizes_are_limited() -> None:
    limits = Limits(max_item_bytes=5)
    for data in (b'["123456"]', b'{"123456":1}', b'[{"123456":1}]', b'["12345', b'{"a":"123456'):
        padded = data + b"6" * (not data.endswith((b"]", b"}", b"6")))
        for pieces in every_split(padded):
            assert type(read(lambda: EventsDecoder(limits=limits), pieces).error) is LimitError
    assert read(lambda: EventsDecoder(limits=limits), [b'{"12345":"12345"}']).error is None


def test_depth_of_arrays_and_objects_is_limited() -> None:
    for data in (b"[[[]]]", b'{"a":[{}]}'):
        for pieces in every_split(data):
            assert read(lambda: EventsDecoder(limits=Limits(max_depth=3)), pieces).error is None
            got = read(lambda: EventsDecoder(limits=Limits(max_depth=2)), pieces)
            assert type(got.error) is LimitError
            assert len(got.items) == 3 if data.startswith(b"{") else 2


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_error_has_the_offset_of_invalid_byte(bom: bytes) -> None:
    for pieces in every_split(bom + b'{"a": [1, x]}'):
        error = read(EventsDecoder, pieces).error
        assert error is not None
        assert error.byte_offset == 10 + len(bom)


def test_one_byte_order_mark_is_skipped() -> None:
    for pieces in every_split(b"\xef\xbb\xbf[1]"):
        assert len(read(EventsDecoder, pieces).items) == 3


def test_small_chunks_cost_at_most_three_times() -> None:
    def work(data: bytes, piece_bytes: int) -> int:
        decoder = EventsDecoder()
        for start in range(0, len(data), piece_bytes):
            decoder.feed(data[start : start + piece_bytes])
        decoder.finish()
        return decoder._scanner.bytes_walked

    for data in (b'["' + b"x" * 2**20 + b'"]', b"[" + b'{"a":[1,2]},' * 5000 + b"0]"):
        assert work(data, 1024) <= 3 * work(data, len(data))
    small = b'["' + b"x" * 5000 + b'",' + b"[1]," * 1000 + b"0]"
    assert work(small, 1) <= 3 * work(small, len(small))


def test_names_of_open_members_are_limited() -> None:
    decoder = EventsDecoder()
    tracemalloc.start()
    try:
        document = b'{"%b":' % (b"k" * 600) * 500
        with pytest.raises(LimitError, match="path to the value"):
            [*map(decoder.feed, [document[start : start + 1000] for start in range(0, len(document), 1000)])]
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_long_prefix_around_many_members_is_refused() -> None:
    document = b'{"%b":{' % (b"k" * 60_000) + b'"a":0,' * 10_000
    tracemalloc.start()
    try:
        decoder = EventsDecoder()
        assert decoder.feed(document) == [("", "start_map", None), ("", "map_key", "k" * 60_000)]
        with pytest.raises(LimitError, match="path to the value has at least 60000 bytes"):
            decoder.feed(b"")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_names_of_closed_members_do_not_count() -> None:
    decoder = EventsDecoder()
    decoder.feed(b"[")
    for _ in range(50):
        assert decoder.feed(b'{"%b":[[[1]]]},' % (b"k" * 3000))
