"""Limits of formats/contract.py in every format: they are the same in any chunks, and earlier items are returned."""

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chunkwise.errors import LimitError
from chunkwise.formats import FORMATS, Decoder
from chunkwise.formats.contract import Limits
from chunkwise.formats.events import EventsDecoder
from tests.formats.reading import every_split, read
from tests.formats.samples import JSON_BASED, NAMES, written
from tests.tables import check_rows, cross, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")


@pytest.mark.parametrize("name", ["max_item_bytes", "max_depth", "max_line_bytes"])
def test_limit_must_be_at_least_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Limits(**{name: 0})


def test_limit_must_be_an_int() -> None:
    def check(limit: Any) -> None:
        with pytest.raises(TypeError, match="max_depth must be an int, got "):
            Limits(max_depth=limit)

    check_rows(named([None, "9", 2.5, float("inf")]), check)


LINE_LIMITS = [
    # format, limits, items, bytes before the long item, and the long item: one byte less is no error
    ("json", Limits(max_item_bytes=6), ["1234"], b'["1234",', b'"12345"]'),
    ("ndjson", Limits(max_line_bytes=6), ["1234"], b'"1234"\n', b'"12345"\n'),
    ("ndjson", Limits(max_item_bytes=6), ["1234"], b'"1234"\r\n', b'"12345"\r\n'),
    ("json-seq", Limits(max_item_bytes=6), ["1234"], b'\x1e"1234"\n\x1e', b'"12345"\n'),
    ("sse", Limits(max_line_bytes=12), ["1234"], b'data: "1234"\n\n', b'data: "12345"\n\n'),
    ("sse", Limits(max_item_bytes=6), ["1234"], b'data: "1234"\r\n\r\n', b'data: "12345"\r\n\r\n'),
    ("csv", Limits(max_item_bytes=6), [{"a": "123456"}], b"a\n123456\n", b"1234567\r\n"),
    ("csv", Limits(max_line_bytes=6), [{"a": "1234"}], b'a\n"1234"\r\n', b'"12345"\n'),
    ("text", Limits(max_line_bytes=6), ["123456"], b"123456\n", b"1234567\n"),
    ("text", Limits(max_item_bytes=6), ["123456"], b"123456\r\n", b"1234567\r\n"),
]


def test_too_large_item_fails_after_earlier_items() -> None:
    def check(name: str, limits: Limits, items: list[Any], before: bytes, over: bytes) -> None:
        for pieces in every_split(before + over):
            got = read(lambda: FORMATS[name].decoder(limits=limits), pieces)
            assert got.items == items
            assert type(got.error) is LimitError
            assert got.error.item_index == 1
        under = over.replace(b"5", b"") if b"7" not in over else over.replace(b"7", b"")
        for pieces in every_split(before + under):
            got = read(lambda: FORMATS[name].decoder(limits=limits), pieces)
            assert (len(got.items), got.error) == (2, None)

    check_rows({f"{row[0]} {row[3] + row[4]!r}": row for row in LINE_LIMITS}, check)


def test_item_that_never_ends_is_refused() -> None:
    def check(name: str, limits: Limits, items: list[Any], before: bytes, over: bytes) -> None:
        start = (before + over).rstrip(b'\r\n"]')
        endless = start + (b"x" * 20 if b'"' in over or name == "text" else b"8" * 20)
        if (name, limits.max_item_bytes) == ("sse", 6):
            return  # (the size of an item is counted line by line; max_line_bytes limits a line)
        for pieces in every_split(endless):
            got = read(lambda: FORMATS[name].decoder(limits=limits), pieces, ends=False)
            assert got.items == items
            assert type(got.error) is LimitError

    check_rows({f"{row[0]} {row[3] + row[4]!r}": row for row in LINE_LIMITS}, check)


@pytest.mark.parametrize("name", ["ndjson", "text", "csv"])
def test_last_line_without_end_is_limited(name: str) -> None:
    limits = Limits(max_item_bytes=4)
    for framed in (False, True):
        for pieces in every_split(b"1234\n12345"):
            got = read(lambda: FORMATS[name].decoder(limits=limits), pieces, framed=framed)
            if framed or name != "csv":  # (CSV without a proof of the end is always truncated here)
                assert type(got.error) is LimitError


