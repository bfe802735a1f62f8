"""The promises of every format, for any items, any split of the bytes and any cut."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, StreamError, TruncatedError
from chunkwise.formats import FORMATS
from chunkwise.formats.parsing.stream_decoder import BOM
from tests.formats.reading import Reading, bytewise, cut_at, cuts, every_split, random_split, read, read_on
from tests.formats.samples import ITEMS, NAMES, broken, written
from tests.tables import check_rows, cross, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")

every_format = pytest.mark.parametrize("name", NAMES)


@every_format
@given(data=st.data())
def test_any_items_in_any_split_are_decoded_as_they_were_sent(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    stream = written(name, items)
    drawn = random_split(stream, data.draw(cuts))
    for pieces in (*every_split(stream), drawn):
        got = read(FORMATS[name].decoder, pieces)
        assert repr(got.items) == repr(items)
        assert got.error is None


@every_format
@given(data=st.data())
def test_bytes_do_not_depend_on_the_size_of_batches(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    assert written(name, items, batch_size=1) == written(name, items, batch_size=100)


@every_format
@given(data=st.data())
def test_encoder_that_is_asked_for_an_end_record_writes_the_same_items(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    row = FORMATS[name]
    sent = [f"{item}\n" for item in items] if name == "text" else items
    plain, asked = row.encoder(), row.encoder(stream_end=True)
    assert asked.start() + asked.encode(sent) == plain.start() + plain.encode(sent)
    record = asked.finish()
    assert (record != plain.finish()) == (row.end_record is not None)
    assert row.end_record is None or record.startswith(row.end_record.before)


@every_format
@given(data=st.data())
def test_records_are_counted_where_an_end_record_counts_them(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    decoder = FORMATS[name].decoder()
    for piece in random_split(written(name, items), data.draw(cuts)):
        decoder.feed(piece)
        assert 0 <= decoder.records_seen <= decoder.items_seen
    decoder.finish()
    assert decoder.records_seen == (0 if FORMATS[name].end_record is None else len(items))


@every_format
@given(data=st.data())
def test_cut_stream_gives_complete_items_and_never_a_part_of_one(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    stream = written(name, items)
    ends = [len(written(name, items[: count + 1]).removesuffix(b"]")) for count in range(len(items))]
    bytewise_cut = data.draw(st.integers(0, len(stream)))
    running, so_far = FORMATS[name].decoder(), list[Any]()
    for size in range(len(stream)):
        cut = stream[:size]
        got = read(FORMATS[name].decoder, bytewise(cut) if size == bytewise_cut else [cut])
        # All cuts of a stream that comes byte by byte begin alike: one decoder reads them all, up to their ends.
        assert repr(so_far) == repr(got.items[: len(so_far)])
        so_far += running.feed(stream[size : size + 1])
        # A JSON number ends with the next byte; a value that shows its own end needs no line end after it.
        least = sum(end < size if name == "json" else end <= size for end in ends)
        most = sum(end <= size + 1 for end in ends)
        assert repr(got.items) == repr(items[: len(got.items)])
        assert least <= len(got.items) <= most
        assert got.error is None or type(got.error) is TruncatedError
        if name == "json":
            assert got.failed
        if got.error is None and name in ("ndjson", "json-seq", "sse"):  # (for csv and text see the next test)
            assert len(got.items) == most, "what was cut off must be missed"
        if isinstance(got.error, TruncatedError):
            assert (got.error.items_seen, got.error.bytes_seen) == (len(got.items), size)


@pytest.mark.parametrize("name", ["csv", "text"])
@given(data=st.data())
def test_cut_inside_a_line_is_an_error(name: str, data: st.DataObject) -> None:
    stream = written(name, data.draw(ITEMS[name].filter(bool)))
    for size in range(1, len(stream)):
        got = read(FORMATS[name].decoder, bytewise(stream[:size]))
        assert got.failed or stream[:size].endswith(b"\n")


@every_format
@given(data=st.data())
def test_broken_bytes_raise_only_our_errors_for_any_split(name: str, data: st.DataObject) -> None:
    stream = data.draw(broken(FORMATS[name]))
    framed = data.draw(st.booleans())
    whole = read(FORMATS[name].decoder, [stream], framed=framed)
    assert whole.error is None or isinstance(whole.error, DecodeError)
    for pieces in (*every_split(stream), random_split(stream, data.draw(cuts))):
        assert read(FORMATS[name].decoder, pieces, framed=framed).shown == whole.shown


@given(data=st.data())
def test_json_seq_continues_after_defects_with_the_same_items_for_any_split(data: st.DataObject) -> None:
    make = FORMATS["json-seq"].decoder
    stream = b"".join(data.draw(st.lists(broken(FORMATS["json-seq"]), min_size=1, max_size=3)))
    framed = data.draw(st.booleans())
    whole = repr(read_on(make, [stream], framed=framed))
    for pieces in (*every_split(stream), random_split(stream, data.draw(cuts))):
        assert repr(read_on(make, pieces, framed=framed)) == whole


@every_format
@given(data=st.data())
def test_item_is_delivered_with_the_byte_that_completes_it(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    decoder = FORMATS[name].decoder()
    encoder = FORMATS[name].encoder()
    assert decoder.feed(encoder.start()) == []
    late = 1 if name == "json" else 0  # a number waits for the comma
    seen = 0
    for count, item in enumerate(items, 1):
        seen += len(decoder.feed(encoder.encode([f"{item}\n" if name == "text" else item])))
        assert count - late <= seen <= count


@every_format
@given(data=st.data())
def test_one_byte_order_mark_at_the_start_is_skipped(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    stream = BOM + written(name, items)
    cuts_in_and_behind_it = [cut_at(stream, [cut]) for cut in range(1, len(BOM) + 2)]
    for pieces in ([stream], bytewise(stream), *cuts_in_and_behind_it):
        assert read(FORMATS[name].decoder, pieces).shown == Reading(items, None).shown


def test_second_byte_order_mark_is_data_or_an_error() -> None:
    def check(name: str) -> None:
        items: list[Any] = [{"a": "1"}]
        stream = BOM + BOM + (b"a\n" if name == "text" else written(name, items))
        outcomes = {read(FORMATS[name].decoder, pieces).shown for pieces in every_split(stream)}
        expected = {
            "csv": "[{'\\ufeffa': '1'}] whole",
            "text": "['\\ufeffa'] whole",
            "sse": "[{'a': '1'}] whole",  # (the line is "<BOM>id: 0", an unknown field)
        }
        assert outcomes == {expected.get(name, "[] and an error")}

    check_rows(named(NAMES), check)


def test_stream_cut_inside_its_byte_order_mark_is_truncated() -> None:
    def check(name: str, stop: int) -> None:
        for framed in (False, True):
            got = read(FORMATS[name].decoder, [BOM[:stop]], framed=framed)
            assert got.items == []
            if name == "json-seq":  # (framing ignores UTF-8: garbage before the first text)
                assert isinstance(got.error, DecodeError)
            else:
                assert type(got.error) is TruncatedError
                assert got.error.bytes_seen == stop

    check_rows(cross(named(NAMES), named([1, 2])), check)


def test_defect_is_raised_by_the_call_after_earlier_items() -> None:
    def check(name: str) -> None:
        good: list[Any] = [{"a": "1"}, {"a": "2"}]
        if name == "text":
            good, stream = ["1", "2"], b"1\n2\n\xff"
        elif name == "sse":
            stream = written(name, good) + b"data: [\n\n"
        elif name == "csv":
            stream = written(name, good) + b"1,2\n"
        else:
            stream = written(name, good).removesuffix(b"]") + (
                b"," if name == "json" else b"\x1e" * (name == "json-seq")
            )
            stream += b"]x\n"
        decoder = FORMATS[name].decoder()
        assert decoder.feed(stream) == good
        assert decoder.items_seen == 2
        with pytest.raises(DecodeError) as caught:
            decoder.feed(b"")
        assert (caught.value.format, caught.value.item_index) == (name, 2)
        decoder = FORMATS[name].decoder()
        assert decoder.feed(stream) == good
        with pytest.raises(DecodeError):
            decoder.finish()

    check_rows(named(NAMES), check)


def test_error_stays() -> None:
    def check(name: str) -> None:
        decoder = FORMATS[name].decoder()
        steps: list[Callable[[], list[Any]]] = [
            lambda: decoder.feed(b"\xff"),
            lambda: decoder.feed(b"1\n"),
            decoder.finish,
            decoder.finish,
        ]
        for step in steps:
            with pytest.raises(DecodeError, match="invalid UTF-8"):
                step()

    check_rows(named([name for name in NAMES if name not in ("sse", "json-seq")]), check)


def test_feeding_after_the_end_is_an_error_and_finishing_twice_is_not() -> None:
    def check(name: str) -> None:
        items = ["x"] if name == "text" else [{"a": "1"}]
        decoder = FORMATS[name].decoder()
        assert decoder.feed(written(name, items)) == items
        assert decoder.finish() == []
        assert decoder.finish() == []
        with pytest.raises(ValueError, match="after finish") as caught:
            decoder.feed(b"")
        assert not isinstance(caught.value, StreamError)

    check_rows(named(NAMES), check)


def test_feeding_nothing_is_not_the_end() -> None:
    def check(name: str) -> None:
        items = ["x", "y"] if name == "text" else [{"a": "1"}, {"a": "2"}]
        got = read(
            FORMATS[name].decoder, [piece for byte in bytewise(written(name, items)) for piece in (b"", byte, b"")]
        )
        assert got == (items, None)

    check_rows(named(NAMES), check)


TRUNCATED, DEFECT = TruncatedError, DecodeError
FRAMED = [
    # format, bytes, result without a proof of the end, result if the framing proves it: items, then the error if any
    ("json", b"12", [TRUNCATED], [12]),
    ("json", b"-", [TRUNCATED], [DEFECT]),
    ("json", b"12 ", [12], [12]),
    ("json", b"[12", [TRUNCATED], [TRUNCATED]),
    ("json", b'[1,"a', [1, TRUNCATED], [1, TRUNCATED]),
    ("json", b"true", [True], [True]),
    ("json", b"tru", [TRUNCATED], [TRUNCATED]),
    ("json", b"", [TRUNCATED], [TRUNCATED]),
    ("ndjson", b"1\n23", [1, TRUNCATED], [1, 23]),
    ("ndjson", b"1\n-", [1, TRUNCATED], [1, DEFECT]),
    ("ndjson", b'1\n{"a":2}', [1, {"a": 2}], [1, {"a": 2}]),
    ("ndjson", b'1\n{"a":2', [1, TRUNCATED], [1, DEFECT]),
    ("ndjson", b"true", [True], [True]),
    ("ndjson", b'"a"\r', ["a"], ["a"]),
    ("ndjson", b'"\xc3', [TRUNCATED], [TRUNCATED]),
    ("json-seq", b"\x1e1\n\x1e23", [1, TRUNCATED], [1, 23]),
    ("json-seq", b"\x1etrue", [TRUNCATED], [True]),
    ("json-seq", b"\x1e[1", [TRUNCATED], [TRUNCATED]),
    ("json-seq", b'\x1e"a"', ["a"], ["a"]),
    ("json-seq", b'\x1e"\xc3', [TRUNCATED], [TRUNCATED]),
    ("sse", b"data: 1\n\ndata: 2\n", [1, TRUNCATED], [1, TRUNCATED]),
    ("csv", b"a\n1", [TRUNCATED], [{"a": "1"}]),
    ("csv", b'a\n"1', [TRUNCATED], [TRUNCATED]),
    ("csv", b'a\n"1"', [TRUNCATED], [{"a": "1"}]),
    ("csv", b"a\n1\r", [TRUNCATED], [{"a": "1"}]),
    ("csv", b"a\n1,2", [TRUNCATED], [DEFECT]),
    ("csv", b"a\n\xc3", [TRUNCATED], [TRUNCATED]),
    ("text", b"a\nb", ["a", TRUNCATED], ["a", "b"]),
    ("text", b"a\nb\r", ["a", TRUNCATED], ["a", "b"]),
    ("text", b"a\n\xc3", ["a", TRUNCATED], ["a", TRUNCATED]),
]


def test_framing_proves_the_end_that_the_format_cannot() -> None:
    def check(name: str, data: bytes, unproven: list[Any], proven: list[Any]) -> None:
        for framed, expected in ((False, unproven), (True, proven)):
            for pieces in every_split(data) if data else [[]]:
                got = read(FORMATS[name].decoder, pieces, framed=framed)
                assert [*got.items, *([type(got.error)] if got.error else [])] == expected

    check_rows({f"{row[0]} {row[1]!r}": row for row in FRAMED}, check)
