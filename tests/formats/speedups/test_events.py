"""speedups/events.pxi: events decoded in one call are the same as events decoded line by line, in any chunks."""

from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.formats import sse
from chunkwise.formats.contract import Limits
from chunkwise.formats.speedups import fallback
from tests.formats.reading import bytewise, cuts, random_split, read

LINES = [
    "data: 1", "data:2", 'data: {"a":[3]}', "data: [4,", "data: 5]", "data:  6 ", "data", "data:", "data: 7,8",
    "data: x", 'data: "é€😀\u2028"', "data : 9", "dat: 0", "data\t: 0", "id: 1", "id:2", "id", "id: é", "id: 3\0",
    "id:  4", "idx: 5", "event: token", "event", "retry: 100", "retry: x", "retry", ": comment", ":", "other: 1",
    "\ufeffdata: 1", " data: 1", "data: [[[", "data: " + "1" * 12, 'data: "\\ud83d\\ude00"', "", "", "", "", "", "",
]  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = draw(st.lists(st.sampled_from(LINES), max_size=16))
    data = end.join([*lines, "", ""]).encode()
    for _ in range(draw(st.integers(0, 1))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.sampled_from([b"\xff", b"\xc3", b"\n", b"\r", b"\0", b"\n\n"])) + data[place:]
    return data


def reading(code: ModuleType, pieces: list[bytes], limits: Limits, type: Any) -> Any:
    made: list[sse.SseDecoder] = []

    def make() -> sse.SseDecoder:
        made.append(sse.SseDecoder(type=type, limits=limits))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "event_texts", code.event_texts)
        got = read(make, pieces)
    error = None if got.error is None else (repr(got.error), got.error.message, got.error.item_index)
    items = [bytes(item) if isinstance(item, msgspec.Raw) else item for item in got.items]
    return repr(items), error, made[0].last_event_id, made[0].retry, made[0].records_seen


@given(
    data=streams(),
    drawn=cuts,
    type=st.sampled_from([Any, int, msgspec.Raw, sse.ServerSentEvent]),
    most=st.sampled_from([3, 99]),
)
def test_events_are_the_same_as_line_by_line(
    compiled: ModuleType, data: bytes, drawn: list[int], type: Any, most: int
) -> None:
    limits = Limits(max_item_bytes=most, max_depth=2)
    for pieces in ([data], bytewise(data), random_split(data, drawn)):
        assert reading(compiled, pieces, limits, type) == reading(fallback, pieces, limits, type)


def test_common_events_are_read_in_one_call(compiled: ModuleType) -> None:
    run = b'junk\n\n: x\n\nid: 7\nevent: e\ndata: {"a":1}\n\nid: 8\nother\ndata:[2]\n\n\ndata: 4\n\ndata: open\n'
    start, stop = run.index(b": x"), run.rindex(b"\n\n") + 2
    assert compiled.event_texts(run, start, stop, 7) == (b'{"a":1}\n[2]\n4', 3, b"8")
    assert compiled.event_texts(run, start, stop, 6) is None
    assert compiled.event_texts(b": x\n\n", 0, 5, 6) == (b"", 0, None)
    assert compiled.event_texts(b"id\n\n", 0, 4, 6) == (b"", 0, b"")
    assert compiled.event_texts(b"data: [4,\ndata: 5]\n\n", 0, 20, 6) is None
    assert compiled.event_texts(b"retry: 5\n\n", 0, 10, 6) is None
