"""Counters of a stream -> a progress bar on stderr, if that is a terminal."""

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
    """Show the progress of a stream during the ``async with`` block.

    Args:
        what: the name of the stream, for people.
        items_seen: returns the number of items so far; called ten times a second.
        bytes_seen: returns the number of bytes so far.
        total_bytes: the number of all bytes, if it is known, to show a percentage.
        data_on_terminal: whether the data is written to the same terminal; then no progress is shown.
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
            # Items are not counted if the bytes are passed on unchanged.
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
