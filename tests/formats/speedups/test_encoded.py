"""speedups/encoded_bytes.h and its fallback give the same results."""

from types import ModuleType

from chunkwise.formats.speedups import fallback


def test_null_is_found_at_every_offset(compiled: ModuleType) -> None:
    for size in range(45):
        for after in range(24):
            for word, found in (
                (b"null", True),
                (b"nul", False),
                (b"nunull", True),
                (b"nnull", True),
                (b"nu ll", False),
            ):
                data = b"n" * size + word + b"u" * after
                assert compiled.holds_null(data) == fallback.holds_null(data) == found, data


def test_line_ends_are_counted_at_every_offset(compiled: ModuleType) -> None:
    for size in range(1, 40):
        for ends in (b"", b"\n", b"\r", b"\r\n", b"\r" * 40, b"\nz\r" * 20, b"\x0b\x0c\x85"):
            data = b"x" * size + ends + b"y" * 20
            count = ends.count(b"\n") + ends.count(b"\r")
            assert compiled.line_ends(data) == fallback.line_ends(data) == count, data


def test_leading_white_space_is_found_anywhere(compiled: ModuleType) -> None:
    for size in range(40):
        line, part = b"x" * 20 + b"\n", b"x" * size
        for white in (b"\n", b" ", b"\t", b"\r", b" \n"):
            for data in (line * size + white + line, part + b"\n" + white, white + line * size):
                assert compiled.line_ends(data) == fallback.line_ends(data) == -1, data
