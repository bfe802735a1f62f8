"""flow/outbound.py: opening. Which sources are streams, which are documents, and which options encoders get."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from chunkwise.errors import EncodeError
from chunkwise.flow.outbound import Outbound, is_stream, open_outbound
from chunkwise.formats import FORMATS
from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import resumable
from tests.flow.producing import GUARD_SECONDS, Held, run_to_failure
from tests.tables import check_rows, named


async def numbers(count: int = 3) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def numbers_in_a_thread() -> Iterator[int]:
    yield from range(3)


STREAMS: dict[str, Any] = {
    "an async generator": numbers,
    "a generator": numbers_in_a_thread,
    "a list": lambda: [0, 1, 2],
    "a set of one": lambda: {0},
    "lists": lambda: Batches([[0, 1], [2]]),
    "a source that starts anywhere": lambda: resumable(lambda start: range(start, 3)),
}
VALUES: list[Any] = ["text", b"bytes", bytearray(b"x"), {"a": 1}, 5, None, 1.5]


@pytest.mark.parametrize("kind", STREAMS)
async def test_iterable_is_a_stream_of_items(kind: str) -> None:
    source = STREAMS[kind]()
    assert is_stream(source)
    stream = open_outbound(source, FORMATS["json"])
    data = b"".join([piece async for piece in stream.pieces()])
    assert data == (b"[0]" if kind == "a set of one" else b"[0,1,2]")
    assert (stream.items_sent, stream.complete) == (1 if kind == "a set of one" else 3, True)


def test_strings_and_mappings_are_documents() -> None:
    def check(value: Any) -> None:
        assert not is_stream(value)

    check_rows(named(VALUES), check)


async def test_awaitable_is_a_document() -> None:
    waiting = asyncio.sleep(0, "later")
    assert not is_stream(waiting)
    assert b"".join([piece async for piece in open_outbound(waiting, FORMATS["json"]).pieces()]) == b'"later"'


async def test_value_is_written_as_document() -> None:
    document = {"rows": numbers(2), "count": 2}
    data = b"".join([piece async for piece in open_outbound(document, FORMATS["json"]).pieces()])
    assert data == b'{"rows":[0,1],"count":2}'


@pytest.mark.parametrize("function", [numbers, numbers_in_a_thread, len, "".join, str.upper, str.__str__])
def test_function_is_refused_as_source(function: Any) -> None:
    with pytest.raises(TypeError, match="call it"):
        open_outbound(function, FORMATS["json"])


@pytest.mark.parametrize("wrapped", [False, True])
async def test_exhausted_generator_is_refused(wrapped: bool) -> None:
    spent: list[Any] = [numbers(), numbers_in_a_thread()]
    assert [item async for item in spent[0]] == [*spent[1]]
    for source in spent:
        with pytest.raises(ValueError, match="generator that has ended"):
            open_outbound(Batches(source) if wrapped else source, FORMATS["json"])


async def test_event_ids_continue_after_resume() -> None:
    rows = [{"id": 7}, {"id": 8}]
    stream = open_outbound(rows, FORMATS["sse"], stream_end=True, first=5, key=["id"])
    data = b"".join([piece async for piece in stream.pieces()])
    assert data.startswith(b'id: 5 [7]\ndata: {"id":7}\n\nid: 6 [8]\n')
    assert data.endswith(b'event: stream-end\ndata: {"status":"complete","items":2}\n\n')


async def test_wake_yields_a_piece_at_once() -> None:
    held = Held()
    stream = Outbound(held.rows(), FORMATS["ndjson"].encoder())
    pieces = stream.pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        assert (await anext(pieces)).endswith(b"\n")
        waiting = asyncio.ensure_future(anext(pieces))
        await held.waiting.wait()
        await asyncio.sleep(0)
        assert not waiting.done()
        stream.wake()
        assert await waiting == b""
        assert (stream.items_sent, stream.in_item, stream.complete) == (1, False, False)
        held.go.set()
        rest = b"".join([piece async for piece in pieces])
    assert rest.count(b"\n") == 1
    assert stream.complete


async def test_in_item_is_true_inside_item_in_parts() -> None:
    held = Held()
    stream = open_outbound([{"before": "x", "rows": held.rows()}], FORMATS["ndjson"], stream_end=True)
    pieces = stream.pieces()
    async with asyncio.timeout(GUARD_SECONDS):
        received = await anext(pieces)
        await held.waiting.wait()
        received += stream.take_rest()
        assert received.startswith(b'{"before":"x","rows":[')
        assert stream.in_item
        assert stream.fail({"status": 500}) == b""
        await pieces.aclose()


async def test_failure_record_follows_items() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ValueError("no more")

    stream = open_outbound(failing(), FORMATS["ndjson"], stream_end=True)
    data, error = await run_to_failure(stream)
    assert (data, type(error), stream.complete) == (b"1\n", ValueError, False)
    record = stream.fail({"title": "Oh", "status": 500})
    assert record == b' {"stream-end":{"status":"failed","items":1,"problem":{"title":"Oh","status":500}}}\n'


async def test_unencodable_item_error_has_its_index() -> None:
    stream = open_outbound([1, 2, object()], FORMATS["json"])
    data, error = await run_to_failure(stream)
    assert data == b"[1,2"
    assert isinstance(error, EncodeError)
    assert error.item_index == 2


async def test_error_in_iter_fails_the_stream() -> None:
    class Odd:
        def __iter__(self) -> Iterator[int]:
            raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        [piece async for piece in Outbound(Odd(), FORMATS["json"].encoder()).pieces()]
