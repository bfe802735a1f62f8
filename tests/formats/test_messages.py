"""formats/messages.py: items -> lines -> messages -> lines -> items, in each framing and in any chunks."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, EncodeError, RemoteError, TruncatedError
from chunkwise.formats.end_record import StreamEndDecoder, complete_record, failed_record
from chunkwise.formats.messages import (
    LINES,
    START_MARK,
    SUBPROTOCOL,
    Framing,
    Packer,
    framing_of,
    holds_end,
    start_record,
    take_start,
    unpack,
)
from chunkwise.formats.ndjson import END_RECORD, NdjsonDecoder, NdjsonEncoder
from tests.formats.reading import cuts, every_split, random_split, read
from tests.formats.samples import texts, values
from tests.tables import check_rows, named

FRAMINGS: list[Framing] = ["items", "text", "lines"]
every_framing = pytest.mark.parametrize("framing", FRAMINGS)

items_of_any_kind = st.lists(values, max_size=6)


def packed(lines: bytes, framing: Framing, cut: list[int], *, plain: bool = False) -> list[bytes]:
    packer = Packer(framing, plain=plain)
    return [message for piece in random_split(lines, cut) for message in packer.pack(piece)]


def as_sent(item: Any) -> Any:
    """Return the text of an item in a text message: a string unchanged, any other item as JSON."""
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, separators=(",", ":"))


@given(items=items_of_any_kind, cut=cuts, split=cuts)
@pytest.mark.parametrize("framing", ["items", "lines"])
def test_items_are_decoded_from_messages(framing: Framing, items: list[Any], cut: list[int], split: list[int]) -> None:
    lines = NdjsonEncoder().encode(items)
    messages = packed(lines, framing, cut)
    if framing == "items":
        assert len(messages) == len(items)
        assert not any(b"\n" in message for message in messages)
    assert all(message.decode() for message in messages)  # UTF-8, never empty
    received = b"".join(unpack(message.decode(), framing) for message in messages)
    assert received == lines
    assert repr(read(NdjsonDecoder, random_split(received, split))) == repr(read(NdjsonDecoder, [lines]))
    assert read(NdjsonDecoder, [received]).error is None
    assert len(read(NdjsonDecoder, [received]).items) == len(items)


@given(items=st.lists(texts, max_size=6), cut=cuts)
def test_strings_are_decoded_as_text(items: list[str], cut: list[int]) -> None:
    messages = packed(NdjsonEncoder().encode(items), "text", cut, plain=True)
    lines = b"".join(unpack(message.decode(), "text") for message in messages)
    expected = [item.removesuffix("\n").removesuffix("\r") if item.endswith(("\n", "\r")) else item for item in items]
    assert [message.decode() for message in messages] == expected
    assert read(NdjsonDecoder, [lines]) == (expected, None)


@given(items=items_of_any_kind.filter(lambda items: not any(isinstance(item, str) for item in items)), cut=cuts)
def test_other_items_are_json_in_text_messages(items: list[Any], cut: list[int]) -> None:
    lines = NdjsonEncoder().encode(items)
    messages = packed(lines, "text", cut, plain=True)
    assert b"".join(message + b"\n" for message in messages) == lines
    received = read(NdjsonDecoder, [b"".join(unpack(message, "text") for message in messages)])
    assert received == ([line.decode() for line in lines.splitlines()] if items else [], None)


@given(items=items_of_any_kind, cut=cuts)
@pytest.mark.parametrize("framing", ["items", "lines"])
def test_end_record_follows_the_items(framing: Framing, items: list[Any], cut: list[int]) -> None:
    lines = NdjsonEncoder().encode(items)
    assert not any(holds_end(unpack(message, framing)) for message in packed(lines, framing, cut))
    for count in (len(items), len(items) + 1):
        end_message = unpack(complete_record(END_RECORD, count).removesuffix(b"\n"), framing)
        assert holds_end(end_message)
        assert holds_end(lines + end_message)
        got = read(lambda: StreamEndDecoder(LINES.decoder(), END_RECORD), [*random_split(lines, cut), end_message])
        assert repr(got.items) == repr(read(NdjsonDecoder, [lines]).items)
        assert (got.error is None) == (count == len(items))
        assert got.error is None or isinstance(got.error, TruncatedError)
    failed = failed_record(END_RECORD, len(items), {"title": "Gone", "status": 410})
    failure = unpack(failed.removesuffix(b"\n"), framing)
    error = read(lambda: StreamEndDecoder(LINES.decoder(), END_RECORD), [lines, failure]).error
    assert isinstance(error, RemoteError)
    assert error.status == 410


def test_end_record_in_text_message_is_a_string() -> None:
    end_message = complete_record(END_RECORD, 0).decode()
    assert not holds_end(unpack(end_message, "text"))
    assert read(NdjsonDecoder, [unpack(end_message, "text")]) == ([end_message], None)


@pytest.mark.parametrize(
    "text",
    [
        '{\n  "a": [\n    1,\n    2\n  ]\n}',
        '{\r\n\t"a": [1,\r\n\r\n2]\r\n}\r\n',
        '\n\n{"a":[1,2]}\n',
        '\r{"a"\r:\n[1,2]}\r',
    ],
)
def test_pretty_printed_json_is_one_item(text: str) -> None:
    for pieces in every_split(unpack(text, "items")):
        assert read(NdjsonDecoder, pieces) == ([{"a": [1, 2]}], None)


@given(value=values, indent=st.integers(0, 4) | st.just("\t") | st.just("\r\n"))
def test_random_pretty_printed_json_is_one_item(value: Any, indent: int | str) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    lines = unpack(text, "items")
    assert lines.count(b"\n") == 1
    assert repr(read(NdjsonDecoder, [lines])) == repr(read(NdjsonDecoder, [NdjsonEncoder().encode([value])]))


@pytest.mark.parametrize("odd", ["\n", "\r", "\r\n", "\t", "\x00"])
def test_line_end_inside_json_string_is_refused(odd: str) -> None:
    for text in (f'"a{odd}b"', f'{{"a{odd}b": 1}}', f'["{odd}"]'):
        got = read(NdjsonDecoder, [unpack("1", "items"), unpack(text, "items"), unpack("2", "items")])
        assert got.items == [1]
        assert type(got.error) is DecodeError
        assert got.error.item_index == 1


@pytest.mark.parametrize("text", ["", " ", "\n", "\r\n\t", "\n\n"])
def test_empty_message_is_an_item_only_in_text(text: str) -> None:
    assert read(NdjsonDecoder, [unpack(text, "items"), unpack(text, "lines")]) == ([], None)
    assert read(NdjsonDecoder, [unpack(text, "text")]) == ([text], None)


def test_text_loses_one_trailing_line_end() -> None:
    def check(item: str, message: str) -> None:
        lines = NdjsonEncoder().encode([item, 1, item])
        for pieces in every_split(lines):
            packer = Packer("text", plain=True)
            assert [each for piece in pieces for each in packer.pack(piece)] == [
                message.encode(),
                b"1",
                message.encode(),
            ]
            packer = Packer("lines", plain=True)
            batches = [each for piece in pieces for each in packer.pack(piece)]
            assert [json.loads(line) for line in b"".join(batches).splitlines()] == [message, 1, message]
            packer = Packer("items")
            assert [json.loads(each) for piece in pieces for each in packer.pack(piece)] == [item, 1, item]

    check_rows(
        named(
            [
                ("a\n", "a"),
                ("a\r\n", "a"),
                ("a\r", "a"),
                ("a\n\n", "a\n"),
                ("\n", ""),
                ("", ""),
                ("\na", "\na"),
                ("a\nb", "a\nb"),
            ]
        ),
        check,
    )


@every_framing
def test_incomplete_line_has_a_size_limit(framing: Framing) -> None:
    packer = Packer(framing, plain=framing == "text", max_bytes=10)
    assert list(packer.pack(b'"12345678')) == []
    assert list(packer.pack(b"")) == []
    (message,) = packer.pack(b'9"\n')
    assert unpack(message, framing) == b'"123456789"\n'
    # The limit applies to each line.
    assert list(packer.pack(b'1\n"23456789')) == [b"1\n" if framing == "lines" else b"1"]
    assert list(packer.pack(b'"')) == []
    with pytest.raises(EncodeError, match="more than 10 bytes"):
        list(packer.pack(b" "))


@every_framing
def test_complete_line_has_no_packer_limit(framing: Framing) -> None:
    assert len([*Packer(framing, max_bytes=10).pack(b'"%b"\n' % (b"x" * 100))]) == 1


def test_subprotocol_decides_the_framing() -> None:
    assert SUBPROTOCOL == "chunkwise.ndjson"
    assert [framing_of(SUBPROTOCOL, plain=plain) for plain in (False, True)] == ["lines", "lines"]
    assert [framing_of(other, plain=False) for other in (None, "", "graphql-ws")] == ["items"] * 3
    assert [framing_of(other, plain=True) for other in (None, "", "graphql-ws")] == ["text"] * 3


@pytest.mark.parametrize("stream_end", [False, True])
def test_items_like_end_record_are_refused(
    stream_end: bool,
) -> None:
    encoder = LINES.encoder(stream_end=stream_end)
    assert encoder.encode([1, "a"]) == b'1\n"a"\n'
    assert encoder.finish() == complete_record(END_RECORD, 2) * stream_end
    assert encoder.fail({"status": 500}) == failed_record(END_RECORD, 2, {"status": 500}) * stream_end
    with pytest.raises(EncodeError, match="stream-end") as caught:
        encoder.encode([3, msgspec.Raw(END_RECORD.before + b"{}}")])
    assert caught.value.item_index == 3


@pytest.mark.parametrize(("etag", "key"), [(None, ()), ("v1", ("day", "id"))])
def test_start_record_is_separated_from_items(etag: str | None, key: tuple[str, ...]) -> None:
    line = start_record(500, etag, key)
    assert line.startswith(START_MARK)
    assert take_start(line + b"1\n2\n") == ({"first": 500, "etag": etag, "key": [*key]}, b"1\n2\n")
    for lines in (b"", b"1\n" + line, line[1:]):
        assert take_start(lines) == (None, lines)


@pytest.mark.parametrize("rest", [b"}\n", b"[]}\n", b'{"first":5\n'])
def test_invalid_start_record_is_refused(rest: bytes) -> None:
    with pytest.raises(DecodeError):
        take_start(START_MARK + rest)


def test_invalid_raw_string_is_refused() -> None:
    packer = Packer("text", plain=True)
    assert list(packer.pack(b'"a"\n')) == [b"a"]
    with pytest.raises(EncodeError, match="expected the JSON text of a string: malformed JSON"):
        list(packer.pack(b'"b\n'))
