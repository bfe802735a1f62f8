"""The compiled scanner and the pure one find the same spans, and raise the same errors."""

import os
import shutil
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, LimitError
from chunkwise.formats.parsing import scanner as scanner_pure
from chunkwise.formats.parsing.json_states import UNFRAMED_NUMBER
from chunkwise.formats.speedups import twins
from tests.formats.json_grammar import BAD, GOOD, NAMES, documents
from tests.formats.reading import bytewise, cuts, every_split, random_split

try:
    from chunkwise.formats.speedups import scanner_compiled
except ImportError:  # it is told below where that is an error
    scanner_compiled = None  # type: ignore[assignment]

needs_both = pytest.mark.skipif(scanner_compiled is None, reason="built without a compiler")

ODD = [
    b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00", b"\\uD83D\\uDE00", b"[", b"]", b"{", b"}", b",", b":", b" ", b"\n",
    b"\t", b"0", b"-", b"1.", b"e+", b"1e5", b"true", b"nul", b"\x00", b"\x1f", b"\x7f", b"\xc3\xa9", b"\xff", b'"a":',
]  # fmt: skip


class Walk(NamedTuple):
    """What can be seen of a scanner after each window, and what it has said at the end."""

    seen: list[Any]
    said: Any


def walk(twin: type[scanner_pure.Scanner], pieces: list[bytes], limits: dict[str, Any], *, framed: bool) -> Walk:
    """Scan as a decoder does: what is not needed any more is dropped."""
    scanner = twin(limits["parts"], **{name: limit for name, limit in limits.items() if name != "parts"})
    window, position = bytearray(), 0
    seen: list[Any] = []
    scanner.shift(limits["max_depth"])  # the stream began before
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
        said: Any = scanner.finish(window, framed=framed)
        seen.append((scanner.spans, scanner.found, scanner.complete))
    except DecodeError as error:
        said = (type(error), str(error), error.message, error.byte_offset)
    return Walk(seen, said)


def assert_alike(pieces: list[bytes], limits: dict[str, Any], *, framed: bool = False) -> None:
    assert scanner_compiled is not None
    pure = walk(scanner_pure.Scanner, pieces, limits, framed=framed)
    assert walk(scanner_compiled.Scanner, pieces, limits, framed=framed) == pure


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
    """A document in which something was put in, taken out or replaced, or put behind others; or odds and ends."""
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


@needs_both
@given(data=spoilt(), limits=limits(), drawn=cuts, framed=st.booleans())
def test_any_bytes_in_any_pieces(data: bytes, limits: dict[str, Any], drawn: list[int], framed: bool) -> None:
    for pieces in ([data], bytewise(data), random_split(data, drawn)):
        assert_alike(pieces, limits, framed=framed)


@needs_both
@pytest.mark.parametrize("data", [*GOOD.values(), *BAD.values()], ids=[*GOOD, *BAD])
def test_every_case_of_the_grammar_in_two_pieces(data: bytes) -> None:
    for parts in (None, (), ("a",), ("x", "item")):
        for around in (b"%b", b'{"x":[%b],"a":7}'):
            for pieces in every_split(around % data):
                assert_alike(pieces, {"parts": parts, "max_depth": 512})


@needs_both
def test_values_of_several_arrays_or_of_objects_are_put_together_one_by_one() -> None:
    assert scanner_compiled is not None
    for data, parts, array in (
        (b"[[1, 2] , [3]]", ("item", "item"), b"[1,2,3]"),
        (b'{"a":[1 , 2],"b":[3]}', ("*", "item"), b"[1,2,3]"),
        (b'[{"a":1,"b":2}]', ("item", "*"), b"[1,2]"),
        (b"[[1 , 2],3]", ("item",), b"[[1 , 2],3]"),
        (b"[[1 , 2]]", ("item", "item"), b"[1 , 2]"),
    ):
        for twin in (scanner_pure.Scanner, scanner_compiled.Scanner):
            scanner = twin(parts, max_depth=3)
            scanner.scan(data, 0)
            assert scanner.array(data) == array
        assert_alike([data], {"parts": parts, "max_depth": 3})


