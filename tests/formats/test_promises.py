"""What every format promises, for random items, in any chunks, and for streams cut at any byte.

Each random example is checked with the compiled code and with the fallback.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, TruncatedError
from chunkwise.formats import FORMATS
from chunkwise.formats.parsing.stream_decoder import BOM
from tests.formats.codes import CODES, using
from tests.formats.reading import Reading, bytewise, cut_at, cuts, every_split, random_split, read, read_on
from tests.formats.samples import ITEMS, NAMES, broken, written

every_format = pytest.mark.parametrize("name", NAMES)


@every_format
@given(data=st.data())
def test_items_are_decoded_from_any_chunks(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    stream = written(name, items)
    drawn = random_split(stream, data.draw(cuts))
    for code in CODES:
        with using(code):
            for pieces in (*every_split(stream), drawn):
                got = read(FORMATS[name].decoder, pieces)
                assert repr(got.items) == repr(items)
                assert got.error is None


@every_format
@given(data=st.data())
def test_batch_size_does_not_change_bytes(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    for code in CODES:
        with using(code):
            assert written(name, items, batch_size=1) == written(name, items, batch_size=100)


@every_format
@given(data=st.data())
def test_end_record_does_not_change_items(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    for code in CODES:
        with using(code):
            row = FORMATS[name]
            sent = [f"{item}\n" for item in items] if name == "text" else items
            plain, asked = row.encoder(), row.encoder(stream_end=True)
            assert asked.start() + asked.encode(sent) == plain.start() + plain.encode(sent)
            record = asked.finish()
            assert (record != plain.finish()) == (row.end_record is not None)
            assert row.end_record is None or record.startswith(row.end_record.before)


@every_format
@given(data=st.data())
def test_records_are_counted_for_end_record(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    pieces = random_split(written(name, items), data.draw(cuts))
    for code in CODES:
        with using(code):
            decoder = FORMATS[name].decoder()
            for piece in pieces:
                decoder.feed(piece)
                assert 0 <= decoder.records_seen <= decoder.items_seen
            decoder.finish()
            assert decoder.records_seen == (0 if FORMATS[name].end_record is None else len(items))


@every_format
@given(data=st.data())
def test_cut_stream_gives_only_complete_items(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    stream = written(name, items)
    ends = [len(written(name, items[: count + 1]).removesuffix(b"]")) for count in range(len(items))]
    bytewise_cut = data.draw(st.integers(0, len(stream)))
    for code in CODES:
        with using(code):
            running, so_far = FORMATS[name].decoder(), list[Any]()
            for size in range(len(stream)):
                cut = stream[:size]
                got = read(FORMATS[name].decoder, bytewise(cut) if size == bytewise_cut else [cut])
                # All cut streams begin with the same bytes, so one decoder reads them all and is copied at each cut.
                assert repr(so_far) == repr(got.items[: len(so_far)])
                # A JSON number ends with the byte after it. Other values show their own end and need no line end.
                least = sum(end < size if name == "json" else end <= size for end in ends)
                most = sum(end <= size + 1 for end in ends)
                assert repr(got.items) == repr(items[: len(got.items)])
                assert least <= len(so_far) <= len(got.items) <= most
                so_far += running.feed(stream[size : size + 1])
                assert got.error is None or type(got.error) is TruncatedError
                if name == "json":
                    assert got.failed
                if got.error is None and name in ("ndjson", "json-seq", "sse"):  # (csv and text: see the next test)
                    assert len(got.items) == most, "what was cut off must be missed"
                if isinstance(got.error, TruncatedError):
                    assert (got.error.items_seen, got.error.bytes_seen) == (len(got.items), size)


@pytest.mark.parametrize("name", ["csv", "text"])
@given(data=st.data())
def test_cut_inside_a_line_is_an_error(name: str, data: st.DataObject) -> None:
    stream = written(name, data.draw(ITEMS[name].filter(bool)))
    for code in CODES:
        with using(code):
            for size in range(1, len(stream)):
                got = read(FORMATS[name].decoder, bytewise(stream[:size]))
                assert got.failed or stream[:size].endswith(b"\n")


@every_format
@given(data=st.data())
def test_corrupt_bytes_raise_only_stream_errors(name: str, data: st.DataObject) -> None:
    stream = data.draw(broken(FORMATS[name]))
    framed = data.draw(st.booleans())
    drawn = random_split(stream, data.draw(cuts))
    whole = read(FORMATS[name].decoder, [stream], framed=framed)
    assert whole.error is None or isinstance(whole.error, DecodeError)
    for code in CODES:
        with using(code):
            for pieces in (*every_split(stream), drawn):
                assert read(FORMATS[name].decoder, pieces, framed=framed).shown == whole.shown


@given(data=st.data())
def test_json_seq_continues_after_invalid_texts(data: st.DataObject) -> None:
    make = FORMATS["json-seq"].decoder
    stream = b"".join(data.draw(st.lists(broken(FORMATS["json-seq"]), min_size=1, max_size=3)))
    framed = data.draw(st.booleans())
    drawn = random_split(stream, data.draw(cuts))
    whole = repr(read_on(make, [stream], framed=framed))
    for code in CODES:
        with using(code):
            for pieces in (*every_split(stream), drawn):
                assert repr(read_on(make, pieces, framed=framed)) == whole


@every_format
@given(data=st.data())
def test_item_is_returned_with_its_last_byte(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    for code in CODES:
        with using(code):
            decoder = FORMATS[name].decoder()
            encoder = FORMATS[name].encoder()
            assert decoder.feed(encoder.start()) == []
            late = 1 if name == "json" else 0  # a number is complete only at the comma
            seen = 0
            for count, item in enumerate(items, 1):
                seen += len(decoder.feed(encoder.encode([f"{item}\n" if name == "text" else item])))
                assert count - late <= seen <= count


@every_format
@given(data=st.data())
def test_one_byte_order_mark_is_skipped(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    for code in CODES:
        with using(code):
            stream = BOM + written(name, items)
            cuts_in_and_behind_it = [cut_at(stream, [cut]) for cut in range(1, len(BOM) + 2)]
            for pieces in ([stream], bytewise(stream), *cuts_in_and_behind_it):
                assert read(FORMATS[name].decoder, pieces).shown == Reading(items, None).shown
