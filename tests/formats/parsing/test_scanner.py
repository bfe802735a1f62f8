"""parsing/scanner.py: how many bytes it reads, and where strings and numbers end. (test_paths.py checks the spans.)"""

from collections.abc import Callable

import pytest

from chunkwise.errors import TruncatedError
from chunkwise.formats.json_document import JsonDecoder
from chunkwise.formats.parsing.scanner import _ESCAPE_BYTES, _body_end
from chunkwise.formats.paths import PathLike
from tests.tables import check_rows, cross, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")


def work_of(data: bytes, piece_bytes: int, path: PathLike) -> int:
    decoder = JsonDecoder(path)
    for start in range(0, len(data), piece_bytes):
        decoder.feed(data[start : start + piece_bytes])
    decoder.finish()
    assert decoder.bytes_walked >= len(data) * 0.9
    return decoder.bytes_walked


SHAPES: dict[str, Callable[[int], bytes]] = {
    "one string": lambda size: b'["%b"]' % (b"x" * size),
    "one string of escapes": lambda size: b'["%b"]' % (rb"\u00e9\n" * (size // 8)),
    "an array of small objects": lambda size: b"[[%b{}]]" % (b'{"id":123456,"name":"abc"},' * (size // 27)),
    "deep things": lambda size: b"[[%b0]]" % (b'[[[[[[[[{"a":[[1]]}]]]]]]]],' * (size // 29)),
    "numbers": lambda size: b"[[%b0]]" % (b"1234567," * (size // 8)),
    "an object of long names": lambda size: b'[{%b"":0}]' % (b'"%b":1,' % (b"n" * 200) * (size // 205)),
    "white space": lambda size: b"[[1%b]]" % (b" \n" * (size // 2)),
}


PATHS: list[PathLike] = ["", (), "no.such"]


def test_small_chunks_cost_at_most_three_times() -> None:
    def check(shape: Callable[[int], bytes], path: PathLike) -> None:
        data = shape(2**18)
        assert work_of(data, 1024, path) <= 3 * work_of(data, len(data), path)

    check_rows(cross(SHAPES, named(PATHS)), check)


def test_large_item_in_small_chunks_costs_at_most_three_times() -> None:
    def check(shape: str) -> None:
        data = SHAPES[shape](2**24)
        assert work_of(data, 1024, "") <= 3 * work_of(data, len(data), "")

    check_rows(named(["one string", "an array of small objects"]), check)


def test_single_bytes_cost_at_most_three_times() -> None:
    def check(shape: Callable[[int], bytes]) -> None:
        data = shape(20_000)
        assert work_of(data, 1, "") <= 3 * max(work_of(data, len(data), ""), 2 * len(data))

    check_rows(SHAPES, check)


def test_twice_the_bytes_cost_twice_the_work() -> None:
    def check(shape: Callable[[int], bytes]) -> None:
        small, large = shape(100_000), shape(200_000)
        for path in ("", "no.such"):
            assert work_of(large, 1024, path) <= 2.2 * work_of(small, 1024, path)
            assert work_of(large, len(large), path) <= 2.2 * work_of(small, len(small), path)

    check_rows(SHAPES, check)


def test_root_number_ends_with_the_transport() -> None:
    decoder = JsonDecoder("")
    assert decoder.feed(b"12") == []
    assert decoder.finish(framed=True) == [12]
    decoder = JsonDecoder("")
    assert decoder.feed(b"12") == []
    with pytest.raises(TruncatedError):
        decoder.finish(framed=False)


def test_string_end_is_found_with_small_matches() -> None:
    """Old versions of Python limit the bytes of one match, so the limit may cut an escape."""

    def check(string: bytes, end: int) -> None:
        for size in range(_ESCAPE_BYTES + 1, len(string) + _ESCAPE_BYTES + 2):
            assert _body_end(string, 0, size) == _body_end(string, 0) == end, size

    escapes = rb"a\\n\u00e9\ud83d\ude00" * 9
    check_rows(
        {
            "a quote": (escapes + b'",', len(escapes)),
            "an invalid byte": (escapes + b"\n", len(escapes)),
            "an incomplete escape": (escapes + rb"\ud83d\ude", len(escapes)),
            "the end of the window": (escapes, len(escapes)),
            "no bytes": (b"", 0),
        },
        check,
    )