@needs_both
@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 40])
def test_every_byte_in_strings_and_numbers_of_every_size(size: int) -> None:
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
                assert_alike(
                    [data], {"parts": None, "max_depth": 2, "max_string_bytes": most, "max_number_bytes": most}
                )


@needs_both
def test_windows_of_both_kinds_are_walked_and_no_other() -> None:
    assert scanner_compiled is not None
    for twin in (scanner_pure.Scanner, scanner_compiled.Scanner):
        for window in (b"[1,2]", bytearray(b"[1,2]")):
            scanner = twin(None, max_depth=1)
            assert (scanner.scan(window, 0), scanner.spans, scanner.complete) == (5, [(1, 2), (3, 4)], True)
        with pytest.raises(TypeError):
            twin(None, max_depth=1).scan("[1,2]", 0)  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
def test_the_compiled_twin_was_built_where_there_is_a_compiler() -> None:
    assert scanner_compiled is not None


@needs_both
@pytest.mark.parametrize(
    ("pure", "kind", "module"),
    [
        ("", "compiled", "chunkwise.formats.speedups.scanner_compiled"),
        ("1", "pure", "chunkwise.formats.parsing.scanner"),
    ],
)
def test_one_variable_chooses_the_twin(pure: str, kind: str, module: str) -> None:
    code = """
from chunkwise.formats.json_document import Scanner
from chunkwise.formats.speedups.twins import KIND
print(KIND, Scanner.__module__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "CHUNKWISE_PURE": pure}, capture_output=True, check=True
    )
    assert done.stdout.decode().split() == [kind, module]
    if pure == os.environ.get("CHUNKWISE_PURE", ""):
        assert kind == twins.KIND


def test_without_a_compiler_the_pure_twins_are_taken() -> None:
    code = """
import sys
sys.modules.update(
    {f"chunkwise.formats.speedups.{name}_compiled": None for name in ("encoded", "scanner", "sse", "utf8")}
)
from chunkwise.formats.speedups import twins
from chunkwise.flow import twins as more
print(twins.KIND, twins.Scanner.__module__, more.Items.__module__)
"""
    environment = {**os.environ, "CHUNKWISE_PURE": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["pure", "chunkwise.formats.parsing.scanner", "chunkwise.flow.items_pure"]


@needs_both
@pytest.mark.parametrize(
    ("data", "unproven", "proven"),
    [
        (b"12", UNFRAMED_NUMBER, ""),
        (b" -1.5e3", UNFRAMED_NUMBER, ""),
        (b"-", UNFRAMED_NUMBER, DecodeError),
        (b"1.", UNFRAMED_NUMBER, DecodeError),
        (b"12 ", "", ""),
        (b"true", "", ""),
    ],
)
def test_a_number_at_the_root_is_whole_only_if_something_else_proves_that_no_more_comes(
    data: bytes, unproven: Any, proven: Any
) -> None:
    for framed, expected in ((False, unproven), (True, proven)):
        for pieces in every_split(data):
            limits: dict[str, Any] = {"parts": (), "max_depth": 1}
            assert_alike(pieces, limits, framed=framed)
            seen, said = walk(scanner_pure.Scanner, pieces, limits, framed=framed)
            if expected is DecodeError:
                assert said[0] is DecodeError
            else:
                assert said == expected
                assert seen[-1][-1] is (expected == ""), "whether it is complete"


@needs_both
@pytest.mark.parametrize("parts", [None, (), ("item", "item"), ("other",)])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_what_is_deeper_than_allowed_is_refused_at_the_bracket_that_is_too_many(
    parts: tuple[str, ...] | None, depth: int
) -> None:
    for opener in (b"[", b'{"a":'):
        data = opener * depth
        for pieces in every_split(data + opener):
            limits: dict[str, Any] = {"parts": parts, "max_depth": depth}
            assert_alike(pieces, limits)
            kind, _, message, offset = walk(scanner_pure.Scanner, pieces, limits, framed=False).said
            assert kind is LimitError
            assert f"expected no more than {depth} (max_depth)" in message
            assert offset == limits["max_depth"] + len(data), "the stream began before"
