"""`open_stream` from a server that sends nothing: how long it waits, and what it raises."""

import asyncio

import pytest
from aiohttp import ClientSession

import chunkwise
from chunkwise import StalledError
from tests.transports.reading import CHUNKED, JSON, NDJSON, read
from tests.transports.wire import answering, chunked, head, url_of


async def test_stall_is_reported_after_received_items() -> None:
    linger = asyncio.Event()
    async with (
        answering(head(NDJSON, CHUNKED) + chunked(b"1\n2\n3"), linger=linger) as port,
        ClientSession() as session,
    ):
        async with chunkwise.open_stream(session, url_of(port), idle_seconds=0.2) as stream:
            came, error = await read(stream)
            again, same = await read(stream)
        linger.set()
    assert (came, type(error)) == ([1, 2], StalledError)
    assert isinstance(error, TimeoutError)
    assert (error.item_index, error.byte_offset, error.format) == (2, 5, "ndjson")
    assert "idle_seconds" in str(error)
    assert (again, type(same), stream.end) == ([], StalledError, None)


async def test_missing_response_is_a_stall() -> None:
    linger = asyncio.Event()
    async with answering(linger=linger) as port, ClientSession() as session:
        with pytest.raises(chunkwise.StalledError) as caught:
            async with chunkwise.open_stream(session, url_of(port), idle_seconds=0.2):
                pass
        linger.set()
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
async def test_idle_seconds_must_be_finite(seconds: float) -> None:
    async with ClientSession() as session:
        with pytest.raises(ValueError, match=r"idle_seconds: got .+, expected a finite number >= 0; 0 means no limit"):
            async with chunkwise.open_stream(session, "http://localhost", idle_seconds=seconds):
                pass


@pytest.mark.parametrize("seconds", [0, 1e9])
async def test_idle_seconds_may_be_unlimited(seconds: float) -> None:
    async with (
        answering(head(JSON, "Content-Length: 3") + b"[1]") as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port), idle_seconds=seconds) as stream,
    ):
        assert await read(stream) == ([1], None)
