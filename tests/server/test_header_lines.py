"""The headers of a streamed response: its ETag, and the headers that a handler has set."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict

from tests.transports.wire import Handler, connected, serving, streams


async def rows() -> AsyncIterator[dict[str, int]]:
    for n in range(5):
        yield {"n": n}
        await asyncio.sleep(0.01)


async def head_of(handler: Handler, *headers: str) -> list[str]:
    """Return the header lines of a response."""
    async with serving(handler) as port, connected(port) as wire:
        lines = ["GET /0 HTTP/1.1", "Host: test", "Connection: close", *headers, "", ""]
        wire.writer.write("\r\n".join(lines).encode())
        answer = await wire.read_to_end()
    return answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")


async def test_end_record_makes_an_etag_weak() -> None:
    handler = streams(rows, "ndjson", compress=False, headers={"ETag": '"v1"'})
    plain = [line for line in await head_of(handler) if line.startswith("ETag")]
    asked = [line for line in await head_of(handler, "Prefer: stream-end") if line.startswith("ETag")]
    assert plain != asked or plain == ['ETag: W/"v1"']


@pytest.mark.parametrize(("name", "values"), [("Cache-Control", ("max-age=60", "private")), ("Vary", ("A", "Cookie"))])
async def test_repeated_headers_are_all_sent(name: str, values: tuple[str, str]) -> None:
    headers = CIMultiDict([(name, value) for value in values])
    lines = await head_of(streams(rows, "ndjson", headers=headers))
    sent = ", ".join(line for line in lines if line.startswith(name))
    assert values[0] in sent
    assert values[1] in sent
