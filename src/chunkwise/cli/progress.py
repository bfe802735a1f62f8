"""Counters -> a line of progress on stderr, if a person is there to read it.

Must not know the commands: it asks for the counters, nobody pushes them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

_REFRESH_SECONDS = 0.1


@asynccontextmanager
async def progress(
    what: str,
    items_seen: Callable[[], int],
    bytes_seen: Callable[[], int],
    total_bytes: int | None,
    *,
    data_on_terminal: bool,
) -> AsyncIterator[None]:
    """Show how far a stream is while the body runs.

    Args:
        what: what is streamed, for people.
        items_seen: asks for the items so far.
        bytes_seen: asks for the bytes so far.
        total_bytes: how many it will be, where that is known: then there is a percentage.
        data_on_terminal: whether stdout shows the data there: then no progress is shown between them.
    """
    if sys.stderr is None or not sys.stderr.isatty() or data_on_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        *([BarColumn(), TextColumn("{task.percentage:>3.0f}%")] if total_bytes else []),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=10) as bars:
        task = bars.add_task(what, total=total_bytes, counted="")

        def update() -> None:
            elapsed, count = bars.tasks[0].elapsed, items_seen()
            # Of what is passed on as it is, nobody counts the items.
            counted = f"{count:,} items, {count / elapsed:,.0f}/s" if count and elapsed else ""
            bars.update(task, completed=bytes_seen(), counted=counted)

        async def repeat() -> None:
            while True:
                update()
                await asyncio.sleep(_REFRESH_SECONDS)

        repeating = asyncio.create_task(repeat())
        try:
            yield
        finally:
            repeating.cancel()
            update()
