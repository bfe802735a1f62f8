"""flow/inbound.py: items are returned as their bytes are received, one by one or in lists, before any error."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from chunkwise.errors import DecodeError, LimitError, PathNotFound, StalledError, TruncatedError
from chunkwise.flow.inbound import Broken, Inbound, Silent
from chunkwise.formats import FORMATS
from chunkwise.formats.paths import PathLike
from chunkwise.sources.batches import closing
from tests.flow.producing import GUARD_SECONDS


def inbound(
    pieces: Iterable[bytes | Exception],
    name: str = "json",
    path: PathLike = "",
    *,
    framed: bool = False,
    **options: Any,
) -> Inbound:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return Inbound(chunks(), lambda: FORMATS[name].decoder(path, **options), lambda: framed)


async def read(stream: Inbound, items: list[Any]) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        async for item in stream:
            items.append(item)  # noqa: PERF401 - the items before an error matter


async def read_lists(stream: Inbound, items: list[Any]) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        async for batch in stream.batches():
            items.extend(batch)


both_ways = pytest.mark.parametrize("reader", [read, read_lists], ids=["items", "batches"])
Reader = Callable[[Inbound, list[Any]], Any]


@both_ways
async def test_items_are_the_same_in_any_chunks(reader: Reader) -> None:
    data = b'[1,"two",{"three":[3]}]'
    for cut in range(len(data)):
        items: list[Any] = []
        await reader(inbound([data[:cut], b"", data[cut:]]), items)
        assert items == [1, "two", {"three": [3]}]


async def test_item_is_delivered_with_its_last_byte() -> None:
    fed = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal fed
        for piece in (b"[1", b",2,3", b",", b"4]"):
            fed += 1
            yield piece

    stream = Inbound(chunks(), FORMATS["json"].decoder, lambda: False)
    assert [(item, fed) async for item in stream] == [(1, 2), (2, 2), (3, 3), (4, 4)]


async def test_batch_has_the_items_of_one_chunk() -> None:
    stream = inbound([b"[1,2,", b"3,", b" ", b"4,5]"])
    assert [batch async for batch in stream.batches()] == [[1, 2], [3], [4, 5]]


async def test_large_chunk_is_split_into_small_lists() -> None:
    items = b",".join([b'{"n":1}'] * 40_000)
    stream = inbound([b'{"skipped":"%b","items":[%b]}' % (b"x" * 2_000_000, items)], path="items.item")
    sizes = [len(batch) async for batch in stream.batches()]
    assert sum(sizes) == 40_000
    assert max(sizes) <= 33_000
    assert sorted(sizes)[-2] <= 4_100


async def test_progress_is_available_while_reading() -> None:
    stream = inbound([b"[1,", b"2,", b"3]"])
    assert (stream.items_seen, stream.bytes_seen) == (0, 0)
    progress = [(stream.items_seen, stream.bytes_seen) async for _ in stream]
    assert progress == [(1, 3), (2, 5), (3, 7)]
    assert (stream.items_seen, stream.bytes_seen) == (3, 7)


async def test_reading_may_stop_and_continue() -> None:
    stream = inbound([b"[1,2", b",3,4]"])
    async for item in stream:
        assert item == 1
        break
    assert [item async for item in stream] == [2, 3, 4]


@both_ways
async def test_items_before_invalid_bytes_are_delivered(reader: Reader) -> None:
    items: list[Any] = []
    with pytest.raises(DecodeError) as caught:
        await reader(inbound([b"[1,2", b",3,?"]), items)
    assert items == [1, 2, 3]
    assert caught.value.item_index == 3


async def test_error_does_not_wait_for_more_bytes() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"[1,?"
        await asyncio.Event().wait()

    items: list[Any] = []
    with pytest.raises(DecodeError):
        await read(Inbound(chunks(), FORMATS["json"].decoder, lambda: False), items)
    assert items == [1]


@both_ways
async def test_items_before_disconnect_are_delivered(reader: Reader) -> None:
    items: list[Any] = []
    cause = OSError("reset")
    broken = Broken("no more")
    broken.__cause__ = cause
    with pytest.raises(TruncatedError, match="no more") as caught:
        await reader(inbound([b"[1,2", b",3,", broken]), items)
    assert items == [1, 2, 3]
    assert (caught.value.items_seen, caught.value.bytes_seen, caught.value.format) == (3, 7, "json")
    assert caught.value.__cause__ is cause


async def test_disconnect_before_first_byte_is_truncated() -> None:
    with pytest.raises(TruncatedError, match="no more") as caught:
        await read(inbound([Broken("no more")]), [])
    assert (caught.value.items_seen, caught.value.bytes_seen) == (0, 0)


async def test_disconnect_after_document_is_truncated() -> None:
    items: list[Any] = []
    with pytest.raises(TruncatedError):
        await read(inbound([b"[1,2]", Broken("no last chunk")]), items)
    assert items == [1, 2]


@both_ways
async def test_end_of_incomplete_document_is_truncated(reader: Reader) -> None:
    items: list[Any] = []
    with pytest.raises(TruncatedError) as caught:
        await reader(inbound([b"[1,2", b",3"], framed=True), items)
    assert items == [1, 2]
    assert (caught.value.items_seen, caught.value.bytes_seen) == (2, 6)


async def test_empty_stream_is_valid_only_in_line_formats() -> None:
    with pytest.raises(TruncatedError):
        await read(inbound([]), [])
    items: list[Any] = []
    await read(inbound([], "ndjson", framed=True), items)
    assert items == []


@both_ways
async def test_incomplete_last_item_needs_framing(reader: Reader) -> None:
    items: list[Any] = []
    await reader(inbound([b"1\n23"], "ndjson", framed=True), items)
    assert items == [1, 23]
    items = []
    with pytest.raises(TruncatedError):
        await reader(inbound([b"1\n23"], "ndjson", framed=False), items)
    assert items == [1]


@pytest.mark.parametrize("pieces", [[b"[1,2", Broken("no more")], [b"[1,?"], [b"[1,2"]], ids=["cut", "defect", "end"])
@both_ways
async def test_failed_stream_fails_again(reader: Reader, pieces: list[Any]) -> None:
    stream = inbound(pieces)
    items: list[Any] = []
    with pytest.raises(DecodeError) as first:
        await reader(stream, items)
    assert items == [1]
    with pytest.raises(type(first.value)):
        await reader(stream, items)
    assert items == [1]


async def test_complete_stream_is_empty_when_read_again() -> None:
    stream = inbound([b"[1,2]"])
    assert [item async for item in stream] == [1, 2]
    assert [item async for item in stream] == []
    assert stream.items_seen == 2


async def test_missing_required_path_is_an_error() -> None:
    items: list[Any] = []
    with pytest.raises(PathNotFound):
        await read(inbound([b'{"a":[1]}'], path="b.item", required=True), items)
    assert items == []


async def test_reading_batches_may_stop_and_continue() -> None:
    stream = inbound([b"[1,2", b",3,4", b",5]"])
    async for batch in stream.batches():
        assert batch == [1]
        break
    assert [item async for batch in stream.batches() for item in batch] == [2, 3, 4, 5]


@both_ways
async def test_stalled_error_follows_items(reader: Reader) -> None:
    items: list[Any] = []
    stream = inbound([b"1\n2\n3", Silent("received nothing for 5 s")], "ndjson")
    assert stream.failure is None
    with pytest.raises(StalledError, match="received nothing for 5 s") as caught:
        await reader(stream, items)
    error = caught.value
    assert (items, error.item_index, error.byte_offset, error.format) == ([1, 2], 2, 5, "ndjson")
    assert stream.failure is error
    with pytest.raises(StalledError):
        await reader(stream, items)
    assert (items, stream.end) == ([1, 2], None)


@both_ways
async def test_transport_error_has_next_item_index(reader: Reader) -> None:
    items: list[Any] = []
    with pytest.raises(LimitError) as caught:
        await reader(inbound([b"1\n", LimitError("decompressed/wire ratio over 100")], "ndjson"), items)
    assert (items, caught.value.item_index) == ([1], 1)


async def test_message_without_content_is_complete() -> None:
    async def nothing(*pieces: bytes) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    stream = Inbound(nothing(), FORMATS["json"].decoder, lambda: False, empty=True)
    assert [item async for item in stream] == []
    assert (stream.end, stream.items_seen, stream.bytes_seen) == ("framed", 0, 0)
    with pytest.raises(TruncatedError):
        await read(Inbound(nothing(), FORMATS["json"].decoder, lambda: False), [])


async def test_single_item_can_be_read() -> None:
    stream = inbound([b"[1,2,3]"])
    assert await anext(stream) == 1
    assert [item async for item in stream] == [2, 3]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@both_ways
async def test_interrupted_read_fails_when_continued(reader: Reader) -> None:
    items: list[Any] = []
    stream = inbound([b"[1,2,", ValueError("of the transport")])
    with pytest.raises(ValueError, match="of the transport"):
        await reader(stream, items)
    with pytest.raises(TruncatedError, match="interrupted by ValueError") as caught:
        await reader(stream, items)
    assert (items, caught.value.items_seen, caught.value.bytes_seen) == ([1, 2], 2, 5)


async def test_timed_out_read_fails_when_continued() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"1\n"
        await asyncio.Event().wait()

    stream = Inbound(chunks(), FORMATS["ndjson"].decoder, lambda: False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            [item async for item in stream]
    with pytest.raises(TruncatedError, match="interrupted by CancelledError"):
        [item async for item in stream]


async def test_batches_continue_after_abandoned_loop() -> None:
    stream = inbound([b"1\n2\n3\n", b"4\n"], "ndjson")
    async for item in stream:
        assert item == 1
        break
    assert [batch async for batch in stream.batches()] == [[2, 3], [4]]


async def test_second_loop_over_batches_continues() -> None:
    stream = inbound([b"1\n2\n", b"3\n"], "ndjson")
    async with closing(stream.batches()) as batches:
        assert await anext(batches) == [1, 2]
    assert stream.failure is None
    assert [batch async for batch in stream.batches()] == [[3]]
