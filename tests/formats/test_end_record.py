"""formats/end_record.py: the record that proves the end of a stream, and items that look like it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, EncodeError, LimitError, PathNotFound, RemoteError, TruncatedError
from chunkwise.formats import FORMATS, Limits
from chunkwise.formats.events import EventsDecoder
from chunkwise.formats.parsing.stream_decoder import BOM
from chunkwise.formats.sse import ServerSentEvent
from tests.formats.end_records import COMPLETE_2, PROBLEM, WITH, decoder, maker, marks, new_encoder, sent, with_record
from tests.formats.reading import bytewise, cuts, every_split, random_split, read
from tests.formats.samples import ITEMS, NAMES, values
from tests.tables import check_rows, cross, named


@with_record
def test_end_record_bytes_of_each_format(name: str) -> None:
    assert sent(name, [1, 2]).removeprefix(FORMATS[name].encoder().encode([1, 2])) == COMPLETE_2[name]
    failed = sent(name, [], problem={"title": "Gone", "status": 410})
    recorded = b'{"status":"failed","items":0,"problem":{"title":"Gone","status":410}}'
    assert failed == marks(name).before + recorded + marks(name).after


@with_record
@given(data=st.data())
def test_end_is_proven_for_any_items_and_chunks(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    stream = sent(name, items)
    for pieces in (*every_split(stream), random_split(stream, data.draw(cuts))):
        made = decoder(name)
        got = read(lambda: made, pieces)  # noqa: B023
        assert (repr(got.items), got.error) == (repr(items), None)
        assert made.proves_end
        assert (made.records_seen, made.bytes_seen) == (len(items), len(stream))


@with_record
@given(data=st.data())
def test_every_prefix_of_stream_is_truncated(name: str, data: st.DataObject) -> None:
    items = data.draw(ITEMS[name])
    stream = sent(name, items)
    framed = data.draw(st.booleans())
    for size in range(len(stream)):
        made = decoder(name)
        got = read(lambda: made, random_split(stream[:size], [3, 7]), framed=framed)  # noqa: B023
        assert repr(got.items) == repr(items[: len(got.items)])
        assert type(got.error) is TruncatedError
        assert (got.error.items_seen, got.error.bytes_seen, got.error.format) == (len(got.items), size, name)
        assert not made.proves_end


@with_record
@given(data=st.data())
def test_corrupt_bytes_raise_only_stream_errors(name: str, data: st.DataObject) -> None:
    whole = sent(name, data.draw(ITEMS[name]), problem=data.draw(st.none() | st.just(PROBLEM)))
    odd = [b"\n", b"\n\n", b" ", b":", b"\x1e", b"}", b"x", b"\xff", marks(name).before, COMPLETE_2[name], b""]
    start = data.draw(st.integers(0, len(whole)))
    end = min(len(whole), start + data.draw(st.integers(0, 2)))
    stream = whole[:start] + data.draw(st.sampled_from(odd)) + whole[end:]
    expected = read(maker(name), [stream])
    for pieces in (*every_split(stream), random_split(stream, data.draw(cuts))):
        got = read(maker(name), pieces)
        assert got.shown == expected.shown
        assert type(got.error) is type(expected.error)


def test_wrong_item_count_is_truncated() -> None:
    def check(name: str, recorded: int) -> None:
        stream = sent(
            name, ["a", "b"], record=FORMATS["json"].encoder().encode([{"status": "complete", "items": recorded}])
        )
        for pieces in every_split(stream):
            made = decoder(name)
            got = read(lambda: made, pieces, framed=True)  # noqa: B023
            assert got.items == ["a", "b"]
            assert type(got.error) is TruncatedError
            assert got.error.message == f"received 2 items, but the end record counts {recorded}"
            assert not made.proves_end

    check_rows(cross(named(WITH), named([0, 1, 3, 10**30])), check)


@with_record
def test_failure_is_raised_after_items_and_again(name: str) -> None:
    stream = sent(name, [1, 2, 3], problem=PROBLEM)
    made = decoder(name)
    assert made.feed(stream) == [1, 2, 3]
    steps: list[Callable[[], list[Any]]] = [lambda: made.feed(b""), made.finish, lambda: made.feed(b"x"), made.finish]
    for step in steps:
        with pytest.raises(RemoteError) as caught:
            step()
        assert (caught.value.status, caught.value.problem) == (500, PROBLEM)
        assert (
            caught.value.message == "the sender's stream failed after 3 items: Internal Server Error: the disk is full"
        )
        assert (caught.value.format, caught.value.item_index) == (name, 3)
    assert not made.proves_end
    for pieces in every_split(stream):
        got = read(maker(name, required=True), pieces, ends=False)
        assert got.items == [1, 2, 3]
        assert type(got.error) is RemoteError


@with_record
def test_failure_has_precedence_over_missing_path(name: str) -> None:
    got = read(maker(name, "a", required=True), [sent(name, [], problem={"status": 404})])
    assert type(got.error) is RemoteError
    assert (got.error.status, got.error.message) == (404, "the sender's stream failed after 0 items")


def test_unencodable_problem_is_still_a_failure() -> None:
    def check(case: tuple[dict[str, Any], dict[str, Any]], name: str) -> None:
        problem, left = case
        got = read(maker(name), [sent(name, [1], problem=problem)])
        assert got.items == [1]
        assert type(got.error) is RemoteError
        assert (got.error.status, got.error.problem) == (left["status"], left)

    check_rows(
        cross(
            {
                "too long": ({"status": 503, "detail": "x" * 70_000}, {"status": 503}),
                "not JSON": ({"status": 503, "detail": object()}, {"status": 503}),
                "no status": ({"status": True, "detail": iter(())}, {"status": 500}),
            },
            named(WITH),
        ),
        check,
    )


LOOK_ALIKES: list[Any] = [
    {"stream-end": {"status": "complete", "items": 0}},
    {"stream-end": {"status": "failed", "items": 0, "problem": {}}},
    'x\n {"stream-end":{"status":"complete","items":0}}\n',
    ' {"stream-end":{}}',
    {' {"stream-end":': 1},
    "event: stream-end\ndata: {}\n\n",
    "\nevent: stream-end\n",
]


@with_record
def test_items_similar_to_end_record_are_items(name: str) -> None:
    stream = sent(name, LOOK_ALIKES)
    for pieces in every_split(stream):
        assert read(maker(name), pieces) == (LOOK_ALIKES, None)


def test_items_in_parts_are_counted_as_records() -> None:
    def check(name: str, silence: bytes) -> None:
        encoder = new_encoder(name)
        stream = encoder.start()
        for item in LOOK_ALIKES[:2]:
            text = FORMATS["json"].encoder(document=True).encode([item])
            stream += encoder.open_item() + silence + text + encoder.close_item() + encoder.encode([0])
        stream += encoder.finish()
        for pieces in (bytewise(stream), [stream]):
            assert read(maker(name), pieces) == ([LOOK_ALIKES[0], 0, LOOK_ALIKES[1], 0], None)

    check_rows(cross(named(WITH), named([b"", b"\t", b"\t\t"])), check)


@with_record
def test_no_end_record_inside_item_in_parts(name: str) -> None:
    encoder = new_encoder(name)
    stream = encoder.open_item() + b"[1,"
    assert encoder.fail(PROBLEM) == b""
    assert type(read(maker(name), [stream]).error) is TruncatedError
    encoder.close_item()
    assert encoder.fail(PROBLEM).startswith(marks(name).before)


RAW = [b' {"stream-end":{"status":"complete","items":0}}', b' {"stream-end":1}', b'[1,\n {"stream-end":2}]']


def test_raw_json_cannot_fake_end_record() -> None:
    def check(text: bytes, name: str) -> None:
        encoder = new_encoder(name)
        raw, value = msgspec.Raw(text), msgspec.json.decode(text)
        if name == "sse" or b"\n" in text:  # the data of an event never looks like the record; line ends are removed
            stream = encoder.encode([1, raw, {"a": raw}])
            assert read(maker(name), [stream + encoder.finish()]) == ([1, value, {"a": value}], None)
            return
        batches: list[list[Any]] = [[raw], [1, raw, {"a": raw}]]
        for count, batch in enumerate(batches):
            encoder = new_encoder(name)
            first = encoder.encode([0] * count)
            with pytest.raises(EncodeError, match="stream-end") as caught:
                encoder.encode(batch)
            assert caught.value.item_index == count + batch.index(raw)
        stream = first + encoder.encode([1, {"a": raw}])
        assert read(maker(name), [stream + encoder.finish()]) == ([0, 1, {"a": value}], None)
        assert FORMATS[name].encoder().encode([raw]), "without a record there is nothing to fake"

    check_rows(cross(named(RAW), named(WITH)), check)


@with_record
def test_raw_json_on_many_lines_is_one_record(name: str) -> None:
    raw = msgspec.Raw(b'{\n "a": [1.50,\r\n\n"\\n"],\r "b": 2}\n')
    stream = sent(name, [raw, [raw]])
    value = {"a": [1.5, "\n"], "b": 2}
    assert b"1.50" in stream
    for pieces in (bytewise(stream), [stream]):
        assert read(maker(name), pieces) == ([value, [value]], None)


@with_record
def test_invalid_raw_with_line_ends_is_refused(name: str) -> None:
    for raw in (b'1\n {"stream-end":{"status":"complete","items":1}}', b"1\n2", b"[\r"):
        with pytest.raises(EncodeError, match=r"msgspec\.Raw") as caught:
            new_encoder(name).encode([1, msgspec.Raw(raw)])
        assert caught.value.item_index == 1


RECORDS = [[], [5], [5, 6], [[7]]]


def test_records_are_counted_with_any_path() -> None:
    def check(path: str, name: str) -> None:
        records = [{"a": each} for each in RECORDS] + [{}, 1]
        stream = sent(name, records)
        plain = read(lambda: FORMATS[name].decoder(path), [FORMATS[name].encoder().encode(records)])
        for pieces in every_split(stream):
            made = decoder(name, path)
            assert read(lambda: made, pieces) == plain  # noqa: B023
            assert made.records_seen == len(records)
        assert len(plain.items) == {"a.item": 4, "a": 4, "b": 0, "*": 4}[path]

    check_rows(cross(named(["a.item", "a", "b", "*"]), named(WITH)), check)


@with_record
def test_missing_path_needs_a_complete_stream(name: str) -> None:
    stream = sent(name, [{}, {"a": 1}])
    for pieces in every_split(stream):
        assert type(read(maker(name, "b", required=True), pieces).error) is PathNotFound
    cut = FORMATS[name].encoder().encode([{}])
    assert type(read(maker(name, "b", required=True), [cut]).error) is TruncatedError
    wrong = sent(name, [{}], record=b'{"status":"complete","items":2}')
    assert type(read(maker(name, "b", required=True), [wrong]).error) is TruncatedError


@with_record
@given(item=values)
def test_item_is_returned_before_end_record(name: str, item: Any) -> None:
    encoder = new_encoder(name)
    first = encoder.encode([item])
    end = encoder.finish()
    for size in range(len(end) + 1):
        assert repr(decoder(name).feed(first + end[:size])) == repr([item])
    made = decoder(name)
    assert repr(made.feed(first)) == repr([item])
    item_in_parts = encoder.open_item() + b"[1]" + encoder.close_item()
    assert made.feed(item_in_parts) == [[1]]


@with_record
def test_error_before_end_record_stays(name: str) -> None:
    encoder = FORMATS[name].encoder()
    defect = {"ndjson": b"]\n", "json-seq": b"\x1e]\n", "sse": b"data: ]\n\n"}[name]
    for problem in (None, PROBLEM):
        stream = encoder.encode([1]) + defect + sent(name, [], problem=problem)
        for pieces in every_split(stream):
            got = read(maker(name), pieces)
            assert got.items == [1]
            assert type(got.error) is DecodeError
            assert got.error.item_index == 1
        made = decoder(name)
        assert made.feed(stream) == [1]
        for step in (lambda made=made: made.feed(b""), made.finish, made.finish):
            with pytest.raises(DecodeError):
                step()


@with_record
def test_type_and_limits_of_format_apply(name: str) -> None:
    assert read(maker(name, type=int), [sent(name, [1, 2])]) == ([1, 2], None)
    assert type(read(maker(name, type=int), [sent(name, [1, "2"])]).error) is DecodeError
    limits = Limits(max_item_bytes=30, max_line_bytes=30)
    assert read(maker(name, limits=limits), [sent(name, [1, 2])]) == ([1, 2], None)
    assert type(read(maker(name, limits=limits), [sent(name, ["x" * 40])]).error) is LimitError


@with_record
def test_byte_order_mark_is_skipped_by_the_format(name: str) -> None:
    for stream in (BOM + sent(name, [1, 2]), BOM + BOM + sent(name, [1, 2]), BOM):
        plain = read(FORMATS[name].decoder, [stream.removesuffix(COMPLETE_2[name])])
        for pieces in every_split(stream):
            got = read(maker(name), pieces)
            assert got.items == plain.items
            assert got.failed == (plain.failed or stream == BOM)


def test_whole_events_are_returned_one_by_one() -> None:
    sent_events = [
        ServerSentEvent(data=data, event=event, id="7", retry=retry)
        for data in ("", "\n", "\n\n", "a\r\nb", "a\r", " ", "\0", "{}", "event: stream-end")
        for event in ("message", "", "stream-end2", " stream-end", "Stream-End", "data")
        for retry in (None, 0)
    ]
    stream = sent("sse", sent_events)
    for pieces in ([stream], bytewise(stream)):
        made = decoder("sse", type=ServerSentEvent)
        got = read(lambda: made, pieces)  # noqa: B023
        assert (len(got.items), got.error) == (len(sent_events), None)
        assert made.proves_end


@pytest.mark.parametrize("name", NAMES)
def test_end_record_is_written_only_on_request(name: str) -> None:
    item: Any = "x" if name == "text" else {"a": "1"}
    plain = FORMATS[name].encoder()
    stream = plain.start() + plain.encode([item])
    assert plain.fail(PROBLEM) == b""
    stream += plain.finish()
    asked = new_encoder(name)
    with_end = asked.start() + asked.encode([item])
    failed = asked.fail(PROBLEM)
    with_end += asked.finish()
    assert (FORMATS[name].end_record is None) == (with_end == stream) == (failed == b"")
    assert (FORMATS[name].end_record is not None) == (name in WITH)
    one = FORMATS[name].encoder(document=True, stream_end=True)
    assert (one.start() + one.encode([item])).strip() in (stream + with_end).replace(b"[", b"")


PROVES = [
    ("json", b"[1]", False, True),
    ("json", b"{}", True, True),
    ("json", b"[]", True, True),
    ("json", b"true", False, True),
    ("json", b"12 ", False, True),
    ("json", b"12", True, False),
    ("events", b"[1]", False, True),
    ("events", b"12", True, False),
    ("events", b"12\n", False, True),
    ("ndjson", b"[1]\n", True, False),
    ("json-seq", b"\x1e[1]\n", True, False),
    ("sse", b"data: 1\n\n", True, False),
    ("csv", b"a\n1\n", True, False),
    ("text", b"a\n", True, False),
]


def test_only_end_record_or_grammar_proves_end() -> None:
    def check(name: str, data: bytes, framed: bool, proven: bool) -> None:
        for pieces in every_split(data):
            made = EventsDecoder() if name == "events" else FORMATS[name].decoder()
            for piece in pieces:
                made.feed(piece)
            assert not made.proves_end
            made.finish(framed=framed)
            assert made.proves_end is proven

    check_rows(named(PROVES), check)


def test_truncated_stream_proves_nothing() -> None:
    made = FORMATS["json"].decoder()
    made.feed(b"[1")
    with pytest.raises(TruncatedError):
        made.finish(framed=True)
    assert not made.proves_end


@with_record
def test_whole_records_are_those_of_the_format(name: str) -> None:
    made = decoder(name, "a.item")
    stream = sent(name, [{"a": [1, 2, 3]}, {"b": 0}])
    first = FORMATS[name].encoder().encode([{"a": [1, 2, 3]}])
    assert made.feed(first) == [1, 2, 3]
    assert made.whole_records == 1
    assert [*made.feed(stream.removeprefix(first)), *made.finish()] == []
    assert made.whole_records == 2
