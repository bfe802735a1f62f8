"""The end of a stream and invalid bytes, in every format."""

from collections.abc import Callable
from typing import Any

import pytest

from chunkwise.errors import DecodeError, StreamError, TruncatedError
from chunkwise.formats import FORMATS
from chunkwise.formats.parsing.stream_decoder import BOM
from tests.formats.reading import bytewise, every_split, read
from tests.formats.samples import NAMES, written
from tests.tables import check_rows, cross, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")


def test_second_byte_order_mark_is_not_skipped() -> None:
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


def test_cut_byte_order_mark_is_truncated() -> None:
    def check(name: str, stop: int) -> None:
        for framed in (False, True):
            got = read(FORMATS[name].decoder, [BOM[:stop]], framed=framed)
            assert got.items == []
            if name == "json-seq":  # (json-seq reports the bytes as garbage before the first text)
                assert isinstance(got.error, DecodeError)
            else:
                assert type(got.error) is TruncatedError
                assert got.error.bytes_seen == stop

    check_rows(cross(named(NAMES), named([1, 2])), check)


def test_error_is_raised_by_next_call() -> None:
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


def test_error_is_raised_again_by_each_call() -> None:
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


def test_feed_after_finish_is_an_error() -> None:
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


def test_feeding_no_bytes_is_not_the_end() -> None:
    def check(name: str) -> None:
        items = ["x", "y"] if name == "text" else [{"a": "1"}, {"a": "2"}]
        got = read(
            FORMATS[name].decoder, [piece for byte in bytewise(written(name, items)) for piece in (b"", byte, b"")]
        )
        assert got == (items, None)

    check_rows(named(NAMES), check)


TRUNCATED, DEFECT = TruncatedError, DecodeError
FRAMED = [
    # format, bytes, result without and with a proof of the end. A result is the items, and the error if there is one.
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


def test_framing_proves_end_of_stream() -> None:
    def check(name: str, data: bytes, unproven: list[Any], proven: list[Any]) -> None:
        for framed, expected in ((False, unproven), (True, proven)):
            for pieces in every_split(data) if data else [[]]:
                got = read(FORMATS[name].decoder, pieces, framed=framed)
                assert [*got.items, *([type(got.error)] if got.error else [])] == expected

    check_rows({f"{row[0]} {row[1]!r}": row for row in FRAMED}, check)
