"""formats/speedups/encoded_compiled.pyx and formats/speedups/encoded_pure.py: they find the same."""

from types import ModuleType

import pytest

from chunkwise.formats.speedups import encoded_pure


@pytest.fixture
def encoded() -> ModuleType:
    found: ModuleType = pytest.importorskip(
        "chunkwise.formats.speedups.encoded_compiled", reason="built without a compiler"
    )
    return found


@pytest.mark.parametrize("size", range(45))
def test_null_is_found_wherever_it_stands(encoded: ModuleType, size: int) -> None:
    for behind in range(24):
        for word, there in ((b"null", True), (b"nul", False), (b"nunull", True), (b"nnull", True), (b"nu ll", False)):
            data = b"n" * size + word + b"u" * behind
            assert encoded.holds_null(data) == encoded_pure.holds_null(data) == there


@pytest.mark.parametrize("size", range(1, 40))
def test_line_ends_are_counted_wherever_they_stand(encoded: ModuleType, size: int) -> None:
    for ends in (b"", b"\n", b"\r", b"\r\n", b"\r" * 40, b"\nz\r" * 20, b"\x0b\x0c\x85"):
        data = b"x" * size + ends + b"y" * 20
        assert encoded.line_ends(data) == encoded_pure.line_ends(data) == ends.count(b"\n") + ends.count(b"\r")


@pytest.mark.parametrize("size", range(40))
def test_a_line_that_begins_with_white_space_is_found_wherever_it_stands(encoded: ModuleType, size: int) -> None:
    line, part = b"x" * 20 + b"\n", b"x" * size
    for white in (b"\n", b" ", b"\t", b"\r", b" \n"):
        for data in (line * size + white + line, part + b"\n" + white, white + line * size):
            assert encoded.line_ends(data) == encoded_pure.line_ends(data) == -1
