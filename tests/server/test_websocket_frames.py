"""server/websocket_frames.py: the websockets package reads the frames of our server."""

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from chunkwise.server.websocket_frames import frame_bytes, text_frames
from tests.each_row import each_row

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000]


def parsed(data: bytes) -> list[Frame]:
    """Return the frames in some bytes; the last frame must be complete."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    frames: list[Frame] = []
    while True:
        end = reader.at_eof()
        try:
            next(end)
        except StopIteration as told:
            if told.value:
                return frames
        parsing = Frame.parse(reader.read_exact, mask=False)
        try:
            next(parsing)
        except StopIteration as told:
            frames.append(told.value)
        else:
            raise AssertionError("the bytes stop inside a frame")


@given(sizes=st.lists(st.sampled_from(SIZES) | st.integers(0, 300), max_size=5))
def test_each_message_is_one_frame(sizes: list[int]) -> None:
    messages = [bytes([65 + index]) * size for index, size in enumerate(sizes)]
    data = text_frames(messages)
    assert parsed(data) == [Frame(Opcode.TEXT, message) for message in messages]
    assert len(data) == sum(map(frame_bytes, sizes))


@each_row("size", SIZES)
def test_frame_bytes_is_the_frame_length(size: int) -> None:
    assert frame_bytes(size) == len(text_frames([b"x" * size]))
