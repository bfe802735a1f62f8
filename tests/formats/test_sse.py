"""formats/sse.py: server-sent events, as WHATWG HTML §9.2.5 and §9.2.6 define them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, EncodeError, LimitError, TruncatedError
from chunkwise.formats.contract import Limits
from chunkwise.formats.parsing.json_values import LivePart
from chunkwise.formats.sse import ServerSentEvent, SseDecoder, SseEncoder, value_of
from tests.formats.reading import Reading, bytewise, cuts, every_split, random_split, read
from tests.tables import check_rows, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")

END = "\n\n"


def events(data: bytes, **options: Any) -> Reading:
    """Decode whole events; check that the result is the same in all chunks."""
    readings = [
        read(lambda: SseDecoder(type=ServerSentEvent, **options), pieces) for pieces in (*every_split(data), [data])
    ]
    assert len({reading.shown for reading in readings}) == 1
    return readings[0]


def event(data: str, event: str = "message", id: str = "", retry: int | None = None) -> ServerSentEvent:
    return ServerSentEvent(data=data, event=event, id=id, retry=retry)


CASES: dict[str, tuple[str, list[ServerSentEvent]]] = {
    # The examples of the standard.
    "three lines of data": ("data: YHOO\ndata: +2\ndata: 10" + END, [event("YHOO\n+2\n10")]),
    "the four blocks of the standard": (
        ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [event("first event", id="1"), event("second event", id=""), event(" third event", id="")],
    ),
    "empty data, and two empty lines of it": ("data\n\ndata\ndata\n\ndata:\n\n", [event(""), event("\n"), event("")]),
    "one space is dropped": ("data:test\n\ndata: test\n\n", [event("test"), event("test")]),
    # Lines.
    "CR": ("data: a\rdata: b\r\r", [event("a\nb")]),
    "CRLF": ("data: a\r\ndata: b\r\n\r\n", [event("a\nb")]),
    "mixed line ends": ("data: a\rdata: b\ndata: c\r\n\rdata: d\n\r", [event("a\nb\nc"), event("d")]),
    "CR CR LF is two ends": ("data: a\r\r\ndata: b\n\n", [event("a"), event("b")]),
    "LF CR is two ends": ("data: a\n\rdata: b\n\r", [event("a"), event("b")]),
    "CR LF CR LF is two ends": ("data: a\r\n\r\ndata: b\r\n\r\n", [event("a"), event("b")]),
    "line separators are data": ("data: \u2028\u2029\x85\x0b\x0c\x1c" + END, [event("\u2028\u2029\x85\x0b\x0c\x1c")]),
    "many blank lines": ("\n\n\n\ndata: a\n\n\n\n", [event("a")]),
    # Fields.
    "comments": (":\n: x\n:data: no\ndata: a\n:x\ndata: b" + END, [event("a\nb")]),
    "a comment alone": (": keepalive" + END, []),
    "unknown fields": ("date: x\ndatas: y\nDATA: z\n data: w\ndata : v\ndata: a" + END, [event("a")]),
    "a colon in the value": ("data: a:b: c" + END, [event("a:b: c")]),
    "tabs are kept": ("data:\ta\t" + END, [event("\ta\t")]),
    "trailing spaces are kept": ("data: a  " + END, [event("a  ")]),
    "event names": ("event: add\ndata: 1\n\ndata: 2\n\n", [event("1", "add"), event("2")]),
    "the last event name counts": ("event: a\nevent: b\ndata: 1" + END, [event("1", "b")]),
    "an empty event name is message": ("event: a\nevent:\ndata: 1" + END, [event("1")]),
    "a block without data is no event": ("event: add\n\nid: 5\n\nretry: 1\n\n", []),
    "its event name is forgotten": ("event: add\n\ndata: 1" + END, [event("1")]),
    "its id stays": ("id: 5\n\ndata: 1" + END, [event("1", id="5")]),
    "ids stay until changed": (
        "id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\nid\ndata: d\n\n",
        [event("a", id="1"), event("b", id="1"), event("c", id="2"), event("d", id="")],
    ),
    "an id with NUL is ignored": ("id: 1\nid: 2\0\ndata: a" + END, [event("a", id="1")]),
    "NUL in data and event is kept": ("event: \0\ndata: \0" + END, [event("\0", "\0")]),
    "retry": ("retry: 1500\ndata: a" + END, [event("a", retry=1500)]),
    "retry with zeros": ("retry: 007\ndata: a" + END, [event("a", retry=7)]),
    **{
        f"retry of {text!r} is ignored": (f"retry:{text}\ndata: a" + END, [event("a")])
        for text in ("", " ", " 1.5", " -1", " +1", " 1e3", " 1 ", "  1", " ten", " ١٢", " ²")
    },
    "one BOM is skipped": ("\ufeffdata: a" + END, [event("a")]),
    "a second BOM is part of the name": ("\ufeff\ufeffdata: a\ndata: b" + END, [event("b")]),
    "a later BOM is part of the name": ("data: a\n\n\ufeffdata: b\n\n", [event("a")]),
    "a BOM in data is data": ("data: \ufeff" + END, [event("\ufeff")]),
    "characters of many bytes": ("event: é\nid: €\ndata: 😀" + END, [event("😀", "é", "€")]),
}


def test_events_are_parsed_per_standard() -> None:
    def check(text: str, expected: list[ServerSentEvent]) -> None:
        assert events(text.encode()) == (expected, None)

    check_rows(CASES, check)


@pytest.mark.parametrize("field", ["data", "event", "id"])
def test_invalid_utf8_in_data_is_replaced(field: str) -> None:
    for raw, shown in (
        (b"a\xffb", "a\ufffdb"),
        (b"\xe2\x82", "\ufffd"),
        (b"\xc3", "\ufffd"),
        (b"\xed\xa0\x80", "\ufffd" * 3),
    ):
        got = events(b"%b: %b\ndata: x\n\n" % (field.encode(), raw))
        assert got.error is None
        assert getattr(got.items[0], field) == (f"{shown}\nx" if field == "data" else shown)


def test_invalid_utf8_outside_data_is_ignored() -> None:
    assert events(b": \xff\n\xff: x\ndata\xff: x\ndata: a\n\n") == ([event("a")], None)


def test_event_without_blank_line_is_truncated() -> None:
    def check(rest: str) -> None:
        for framed in (False, True):
            for pieces in every_split(f"data: a\n\n{rest}".encode()):
                got = read(lambda: SseDecoder(type=ServerSentEvent), pieces, framed=framed)
                assert got.items == [event("a")]
                assert type(got.error) is TruncatedError

    check_rows(
        named(["data: b", "data: b\n", "data: b\r", "id: 1\n", "event: x\n", ":", "dat", "\ufeffdata: b\n"]), check
    )


def test_comment_is_not_an_incomplete_event() -> None:
    assert events(b"data: a\n\n: keepalive\n") == ([event("a")], None)


def test_decoder_has_last_event_id_and_retry() -> None:
    decoder = SseDecoder()
    assert (decoder.last_event_id, decoder.retry) == ("", None)
    decoder.feed(b"id: 7\nretry: 10\n")
    assert decoder.last_event_id == "", "the id counts with the end of its block"
    assert decoder.retry == 10, "the time counts at once"
    decoder.feed(b"data: 1\n\ndata: 2\n\n")
    assert (decoder.last_event_id, decoder.retry) == ("7", 10)
    decoder.feed(b"id: 8\n\nretry: x\n\n")
    assert (decoder.last_event_id, decoder.retry) == ("8", 10)
    decoder.feed(b"id: 9\ndata: 3\n")
    with pytest.raises(TruncatedError):
        decoder.finish()
    assert decoder.last_event_id == "8"


def test_emit_empty_returns_events_without_data() -> None:
    data = b": x\n\nevent: ping\n\nid: 3\n\ndata: a\n\n\n\n"
    assert events(data).items == [event("a", id="3")]
    expected = [event("", "ping"), event("", id="3"), event("a", id="3")]
    assert events(data, emit_empty=True) == (expected, None)


def test_items_are_decoded_from_data() -> None:
    data = b'id: 0\ndata: {"a":\ndata: [1,\ndata: 2]}\n\nevent: x\ndata: null\n\n: c\n\ndata:"\xe2\x80\xa8"\n\n'
    for pieces in every_split(data):
        assert read(SseDecoder, pieces) == ([{"a": [1, 2]}, None, "\u2028"], None)


def test_error_for_text_data_names_alternative() -> None:
    def check(bad: str) -> None:
        data = f"data: 1\n\ndata: 2\n\ndata: {bad}\n\ndata: 3\n\n".encode("utf-8", "surrogatepass")
        for pieces in every_split(data):
            got = read(SseDecoder, pieces)
            assert got.items == [1, 2]
            assert type(got.error) is DecodeError
            assert got.error.item_index == 2
            assert "type=ServerSentEvent" in got.error.message

    check_rows(named(["", "[1", "1 2", "1\ndata: 2", "[DONE]", '"\ud83d', "NaN", "\ufffd"]), check)


def test_path_selects_inside_data() -> None:
    data = b'data: {"choices":[{"text":"a"},{"text":"b"}]}\n\ndata: {}\n\ndata: {"choices":[{"text":"c"}]}\n\n'
    for pieces in every_split(data):
        assert read(lambda: SseDecoder("choices.item.text", required=True), pieces) == (["a", "b", "c"], None)
    with pytest.raises(TypeError, match="path"):
        SseDecoder("a", type=ServerSentEvent)


def test_limit_counts_data_bytes_of_event() -> None:
    make = lambda: SseDecoder(type=ServerSentEvent, limits=Limits(max_item_bytes=3))  # noqa: E731
    for pieces in every_split(b"data: ab\n\ndata: a\ndata: b\n\n"):
        assert len(read(make, pieces).items) == 2
    for pieces in every_split(b"data: ab\n\ndata: a\ndata: bc\n\n"):
        got = read(make, pieces)
        assert got.items == [event("ab")]
        assert "max_item_bytes" in str(got.error)


class TestEncoder:
    def test_event_id_is_index_of_item(self) -> None:
        encoder = SseEncoder()
        assert (
            encoder.encode([{"a": 1}, "x\n\u2028"]) == 'id: 0\ndata: {"a":1}\n\nid: 1\ndata: "x\\n\u2028"\n\n'.encode()
        )
        assert encoder.encode([]) == b""
        assert encoder.open_item() + b"[1]" + encoder.close_item() == b"id: 2\ndata: [1]\n\n"
        assert encoder.encode([None]) == b"id: 3\ndata: null\n\n"

    def test_items_beside_events_are_unchanged(self) -> None:
        mixed = SseEncoder().encode([1, ServerSentEvent(data="x"), 2])
        assert mixed == b"id: 0\ndata: 1\n\nid: 1\ndata: x\n\nid: 2\ndata: 2\n\n"

    field = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=5)

    @given(
        sent=st.lists(
            st.builds(
                ServerSentEvent,
                data=st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)
                | st.sampled_from([" a", "\n", ":", "\n\n", "data: x", "\ufeff"]),
                event=field.filter(bool),
                id=field,
                retry=st.none() | st.integers(0, 10**9),
            ),
            max_size=4,
        ),
        drawn=cuts,
    )
    def test_whole_events_are_decoded_as_sent(self, sent: list[ServerSentEvent], drawn: list[int]) -> None:
        data = SseEncoder().encode(sent)
        for pieces in ([data], bytewise(data), random_split(data, drawn)):
            assert read(lambda: SseDecoder(type=ServerSentEvent), pieces) == (sent, None)

    @pytest.mark.parametrize("text", ["a\rb", "a\r\nb", "a\nb"])
    def test_line_end_in_data_starts_new_data_line(self, text: str) -> None:
        assert SseEncoder().encode([ServerSentEvent(data=text)]) == b"id: 0\ndata: a\ndata: b\n\n"

    def test_unencodable_events_are_refused(self) -> None:
        def check(bad: Any) -> None:
            encoder = SseEncoder()
            encoder.encode([1])
            with pytest.raises(EncodeError) as caught:
                encoder.encode([ServerSentEvent(data="a"), bad])
            assert caught.value.item_index == 2
            assert encoder.encode([ServerSentEvent(data="a")]) == b"id: 1\ndata: a\n\n"

        check_rows(
            named(
                [
                    ServerSentEvent(data="x", id="a\nb"),
                    ServerSentEvent(data="x", id="a\r"),
                    ServerSentEvent(data="x", id="a\0"),
                    ServerSentEvent(data="x", event="a\nb"),
                    ServerSentEvent(data="x", event="\ud800"),
                    ServerSentEvent(data="\ud800"),
                    ServerSentEvent(data="x", retry=-1),
                    ServerSentEvent(data="x", retry=1.5),  # type: ignore[arg-type]
                    ServerSentEvent(data={"a": 1}),  # type: ignore[arg-type]
                    ServerSentEvent(data="x", id=5),  # type: ignore[arg-type]
                    ServerSentEvent(data="x", event=None),  # type: ignore[arg-type]
                    float("nan"),
                ]
            ),
            check,
        )


def test_event_id_has_key_after_index() -> None:
    encoder = SseEncoder(first=5, key=("day", "id"))
    data = encoder.encode([{"id": 1, "day": "é", "more": 2}]) + encoder.encode([{"id": None, "day": [3]}])
    got = events(data)
    assert [each.id for each in got.items] == ['5 ["é",1]', "6 [[3],null]"]
    assert got.error is None
    whole = encoder.encode([ServerSentEvent(data='{"id": 2, "day": 3}'), ServerSentEvent(data="x", id="own")])
    assert [each.id for each in events(whole).items] == ["7 [3,2]", "own"]


def test_value_of_event_is_json_or_text() -> None:
    assert value_of(ServerSentEvent(data='{"id":1}')) == {"id": 1}
    assert value_of(ServerSentEvent(data="{oops")) == "{oops"
    assert value_of(ServerSentEvent(data="[" * 100_000)) == "[" * 100_000
    assert value_of({"id": 1}) == {"id": 1}


def test_item_without_key_member_is_refused() -> None:
    def check(bad: Any) -> None:
        encoder = SseEncoder(key=("id",))
        encoder.encode([{"id": 0}])
        with pytest.raises(EncodeError, match="lacks a member of the key of the source, expected id") as caught:
            encoder.encode([{"id": 1}, bad])
        assert caught.value.item_index == 2
        assert encoder.encode([{"id": 1}]) == b'id: 1 [1]\ndata: {"id":1}\n\n', "it has not changed its state"

    check_rows(named([{"day": 1}, [1, 2], None, 5, ServerSentEvent(data="x"), ServerSentEvent(data="[1]")]), check)


def test_live_part_beside_events_has_its_index() -> None:
    encoder = SseEncoder()
    encoder.encode([1, 2])
    with pytest.raises(LivePart) as caught:
        encoder.encode([ServerSentEvent(data="x"), 1, iter([2])])
    assert caught.value.index == 2


def test_event_type_of_end_record_is_reserved() -> None:
    for retry in (None, 5):
        event = ServerSentEvent(data="{}", event="stream-end", retry=retry)
        encoder = SseEncoder(stream_end=True)
        with pytest.raises(EncodeError, match="stream-end") as caught:
            encoder.encode([1, event])
        assert caught.value.item_index == 1
        assert SseEncoder().encode([event])


def test_event_is_one_record_with_any_path() -> None:
    decoder = SseDecoder("a.item")
    for data, items, records in (
        (b'data: {"a":[1,2,4]}\n\ndata: {"b":0}\n\nevent: x\n\ndata: {"a":', [1, 2, 4], 2),
        (b"[3]}\n", [], 2),
        (b"\n: x\n\n", [3], 3),
    ):
        assert decoder.feed(data) == items
        assert decoder.records_seen == decoder.whole_records == records


def test_last_event_id_is_read_from_any_chunks() -> None:
    decoder = SseDecoder()
    for data, last, after in (
        (b"id: 1\ndata: 1\n\n", "1", True),
        (b"id: 2\ndata: 2\n\nid: 3\ndata: 3\n\n", "3", True),
        (b"data: 4\n\ndata: 5\n\n", "3", False),
        (b"data: 6\n\nid\ndata: 7\n\n", "", True),
    ):
        assert len(decoder.feed(data)) == data.count(b"data")
        assert (decoder.last_event_id, decoder.is_behind_id) == (last, after)
    assert decoder.first_event_id == "1"


def test_too_deep_data_is_limit_error() -> None:
    for pieces in every_split(b"data: 1\n\ndata: [[[]]]\n\ndata: 2\n\n"):
        got = read(lambda: SseDecoder(limits=Limits(max_depth=2)), pieces)
        assert got.items == [1]
        assert type(got.error) is LimitError
        assert "max_depth" in got.error.message
        assert "type=" not in got.error.message
