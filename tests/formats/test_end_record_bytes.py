"""formats/end_record.py: the bytes of the record and after it, and how many of them are kept in memory."""

import pytest

from chunkwise.errors import DecodeError, LimitError, RemoteError, TruncatedError
from chunkwise.formats import FORMATS
from tests.formats.end_records import COMPLETE_2, WITH, decoder, maker, marks, new_encoder, sent, with_record
from tests.formats.reading import every_split, read
from tests.tables import check_rows, cross, named


@with_record
def test_keepalive_is_ignored_anywhere(name: str) -> None:
    row, encoder = FORMATS[name], new_encoder(name)
    alive = (row.keepalive or b"") * 2
    parts = [encoder.start(), encoder.encode([1]), encoder.encode([[2]]), encoder.finish()]
    stream = alive + b"".join(part + alive for part in parts)
    for pieces in every_split(stream):
        made = decoder(name)
        assert read(lambda: made, pieces) == ([1, [2]], None)  # noqa: B023
        assert made.proves_end
    assert read(maker(name), [sent(name, [1]) + b" \t\r\n" * 3]) == ([1], None)


@with_record
def test_other_bytes_after_end_record_are_invalid(name: str) -> None:
    one = FORMATS[name].encoder().encode([1])
    for rest in (one, COMPLETE_2[name], b"x", b"\n\n1", b"{", b"\x1e", b"data", b"\xff", b"::\nx", b":"):
        if name == "sse" and rest == b":":
            continue
        for pieces in every_split(sent(name, [1, 2]) + rest):
            made = decoder(name)
            got = read(lambda: made, pieces)  # noqa: B023
            assert got.items == [1, 2]
            assert type(got.error) is DecodeError
            assert "after the end record" in got.error.message
            assert not made.proves_end


@with_record
def test_error_after_end_record_has_its_offset(name: str) -> None:
    stream = sent(name, [1])
    for pieces in every_split(stream + b"\n \t?"):
        error = read(maker(name), pieces).error
        assert error is not None
        assert error.byte_offset == len(stream) + 3


MALFORMED = [
    b"", b"1", b"[]", b"{}", b'{"status":"complete"}', b'{"items":2}', b'{"status":"done","items":2}', b'{"status":',
    b'{"status":"complete","items":-1}', b'{"status":"complete","items":2.5}', b'{"status":"complete","items":"2"}',
    b'{"status":"complete","items":true}', b'{"status":"failed","items":2,"problem":[]}', b"[" * 60_000,
    b'{"status":"failed","items":2,"problem":{"a":"\xff"}}', b'{"status":"complete","items":2} 3',
]  # fmt: skip


def test_malformed_end_record_is_refused() -> None:
    def check(record: bytes, name: str) -> None:
        stream = sent(name, [1, 2], record=record)
        for pieces in every_split(stream) if len(stream) < 1000 else ([stream],):
            got = read(maker(name), pieces)
            assert got.items == [1, 2]
            assert isinstance(got.error, DecodeError)
            assert not isinstance(got.error, TruncatedError)

    check_rows(cross({repr(record[:40]): record for record in MALFORMED}, named(WITH)), check)


def test_end_record_with_wrong_end_is_refused() -> None:
    def check(name: str, end: bytes) -> None:
        before = sent(name, [1])[: -len(sent(name, [], record=b'{"status":"complete","items":1}'))]
        stream = before + marks(name).before + b'{"status":"complete","items":1' + end
        for pieces in every_split(stream):
            got = read(maker(name), pieces)
            assert got.items == [1]
            assert type(got.error) is DecodeError
            assert "end record" in got.error.message

    check_rows(
        named(
            [
                *((name, end) for name in ("ndjson", "json-seq") for end in (b"}\n", b"\n}\n", b"}} \n", b"}}}\n")),
                *(("sse", end) for end in (b"}\ndata: \n\n", b"}\n \n", b"}\r\n\r\n", b"\n\n", b"}}\n\n")),
            ]
        ),
        check,
    )


@with_record
def test_unknown_members_of_end_record_are_ignored(name: str) -> None:
    stream = sent(name, [1], record=b'{"status":"complete","items":1,"etag":"x"}')
    assert read(maker(name), [stream]) == ([1], None)


@with_record
def test_too_long_end_record_is_refused(name: str) -> None:
    start = b'{"status":"failed","items":1,"problem":{"detail":"'
    for more, over in ((65_000, False), (65_600, True), (200_000, True)):
        record = start + b"x" * more
        for whole in (True, False):
            stream = sent(name, [1], record=record + b'"}}')
            stream = stream if whole else stream[: -len(marks(name).after) - 3]
            for step in (1000, len(stream)):
                pieces = [stream[place : place + step] for place in range(0, len(stream), step)]
                got = read(maker(name), pieces)
                assert got.items == [1]
                expected: type = LimitError if over else RemoteError if whole else TruncatedError
                assert type(got.error) is expected


@with_record
def test_endless_end_record_uses_little_memory(name: str) -> None:
    made = decoder(name)
    made.feed(marks(name).before)
    for _ in range(65):
        assert made.feed(b"x" * 1000) == []
    for _ in range(10):
        with pytest.raises(LimitError):
            made.feed(b"x" * 1000)
    assert made._text is not None
    assert len(made._text) < 67_000


@with_record
def test_only_start_of_mark_is_delayed(name: str) -> None:
    mark = marks(name).before
    made = decoder(name)
    for start in range(len(mark)):
        assert made.feed(mark[start : start + 1]) == []
        assert made.decoder.bytes_seen == 0
    for before in (b" ", FORMATS[name].encoder().encode(["x"]).rstrip()):
        made = decoder(name)
        made.feed(before + mark[:-1])
        assert made.decoder.bytes_seen == len(before + mark) - 1, "it is not at the start of a line"
    made = decoder(name)
    made.feed(mark[:-1] + b"\t")
    assert made.decoder.bytes_seen == len(mark)
    made = decoder(name)
    made.feed(b" " + mark)
    assert made.decoder.bytes_seen == len(mark) + 1


def test_comments_after_end_record_are_ignored() -> None:
    stream = sent("sse", [1]) + b": any words\n\n:more\n:"
    for pieces in every_split(stream):
        assert read(maker("sse"), pieces) == ([1], None)
