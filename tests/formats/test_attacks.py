"""What attacks on the formats found, once."""

from __future__ import annotations

import re
import tracemalloc

import msgspec
import pytest

from chunkwise.errors import DecodeError, LimitError
from chunkwise.formats import FORMATS
from chunkwise.formats.events import EventsDecoder
from chunkwise.formats.parsing import json_values as values

pytestmark = pytest.mark.usefixtures("twin")


@pytest.mark.parametrize(
    "text",
    [
        b'{"skip":[1.,2],"b":1}',
        b'{"skip":1e,"b":1}',
        b'{"skip":{"a"},"b":1}',
        b'{"skip":{"a":},"b":1}',
        b'{"skip":[[1,2],[3,]],"b":1}',
        b'{"skip":["\\u12"],"b":1}',
    ],
)
def test_no_regular_expression_engine_lets_bad_json_pass_where_it_is_skipped(text: bytes) -> None:
    with pytest.raises(DecodeError):
        FORMATS["json"].decoder("b").feed(text)


def test_pairs_of_surrogates_are_whole_however_they_are_cut() -> None:
    decoder = FORMATS["json"].decoder()
    items = [item for byte in b'["\\ud83d\\ude00","\\n"]' for item in decoder.feed(bytes([byte]))]
    assert [*items, *decoder.finish()] == ["\N{GRINNING FACE}", "\n"]


def test_names_of_open_members_are_bounded_together_in_events() -> None:
    decoder = EventsDecoder()
    tracemalloc.start()
    try:
        document = b'{"%b":' % (b"k" * 600) * 500
        with pytest.raises(LimitError, match="path to the value"):
            [*map(decoder.feed, [document[start : start + 1000] for start in range(0, len(document), 1000)])]
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_long_name_around_many_members_is_refused_before_each_has_it_in_its_prefix() -> None:
    document = b'{"%b":{' % (b"k" * 60_000) + b'"a":0,' * 10_000
    tracemalloc.start()
    try:
        decoder = EventsDecoder()
        assert decoder.feed(document) == [("", "start_map", None), ("", "map_key", "k" * 60_000)]
        with pytest.raises(LimitError, match="path to the value has 60000 bytes"):
            decoder.feed(b"")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("skipped", [b'"' + b"\\n" * 50_000 + b'"', b"[" + b"1," * 50_000 + b"1]"])
def test_a_value_that_is_skipped_takes_no_memory_for_each_of_its_parts(skipped: bytes) -> None:
    document = b'{"skip":%b,"b":1}' % skipped
    tracemalloc.start()
    try:
        assert FORMATS["json"].decoder("b").feed(document) == [1]
        assert tracemalloc.get_traced_memory()[1] < 1.5 * 2**20
    finally:
        tracemalloc.stop()


def test_names_of_closed_members_are_no_part_of_the_path() -> None:
    decoder = EventsDecoder()
    decoder.feed(b"[")
    for _ in range(50):
        assert decoder.feed(b'{"%b":[[[1]]]},' % (b"k" * 3000))


@pytest.mark.parametrize("name", ["ndjson", "csv", "text", "sse"])
def test_a_line_in_tiny_pieces_takes_no_more_than_its_bytes(name: str) -> None:
    decoder = FORMATS[name].decoder()
    tracemalloc.start()
    try:
        for _ in range(2**16):
            decoder.feed(b"xx")
        assert tracemalloc.get_traced_memory()[1] < 2**18  # the places alone of a list of pieces would take 2**19
    finally:
        tracemalloc.stop()


def test_a_stray_quote_in_csv_is_told_at_once_with_its_place() -> None:
    decoder = FORMATS["csv"].decoder()
    assert decoder.feed(b'a,b\n1,2\n3,5" pipe') == [{"a": "1", "b": "2"}]
    with pytest.raises(DecodeError, match="quote inside a field") as caught:
        decoder.feed(b"")
    assert (caught.value.item_index, caught.value.byte_offset) == (1, 11)


def test_quotes_that_begin_a_field_may_stand_anywhere_in_a_chunk() -> None:
    data = b'a,b\r\n"x","y ""z"""\r\n"",""\r\n'
    for cut in range(len(data)):
        decoder = FORMATS["csv"].decoder()
        items = [*decoder.feed(data[:cut]), *decoder.feed(data[cut:]), *decoder.finish()]
        assert items == [{"a": "x", "b": 'y "z"'}, {"a": "", "b": ""}]


def test_what_is_merely_iterable_is_refused_not_written_as_an_array() -> None:
    class Model:
        def __iter__(self) -> object:
            return iter([("id", 1)])

    with pytest.raises(TypeError, match="JSON cannot hold Model"):
        values.encode_array([Model()], 0)


def test_many_empty_texts_make_no_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = msgspec.json.Decoder

    def make(*args: object) -> object:
        made.append(args)
        return real(*args)

    monkeypatch.setattr(msgspec.json, "Decoder", make)
    decoder = FORMATS["json-seq"].decoder()
    assert decoder.feed(b"\x1e" * 1000 + b"1\n") == [1]
    assert len(made) < 20


def test_the_probe_for_the_engine_tells_what_it_is_for() -> None:
    # gh-106052: a possessive group that fails half-way is to be undone.
    sound = re.fullmatch(rb"(?:ab?c)*+a", b"aca") is not None
    from chunkwise.formats.parsing import scanner

    assert (scanner._TURNS == b"*+") is sound
