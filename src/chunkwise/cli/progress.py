"""The counters of a stream -> a progress bar on stderr, if stderr is a terminal."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

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
    """Show the progress of a stream during the ``async with`` block, with a percentage if ``total_bytes`` is known.

    ``items_seen`` and ``bytes_seen`` are called ten times a second, and return the numbers so far. If
    ``data_on_terminal`` is true, the data itself is written to the terminal, and no progress is shown.
    """
    if sys.stderr is None or not sys.stderr.isatty() or data_on_terminal:
        yield
        return
    # The package rich is imported only if a bar is shown. At the start of the module, the import would take a tenth of
    # the start time of every command.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

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
            # The number of items is not shown if it is 0, because the items of a file that is sent unchanged are not
            # counted.
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
