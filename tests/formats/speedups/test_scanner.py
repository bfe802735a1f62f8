"""speedups/scanner.pxi and its fallback, parsing/scanner.py: they find the same spans and raise the same errors."""

from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, LimitError
from chunkwise.formats.parsing import json_states
from chunkwise.formats.parsing.json_states import UNFRAMED_NUMBER
from chunkwise.formats.speedups import fallback
from tests.formats.json_grammar import BAD, GOOD, NAMES, documents
from tests.formats.reading import bytewise, cuts, every_split, random_split
from tests.tables import check_rows, cross, named

ODD = [
    b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00", b"\\uD83D\\uDE00", b"[", b"]", b"{", b"}", b",", b":", b" ", b"\n",
    b"\t", b"0", b"-", b"1.", b"e+", b"1e5", b"true", b"nul", b"\x00", b"\x1f", b"\x7f", b"\xc3\xa9", b"\xff", b'"a":',
]  # fmt: skip


class Walk(NamedTuple):
    """The state of a scanner after each window, and the result of `finish` or the error."""

    seen: list[Any]
    end: Any


def walk(scanner_type: type[fallback.Scanner], pieces: list[bytes], limits: dict[str, Any], *, framed: bool) -> Walk:
    """Scan windows like a decoder, which drops the bytes that are no longer needed."""
    scanner = scanner_type(limits["parts"], **{name: limit for name, limit in limits.items() if name != "parts"})
    window, position = bytearray(), 0
    seen: list[Any] = []
    scanner.shift(limits["max_depth"])  # the window does not start at the start of the stream
    try:
        for piece in pieces:
            window += piece
            try:
                position = scanner.scan(window, position)
            finally:
                seen.append((position, scanner.spans, scanner.count, scanner.longest, scanner.array(window)))
                seen.append((scanner.found, scanner.complete, scanner.last_begun))
            scanner.clear()
            keep = scanner.keep_from
            seen.append(keep)
            drop = position if keep < 0 else keep
            del window[:drop]
            position -= drop
            scanner.shift(drop)
        end: Any = scanner.finish(window, framed=framed)
        seen.append((scanner.spans, scanner.found, scanner.complete))
    except DecodeError as error:
        end = (type(error), str(error), error.message, error.byte_offset)
    return Walk(seen, end)


def assert_alike(compiled: ModuleType, pieces: list[bytes], limits: dict[str, Any], *, framed: bool = False) -> Walk:
    expected = walk(fallback.Scanner, pieces, limits, framed=framed)
    assert walk(compiled.Scanner, pieces, limits, framed=framed) == expected
    return expected


PATHS = st.none() | st.lists(st.sampled_from([*NAMES, "item", "item", "*"]), max_size=4).map(tuple)


