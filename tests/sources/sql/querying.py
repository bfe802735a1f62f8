"""Database sources -> their items and errors; and a check that a stream can be resumed after each item."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from chunkwise import FORMATS
from chunkwise.flow.outbound import Outbound
from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import Resumable
from tests.databases import KINDS, Database
from tests.flow.producing import GUARD_SECONDS

everywhere = pytest.mark.parametrize("database", KINDS, indirect=True)
in_postgres = pytest.mark.parametrize("database", KINDS[1:], indirect=True)
in_sqlite = pytest.mark.parametrize("database", KINDS[:1], indirect=True)
ORDERS = {"ascending": False, "descending": True}


def batches_of(source: Any) -> AsyncGenerator[list[Any], None]:
    assert isinstance(source, Batches)
    assert isinstance(source.lists, AsyncGenerator)
    return source.lists


async def items_of(source: Any) -> list[Any]:
    return [item async for batch in batches_of(source) for item in batch]


async def items_and_error(source: AsyncGenerator[Any, None]) -> tuple[list[Any], Exception | None]:
    received = []
    try:
        async for part in source:
            received.append(part)  # noqa: PERF401 - those before the error
    except Exception as error:
        return received, error
    return received, None


async def encoded(source: Any, name: str = "ndjson") -> str:
    return b"".join([data async for data in Outbound(source, FORMATS[name].encoder()).pieces()]).decode()


async def resumed_everywhere(source: Resumable, expected: list[Any]) -> None:
    """Resume a source after each item, with the key as a JSON client and a CSV client send it."""
    whole = await items_of(source.start())
    assert repr(whole) == repr(expected)  # NaN is not equal to itself
    for name in ("ndjson", "csv"):
        text = await encoded([*whole], name)
        decoder = FORMATS[name].decoder()
        read = [*decoder.feed(text.encode()), *decoder.finish(framed=True)]
        assert len(read) == len(whole)
        for index, item in enumerate(read):
            after = [item[part] for part in source.key]
            rest = await items_of(source.start(index + 1, after))
            assert repr(rest) == repr(whole[index + 1 :]), (name, after)


async def read_and_cancel(database: Database, source: Callable[[], Batches]) -> None:
    """Read a source many times, cancelled at any point and during cleanup; check that everything is released."""
    seed = random.randrange(1 << 32)
    print("seed", seed)  # noqa: T201 - shown where the test fails
    choose = random.Random(seed)
    before = asyncio.all_tasks()
    for _ in range(20):
        reading = asyncio.create_task(items_of(source()))
        for _ in range(choose.randrange(1, 4)):
            for _ in range(choose.randrange(20)):
                await asyncio.sleep(choose.choice([0, 0, 0.001]))
            reading.cancel()
        await asyncio.wait({reading}, timeout=GUARD_SECONDS)
        assert reading.done()
        assert reading.cancelled() or reading.exception() is None
    async with asyncio.timeout(GUARD_SECONDS):
        while database.taken or asyncio.all_tasks() != before:
            await asyncio.sleep(0.01)


async def without_table(database: Database, name: str) -> None:
    """Drop the table of the previous row of a test, and close connections whose prepared statements use it."""
    await database.run(f"drop table if exists {name}")
    await database.dispose()


def series(database: Database, count: int) -> str:
    """Return a query for the numbers from 1 to ``count``."""
    if database.kind == "postgresql":
        return f"select n from generate_series(1, {count}) as g(n)"
    return f"with recursive g(n) as (select 1 union all select n + 1 from g where n < {count}) select n from g"
