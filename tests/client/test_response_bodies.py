"""Unusual HTTP responses of other servers -> their items, and the proof of their end."""

import asyncio
import gzip
import socket
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, TCPConnector

import chunkwise
from chunkwise import StalledError
from tests.flow.producing import GUARD_SECONDS
from tests.transports.reading import CHUNKED, NDJSON, read
from tests.transports.wire import answering, head, url_of

RECORD = b' {"stream-end":{"status":"%b","items":2}}\n'


@pytest.mark.parametrize("status", [b"complete", b"failed"])
async def test_second_preference_header_counts(status: bytes) -> None:
    data = b"1\n2\n" + RECORD % status
    told = ("Preference-Applied: handling=lenient", "Preference-Applied: stream-end")
    answer = head(NDJSON, *told, f"Content-Length: {len(data)}") + data
    async with (
        answering(answer) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port)) as stream,
    ):
        came, error = await read(stream)
    assert came == [1, 2]
    assert (error is None) == (status == b"complete")


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ("Content-Encoding: gzip", gzip.compress(b"1\n2\n", mtime=0)),  # a second gzip member may be missing
        ("Content-Encoding: identity, identity", b"1\n2\n12"),
        ("Transfer-Encoding: chunked, gzip", b"1\n2\n12"),  # RFC 9112 §6.3, rule 4: read until the close
    ],
)
async def test_body_until_close_has_no_framed_end(header: str, data: bytes) -> None:
    async with (
        answering(head(NDJSON, header) + data) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port)) as stream,
    ):
        came, _ = await read(stream)
    assert came == [1, 2]
    assert stream.end != "framed"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("GET", head(NDJSON, "Content-Encoding: gzip", status="304 Not Modified")),
        ("HEAD", head("Content-Type: application/json", "Content-Length: 5")),
    ],
)
async def test_response_without_content_is_complete(method: str, answer: bytes) -> None:
    async with (
        answering(answer) as port,
        ClientSession() as session,
        chunkwise.open_stream(session, url_of(port), method=method) as stream,
    ):
        assert await read(stream) == ([], None)


async def opening(session: ClientSession, port: int, **options: Any) -> None:
    async with (
        asyncio.timeout(GUARD_SECONDS),
        chunkwise.open_stream(session, url_of(port), idle_seconds=0.2, **options),
    ):
        pass


async def test_waiting_for_a_connection_times_out() -> None:
    left = asyncio.Event()
    async with (
        answering(head(NDJSON, CHUNKED) + b"2\r\n1\n\r\n", linger=left) as port,
        ClientSession(connector=TCPConnector(limit=1, family=socket.AF_INET)) as session,
        chunkwise.open_stream(session, url_of(port)),
    ):
        try:
            with pytest.raises((StalledError, ClientError)):
                await opening(session, port)
        finally:
            left.set()
