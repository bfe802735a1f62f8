"""A source that waits: a disconnect closes it, and keepalive bytes keep the connection open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import chunkwise
from chunkwise.formats import FORMATS
from chunkwise.server import respond
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS
from tests.transports.wire import body_of, connected, serving, streams


class Held:
    """A source that yields one item, then waits until it is released or closed."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.closed = asyncio.Event()

    async def items(self) -> AsyncIterator[int]:
        try:
            yield 1
            await self.go_on.wait()
            yield 2
        finally:
            await asyncio.sleep(0)  # cleaning up may take several turns of the event loop
            self.closed.set()


def plain(held: Held) -> Any:
    return held.items()


def nested(held: Held) -> Any:
    return {"settings": {}, "users": held.items()}


async def inside_an_item(held: Held) -> AsyncIterator[Any]:
    yield {"users": held.items()}


@pytest.mark.parametrize("shape", [plain, nested, inside_an_item])
async def test_disconnect_closes_a_waiting_source(
    shape: Callable[[Held], Any], caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    async with serving(streams(lambda: shape(held), "ndjson")) as port, connected(port) as wire:
        wire.ask()
        await wire.reader.readuntil(b"1")
        wire.writer.close()
        async with asyncio.timeout(GUARD_SECONDS):
            await held.closed.wait()
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@each_row(
    ("name", "shape", "filler"),
    [
        ("json", plain, b"1\r\n \r\n"),
        ("json", nested, b"1\r\n\t\r\n"),
        ("sse", plain, b"3\r\n:\n\n\r\n"),
        ("sse", inside_an_item, b"1\r\n\t\r\n"),
        ("ndjson", plain, b"1\r\n\n\r\n"),
        ("ndjson", inside_an_item, b"1\r\n\t\r\n"),
        ("json-seq", plain, b"1\r\n\n\r\n"),
        ("json-seq", inside_an_item, b"1\r\n\t\r\n"),
    ],
)
async def test_keepalive_bytes_are_ignored_by_the_format(
    name: str, shape: Callable[[Held], Any], filler: bytes
) -> None:
    held = Held()
    handler = streams(lambda: shape(held), name, keepalive_seconds=0.01)
    async with serving(handler) as port, connected(port) as wire:
        wire.ask()
        await wire.read_until(filler * 3)
        held.go_on.set()
        answer = await wire.read_until(b"0\r\n\r\n")
    items = chunkwise.items([body_of(answer)], "users.item" if shape is nested else "", format=name)
    expected = [{"users": [1, 2]}] if shape is inside_an_item else [1, 2]
    assert [item async for item in items] == expected


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ndjson", {}),
        ("json-seq", {}),
        ("text", {"keepalive_seconds": 0.01}),
        ("json", {"keepalive_seconds": 0}),
        ("sse", {"keepalive_seconds": 0}),
    ],
)
async def test_keepalive_can_be_off_or_unsupported(
    name: str, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(respond, "KEEPALIVE_SECONDS", 0.01)
    held, filled = Held(), Held()
    quiet = streams(held.items, name, **options)
    busy = streams(filled.items, "json")
    async with serving(quiet, busy) as port, connected(port) as wire, connected(port) as other:
        wire.ask("/0")
        await wire.read_until(b"1\n\r\n" if name in ("ndjson", "json-seq") else b"\r\n")
        other.ask("/1")
        await other.read_until(b"1\r\n \r\n" * 3)  # wait at least this long
        held.go_on.set()
        answer = await wire.read_until(b"0\r\n\r\n")
    encoder = FORMATS[name].encoder()
    assert body_of(answer) == encoder.start() + encoder.encode([1, 2]) + encoder.finish()