@st.composite
def limits(draw: st.DrawFn) -> dict[str, Any]:
    few = st.none() | st.integers(0, 12) | st.just(2**70)
    return {
        "parts": draw(PATHS),
        "max_depth": draw(st.integers(1, 6) | st.just(512)),
        **{f"max_{name}_bytes": draw(few) for name in ("string", "name", "number", "path")},
    }


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Draw a document in which bytes were inserted, removed or replaced, or a few random tokens."""
    if draw(st.integers(0, 5)) == 0:
        return b"".join(draw(st.lists(st.sampled_from(ODD), max_size=12)))
    data = draw(documents).encode()
    if draw(st.booleans()):
        data = b"[%b]" % b",".join([data] * draw(st.integers(1, 4)))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 3)))
        data = data[:start] + draw(st.just(b"") | st.sampled_from(ODD) | st.binary(max_size=2)) + data[end:]
    return data


@given(data=spoilt(), limits=limits(), drawn=cuts, framed=st.booleans())
def test_scanners_agree_on_random_chunks(
    compiled: ModuleType, data: bytes, limits: dict[str, Any], drawn: list[int], framed: bool
) -> None:
    for pieces in ([data], bytewise(data), random_split(data, drawn)):
        assert_alike(compiled, pieces, limits, framed=framed)


def test_scanners_agree_on_split_grammar_cases(compiled: ModuleType) -> None:
    def check(data: bytes) -> None:
        for parts in (None, (), ("a",), ("x", "item")):
            for around in (b"%b", b'{"x":[%b],"a":7}'):
                for pieces in every_split(around % data):
                    assert_alike(compiled, pieces, {"parts": parts, "max_depth": 512})

    check_rows(GOOD, check)
    check_rows(BAD, check)


def test_values_of_several_containers_are_joined(compiled: ModuleType) -> None:
    for data, parts, array in (
        (b"[[1, 2] , [3]]", ("item", "item"), b"[1,2,3]"),
        (b'{"a":[1 , 2],"b":[3]}', ("*", "item"), b"[1,2,3]"),
        (b'[{"a":1,"b":2}]', ("item", "*"), b"[1,2]"),
        (b"[[1 , 2],3]", ("item",), b"[[1 , 2],3]"),
        (b"[[1 , 2]]", ("item", "item"), b"[1 , 2]"),
    ):
        for scanner_type in (fallback.Scanner, compiled.Scanner):
            scanner = scanner_type(parts, max_depth=3)
            scanner.scan(data, 0)
            assert scanner.array(data) == array
        assert_alike(compiled, [data], {"parts": parts, "max_depth": 3})


def test_scanners_agree_on_every_byte(compiled: ModuleType) -> None:
    def check(size: int) -> None:
        for odd in bytewise(bytes(range(256))):
            for data in (
                b'["%b%b%b"]' % (b"x" * size, odd, b"y" * 20),
                b'["%b\\%b%b"]' % (b"x" * size, odd, b"y" * 20),
                b'["\\ud8%b"]' % odd.rjust(size, b"0"),
                b"[1%b%b%b]" % (b"2" * size, odd, b"3" * 20),
                b"[0.%b%b%b]" % (b"2" * size, odd, b"3" * 20),
                b"[%b%b]" % (odd, b"rue" * size),
            ):
                for most in (None, size, 2**40):
                    limits = {"parts": None, "max_depth": 2, "max_string_bytes": most, "max_number_bytes": most}
                    assert_alike(compiled, [data], limits)

    check_rows(named([0, 1, 7, 8, 15, 16, 17, 40]), check)


def test_window_must_be_bytes_or_bytearray(code: ModuleType) -> None:
    for window in (b"[1,2]", bytearray(b"[1,2]")):
        scanner = code.Scanner(None, max_depth=1)
        assert (scanner.scan(window, 0), scanner.spans, scanner.complete) == (5, [(1, 2), (3, 4)], True)
    with pytest.raises(TypeError):
        code.Scanner(None, max_depth=1).scan("[1,2]", 0)


def test_scanners_have_the_same_states(compiled: ModuleType) -> None:
    numbers = {name: value for name, value in vars(json_states).items() if type(value) is int}
    assert numbers == {**compiled.STATES, "OBJECT": ord("{"), "ARRAY": ord("[")}
    assert compiled.CLOSERS == json_states.CLOSERS == {ord("{"): ord("}"), ord("["): ord("]")}


ROOT_NUMBERS = {
    "12": (b"12", UNFRAMED_NUMBER, ""),
    "a float with white space before it": (b" -1.5e3", UNFRAMED_NUMBER, ""),
    "a minus": (b"-", UNFRAMED_NUMBER, DecodeError),
    "a point at the end": (b"1.", UNFRAMED_NUMBER, DecodeError),
    "white space at the end": (b"12 ", "", ""),
    "a literal": (b"true", "", ""),
}
"""Bytes -> the result of `finish` without and with a proof that these are all bytes."""


def test_root_number_needs_proof_of_end(compiled: ModuleType) -> None:
    def check(data: bytes, unproven: Any, proven: Any) -> None:
        for framed, expected in ((False, unproven), (True, proven)):
            for pieces in every_split(data):
                seen, end = assert_alike(compiled, pieces, {"parts": (), "max_depth": 1}, framed=framed)
                if expected is DecodeError:
                    assert end[0] is DecodeError
                else:
                    assert end == expected
                    assert seen[-1][-1] is (expected == ""), "whether it is complete"

    check_rows(ROOT_NUMBERS, check)


def test_too_deep_container_is_refused_at_bracket(compiled: ModuleType) -> None:
    def check(depth: int, parts: tuple[str, ...] | None) -> None:
        for opener in (b"[", b'{"a":'):
            data = opener * depth
            for pieces in every_split(data + opener):
                limits: dict[str, Any] = {"parts": parts, "max_depth": depth}
                kind, _, message, offset = assert_alike(compiled, pieces, limits).end
                assert kind is LimitError
                assert f"expected no more than {depth} (max_depth)" in message
                assert offset == limits["max_depth"] + len(data), "the stream began before"

    check_rows(cross(named([1, 2, 5]), named([None, (), ("item", "item"), ("other",)])), check)
