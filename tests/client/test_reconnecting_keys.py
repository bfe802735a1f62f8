"""A stream that is resumed by the key of the last item, as the server sent it."""

from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise.formats.sse import ServerSentEvent
from chunkwise.sources.resumable import resumable
from chunkwise.testing import FaultProxy, cut_at
from tests.client.test_reconnecting import FEW_ROWS, HALF, User, hurry, read
from tests.each_row import each_row
from tests.transports.wire import serving, streams

__all__ = ["hurry"]


@each_row("type_", [Any, User])
@each_row("name", ["json", "ndjson", "csv", "sse"])
async def test_key_resumes_despite_insertions(name: str, type_: Any) -> None:
    table = [{"n": f"{index:03}", "name": "x" * 30} for index in range(0, 100, 2)]

    def behind(after: tuple[str] | None) -> Any:
        if after is not None:
            table.insert(0, {"n": "-" + str(len(table)), "name": "inserted"})
        return [row for row in table if after is None or row["n"] > after[0]]

    expected = [msgspec.convert(row, type_) for row in table]
    cuts = [cut_at(count, of="body") for count in (900, 300, 201, 444)]
    handler = streams(lambda: resumable(behind, key=["n"], etag="t"), compress=False)
    items, stream, error = await read(handler, *cuts, name=name, type=type_)
    assert (items, error, stream.reconnects) == (expected, None, 4)


@pytest.mark.parametrize("name", ["id", "event", "data", "retry", "n"])
async def test_key_of_an_event_is_read_from_its_data(name: str) -> None:
    table = [{name: f"{index:03}"} for index in range(50)]
    handler = streams(
        lambda: resumable(lambda after: [row for row in table if after is None or row[name] > after[0]], key=[name]),
        compress=False,
    )
    items, stream, error = await read(handler, HALF, name="sse", type=ServerSentEvent)
    assert ([msgspec.json.decode(event.data) for event in items], error, stream.reconnects) == (table, None, 1)


async def test_changing_an_item_keeps_its_key() -> None:
    handler = streams(
        lambda: resumable(lambda after: [row for row in table if not after or row["n"] > after[0]], key=["n"])
    )
    table = [{"n": number, "name": "x" * 100} for number in range(50)]
    async with (
        serving(handler) as port,
        FaultProxy("127.0.0.1", port, [cut_at(2000, of="body")]) as proxy,
        ClientSession(headers={"Accept-Encoding": "identity"}) as session,
        chunkwise.open_stream(session, proxy.url("/0")) as stream,
    ):
        seen = []
        async for each in stream:
            seen.append(each["n"])
            each["n"] *= 2
    assert (seen, stream.reconnects) == ([*range(50)], 1)


async def test_items_without_the_key_cannot_resume() -> None:
    class Named(msgspec.Struct):
        name: str

    handler = streams(lambda: resumable(lambda _: FEW_ROWS, key=["n"]), compress=False)
    _, stream, error = await read(handler, HALF, type=Named)
    assert isinstance(error, chunkwise.TruncatedError)
    assert "the last item has no n as the server sent it (type= must keep it a string or a number)" in str(error)
    assert stream.reconnects == 0