def test_depth_is_limited_in_json_formats() -> None:
    def check(name: str, case: tuple[str, str], path: str) -> None:
        opener, closer = case
        make = FORMATS[name].decoder
        deepest = 3 if name == "json" else 2  # (in JSON, the array around the items has depth 1)

        def stream(depth: int) -> bytes:
            text = (opener * depth + ("1" if opener != "[" else "") + closer * depth).encode()
            if name == "json":
                return b'[{"a":5},"[[[[{{{{",[' + text + b"]]"
            record = {"ndjson": b"%b\n", "json-seq": b"\x1e%b\n", "sse": b"data: %b\n\n"}[name]
            return b"".join(record % each for each in (b'{"a":5}', b'"[[[[{{{{"', text))

        limits = Limits(max_depth=deepest)
        wanted = ("item", "a") if path and name == "json" else path
        fits, over = stream(1 if name == "json" else 2), stream(2 if name == "json" else 3)
        for pieces in every_split(fits):
            assert read(lambda: make(wanted, limits=limits), pieces).error is None
        for pieces in every_split(over):
            got = read(lambda: make(wanted, limits=limits), pieces)
            assert got.items[:2] == ([5] if path else [{"a": 5}, "[[[[{{{{"])
            assert type(got.error) is LimitError

    check_rows(cross(named(JSON_BASED), named([("[", "]"), ('{"a":', "}")]), named(["", "a"])), check)


def peak_of(step: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MAKERS: dict[str, Callable[[], Decoder]] = {
    "json": FORMATS["json"].decoder,
    "json, whole": lambda: FORMATS["json"].decoder(()),
    "json, skipped": lambda: FORMATS["json"].decoder("no.such"),
    "json-seq": FORMATS["json-seq"].decoder,
    "events": EventsDecoder,
}


def test_200_000_brackets_use_little_memory() -> None:
    def check(make: Callable[[], Decoder], piece_bytes: int) -> None:
        data = b"\x1e" * (make is MAKERS["json-seq"]) + b"[" * 200_000

        def refuse() -> None:
            got = read(make, (data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)))
            assert type(got.error) is LimitError

        refuse()  # (the first call may import and compile code, which does not count)
        assert peak_of(refuse) < 2_000_000

    check_rows(cross(MAKERS, named([1, 4096, 200_000])), check)


@pytest.mark.parametrize("name", ["ndjson", "sse"])
def test_record_of_200_000_brackets_is_refused(name: str) -> None:
    data = (b"data: " if name == "sse" else b"") + b"[" * 200_000 + b"\n\n"

    def refuse() -> None:
        assert type(read(FORMATS[name].decoder, [data]).error) is LimitError

    refuse()
    assert peak_of(refuse) < 4_000_000


def test_too_deep_for_msgspec_is_limit_error() -> None:
    def check(depth: int, name: str) -> None:
        text = b"[" * depth + b"]" * depth
        record = {"json": b"%b", "ndjson": b"%b\n", "json-seq": b"\x1e%b\n", "sse": b"data: %b\n\n"}[name]
        got = read(lambda: FORMATS[name].decoder(limits=Limits(max_depth=10**6)), [record % text])
        assert got.error is None or type(got.error) is LimitError
        assert got.failed or depth < 100_000

    check_rows(cross(named([600, 5_000, 100_000]), named(JSON_BASED)), check)


def test_long_stream_uses_flat_memory() -> None:
    def check(name: str) -> None:
        rows = 20_000
        item: Any = "x" * 50 if name == "text" else {"a": "x" * 50}
        first, both = written(name, [item]), written(name, [item, item])
        head = len(both.removesuffix(b"]")) - len(first.removesuffix(b"]"))
        record = both.removesuffix(b"]")[-head:]
        if name == "sse":
            record = b'data: {"a":"%b"}\n\n' % (b"x" * 50)

        def pieces() -> Iterator[bytes]:
            yield first.removesuffix(b"]")
            for _ in range(rows // 100):
                yield record * 100

        def run() -> None:
            decoder, count = FORMATS[name].decoder(), 0
            for piece in pieces():
                count += len(decoder.feed(piece))
            assert count == rows + 1

        run()
        assert peak_of(run) < 500_000 < rows * len(record)

    check_rows(named(NAMES), check)


def test_long_item_is_copied_only_a_few_times() -> None:
    def check(name: str) -> None:
        size = 2**20
        item: Any = "x" * size if name == "text" else {"a": "x" * size}
        data = written(name, [item])

        def run() -> None:
            decoder = FORMATS[name].decoder()
            items = [item for start in range(0, len(data), 1024) for item in decoder.feed(data[start : start + 1024])]
            assert len(items) == 1

        run()
        assert peak_of(run) < 6 * size

    check_rows(named(NAMES), check)
