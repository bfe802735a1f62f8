"""formats/parsing/utf8.py: what is a whole character, against Python's own codec, with both twins."""

import codecs
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.formats.parsing import utf8
from chunkwise.formats.speedups import utf8_pure


@pytest.fixture(params=["compiled", "pure"], scope="module")
def whole_bytes(request: pytest.FixtureRequest) -> Callable[[bytes], int]:
    """The twin that the tests of this file have."""
    if request.param == "pure":
        return utf8_pure.whole_bytes
    compiled = pytest.importorskip("chunkwise.formats.speedups.utf8_compiled", reason="built without a compiler")
    twin: Callable[[bytes], int] = compiled.whole_bytes
    return twin


def expected(data: bytes) -> tuple[int, str]:
    try:
        return codecs.utf_8_decode(data, "strict", False)[1], ""
    except UnicodeDecodeError as error:
        return error.start, error.reason


def assert_told(whole_bytes: Callable[[bytes], int], data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utf8, "whole_bytes", whole_bytes)
        assert utf8.whole_characters(data) == expected(data)
    assert whole_bytes(data) <= expected(data)[0]


@given(text=st.text(), tail=st.binary(max_size=6), more=st.text(max_size=3))
def test_any_text_with_something_odd_in_it(
    whole_bytes: Callable[[bytes], int], text: str, tail: bytes, more: str
) -> None:
    data = text.encode("utf-8", "surrogatepass") + tail + more.encode("utf-8", "surrogatepass")
    assert_told(whole_bytes, data)


# Both sides of every bound in table 3-7 of Unicode §3.9.
BOUNDS = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
          0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]  # fmt: skip


@pytest.mark.parametrize("before", [0, 1, 15, 16, 17])
def test_every_bound_of_the_bytes_of_a_character(whole_bytes: Callable[[bytes], int], before: int) -> None:
    for odd in itertools.product(BOUNDS[14:], BOUNDS[:12], (0x80, 0xBF, 0x41), (0x7F, 0x80)):
        assert_told(whole_bytes, b"x" * before + bytes(odd))
    for pair in itertools.product(BOUNDS, repeat=2):
        assert_told(whole_bytes, b"x" * before + bytes(pair) + b"\x80")


def test_the_compiled_twin_needs_no_codec_for_what_is_whole() -> None:
    compiled = pytest.importorskip("chunkwise.formats.speedups.utf8_compiled", reason="built without a compiler")
    text = "aé€😀\ud7ff\ue000\U0010ffff" * 20
    for start in range(20):
        data = b"x" * start + text.encode()
        assert compiled.whole_bytes(data) == len(data)
        assert compiled.whole_bytes(data + "€".encode()[:2] + b"x" * 40) == len(data)
