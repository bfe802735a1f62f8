"""A message that other code has read in part -> its items, or an error that says how many bytes are missing."""

import zlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web

import chunkwise
from tests.transports.wire import serving, streams, url_of


async def two() -> AsyncIterator[int]:
    yield 1
    yield 2


async def test_bytes_read_by_other_code_are_reported() -> None:
    async with serving(streams(two, "ndjson")) as port, ClientSession() as session:
        url = url_of(port)
        async with session.get(url) as response:
            await response.read()
            assert [item async for item in chunkwise.items(response)] == [1, 2]
        async with session.get(url) as response:
            assert [item async for item in chunkwise.items(response)] == [1, 2]
            with pytest.raises(chunkwise.StreamError, match="other code has read 4 of the 4 bytes"):
                [item async for item in chunkwise.items(response)]
        async with session.get(url) as response:
            await response.content.readline()
            stream = chunkwise.items(response)
            assert await anext(aiter(stream)) == 2
            with pytest.raises(chunkwise.StreamError, match="other code has read 2 of the 4 bytes"):
                [item async for item in stream]


async def test_upload_read_by_a_middleware_is_kept() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response([item async for item in chunkwise.items(request)])

    async with serving(handler) as port, ClientSession() as session:
        data = chunkwise.body([1, 2], "ndjson")
        async with session.get(url_of(port), data=data) as response:
            assert await response.json() == [1, 2]


async def test_compressed_upload_has_an_unknown_end() -> None:
    ends: list[str | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        stream = chunkwise.items(request)
        came = [item async for item in stream]
        ends.append(stream.end)
        return web.json_response(came)

    compressing = zlib.compressobj(wbits=31)
    cut = compressing.compress(b"1\n") + compressing.flush(zlib.Z_SYNC_FLUSH)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
    async with (
        serving(handler) as port,
        ClientSession() as session,
        session.get(url_of(port), data=cut, headers=headers) as response,
    ):
        assert await response.json() == [1]
    assert ends == ["unknown"]
