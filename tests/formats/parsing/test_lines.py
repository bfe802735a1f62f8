"""formats/parsing/stream_decoder.py: chunks -> complete lines, each within its limit and in flat memory."""

import tracemalloc

import pytest

from chunkwise.errors import DecodeError, LimitError
from chunkwise.formats import FORMATS
from chunkwise.formats.parsing.stream_decoder import LineSplitter
from tests.tables import check_rows, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")


class TestLineSplitter:
    def test_runs_consist_of_complete_lines(self) -> None:
        lines = LineSplitter(10, "max_line_bytes")
        assert lines.feed(b"ab", 0) == b""
        assert lines.rest() == b"ab"
        assert lines.feed(b"c\nd\ne", 2) == b"abc\nd\n"
        assert lines.offset == 0
        assert lines.feed(b"\n", 7) == b"e\n"
        assert lines.offset == 6
        assert lines.rest() == b""

    def test_lines_before_too_long_line_are_returned(self) -> None:
        lines = LineSplitter(3, "max_line_bytes")
        assert lines.feed(b"abc\r\nabcd\nx\n", 5) == b"abc\r\n"
        for _ in range(2):
            with pytest.raises(LimitError, match="at least 4 bytes, expected no more than 3") as caught:
                lines.check()
            assert caught.value.byte_offset == 10

    def test_remaining_bytes_have_line_limit(self) -> None:
        lines = LineSplitter(3, "max_line_bytes")
        lines.feed(b"a\nabc\r", 0)
        lines.check()
        assert lines.rest() == b"abc\r"
        lines.feed(b"d", 6)
        with pytest.raises(DecodeError):
            lines.rest()


def test_line_in_tiny_chunks_uses_little_memory() -> None:
    def check(name: str) -> None:
        decoder = FORMATS[name].decoder()
        tracemalloc.start()
        try:
            for _ in range(2**16):
                decoder.feed(b"xx")
            assert tracemalloc.get_traced_memory()[1] < 2**18  # the pointers of a list of chunks would need 2**19 bytes
        finally:
            tracemalloc.stop()

    check_rows(named(["ndjson", "csv", "text", "sse"]), check)
