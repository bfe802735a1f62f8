"""deploy/, run on this machine: two replicas behind nginx serve one table, and are killed while a client reads."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import chunkwise
from tests.databases import Postgres
from tests.deploy.replicas import STEP, replicas
from tests.needs import needs_nginx, needs_postgres

pytestmark = [needs_nginx, needs_postgres]

ROWS = 1_000_000
INSERT = """insert into things select n, 'new', 0
from generate_series(cast(:low as bigint), :high, :step) as g(n) on conflict do nothing"""
DELETE = "delete from things where id between :low and :high"


class Meanwhile:
    """A database connection that inserts and deletes rows before the current row of a reader.

    Attributes:
        place: the key of the last row that the reader has received.
        inserted: the number of rows inserted.
        deleted: the number of rows deleted.
    """

    def __init__(self) -> None:
        self.place = 0
        self.inserted = 0
        self.deleted = 0

    async def run(self, url: str, seed: int) -> None:
        choose = random.Random(seed)
        engine = create_async_engine(url)
        try:
            while True:
                high = choose.randrange(self.place + 1)
                low = max(0, high - 2000) // STEP * STEP + choose.randrange(1, STEP)
                async with engine.begin() as connection:
                    new = await connection.execute(text(INSERT), {"low": low, "high": high - 1, "step": STEP})
                    gone = await connection.execute(text(DELETE), {"low": high - 200, "high": high - 1})
                self.inserted += new.rowcount
                self.deleted += gone.rowcount
                await asyncio.sleep(0.005)
        finally:
            await engine.dispose()


@asynccontextmanager
async def changing(url: str, seed: int) -> AsyncIterator[Meanwhile]:
    changes = Meanwhile()
    task = asyncio.create_task(changes.run(url, seed))
    try:
        yield changes
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_million_rows_survive_killed_servers(postgres: Postgres, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)  # noqa: T201 - shown where the test fails
    choose = random.Random(seed)
    answered_by: list[str] = []
    wanted = 0  # the number of rows received
    with replicas(postgres, ROWS) as running:
        url = f"http://127.0.0.1:{running.nginx(tmp_path)}/things"
        async with (
            asyncio.timeout(55),
            changing(postgres.url("deployed"), seed) as changes,
            ClientSession() as session,
            chunkwise.open_stream(session, url, format="ndjson") as stream,
        ):
            kill_at = 0
            async for batch in stream.batches():
                for row in batch:
                    wanted += 1
                    assert row == {
                        "id": wanted * STEP,
                        "name": f"thing {wanted * STEP}",
                        "price": f"{wanted % 10_000 / 100:.2f}",
                    }
                changes.place = wanted * STEP
                if (name := stream.response.headers["X-Replica"]) not in answered_by[-1:]:
                    answered_by.append(name)
                    kill_at = wanted + choose.randrange(1, 100_000)
                if wanted >= kill_at and len(running.killed) < 3:
                    running.kill(name)
                    running.start_again()
                    kill_at = ROWS + 1
    assert wanted == stream.items_seen == ROWS
    assert stream.end == "proven"
    pids = [int(name.rpartition("-")[2]) for name in answered_by]
    assert pids[:3] == running.killed
    assert len(set(pids)) == len(pids) == 4
    assert stream.reconnects >= 3
    assert changes.inserted > 1000
    assert changes.deleted > 1000
