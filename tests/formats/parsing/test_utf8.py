"""formats/parsing/stream_decoder.py: complete UTF-8 characters are the same as in the codec of Python."""

import codecs
import itertools
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.formats.parsing import stream_decoder


def expected(data: bytes) -> tuple[int, str]:
    try:
        return codecs.utf_8_decode(data, "strict", False)[1], ""
    except UnicodeDecodeError as error:
        return error.start, error.reason


def assert_as_the_codec(code: ModuleType, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_decoder, "whole_bytes", code.whole_bytes)
        assert stream_decoder.whole_characters(data) == expected(data)
    assert code.whole_bytes(data) <= expected(data)[0]


@given(text=st.text(), tail=st.binary(max_size=6), more=st.text(max_size=3))
def test_random_bytes_match_python_codec(code: ModuleType, text: str, tail: bytes, more: str) -> None:
    data = text.encode("utf-8", "surrogatepass") + tail + more.encode("utf-8", "surrogatepass")
    assert_as_the_codec(code, data)


# Both sides of every bound in table 3-7 of Unicode §3.9.
BOUNDS = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
          0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]  # fmt: skip


def test_byte_limits_match_python_codec(code: ModuleType) -> None:
    for before in (0, 1, 15, 16, 17):
        for odd in itertools.product(BOUNDS[14:], BOUNDS[:12], (0x80, 0xBF, 0x41), (0x7F, 0x80)):
            assert_as_the_codec(code, b"x" * before + bytes(odd))
        for pair in itertools.product(BOUNDS, repeat=2):
            assert_as_the_codec(code, b"x" * before + bytes(pair) + b"\x80")


def test_compiled_code_finds_all_characters(compiled: ModuleType) -> None:
    text = "aé€😀\ud7ff\ue000\U0010ffff" * 20
    for start in range(20):
        data = b"x" * start + text.encode()
        assert compiled.whole_bytes(data) == len(data)
        assert compiled.whole_bytes(data + "€".encode()[:2] + b"x" * 40) == len(data)
