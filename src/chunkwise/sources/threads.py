"""A sync iterable -> batches of its items, pulled in a thread of its own.

Each source has its own thread, not one of a shared pool: a source that blocks does not hold up others, and a SQLite
connection, for example, stays in one thread.
"""

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any

logger: logging.Logger = logging.getLogger("chunkwise")


class _Thread:
    """A thread that runs calls one after the other.

    Not an executor's thread: the interpreter waits for those at its exit, so a source that blocks for ever would keep
    the process alive.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._context = contextvars.copy_context()
        threading.Thread(target=self._run, name="chunkwise-source", daemon=True).start()

    def call(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        future: Future[Any] = Future()
        self._calls.put((future, partial(function, *arguments)))
        return asyncio.wrap_future(future)

    def end(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = self._context.run(function)
            except BaseException as error:  # noqa: BLE001 - the loop's side raises it
                future.set_exception(error)
            else:
                future.set_result(result)


class _Puller:
    """The part that runs in the thread."""

    def __init__(self, iterable: Iterable[Any], wake: Callable[[], object]) -> None:
        self.ready: deque[Any] = deque()
        self.stopping = False
        self._iterable = iterable
        self._iterator: Iterator[Any] | None = None
        self._wake = wake

    def pull(self, count: int) -> bool:
        """Pull at most so many items; return whether the iterator has ended."""
        if self._iterator is None:
            try:
                self._iterator = iter(self._iterable)
            except StopIteration as error:  # which a future cannot carry
                raise RuntimeError("the iterable's __iter__ raised StopIteration") from error
        for _ in range(count):
            try:
                item = next(self._iterator)
            except StopIteration:
                return True
            self.ready.append(item)
            if len(self.ready) == 1:
                self._wake()  # the first item must not wait for the next, which may block
            if self.stopping:
                break
        return False

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


async def batches_in_thread(iterable: Iterable[Any], hop_items: Callable[[], int]) -> AsyncGenerator[list[Any], None]:
    """Yield items as soon as the iterable has them, and never pull far ahead; raise what it raises after them.

    ``iter``, ``next`` and ``close`` run in its thread. ``hop_items`` is called before each hop to the thread, and
    returns how many items the hop may pull.
    """
    loop = asyncio.get_running_loop()
    wake = asyncio.Event()

    def wake_up() -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(wake.set)

    puller = _Puller(iterable, wake_up)
    thread = _Thread()
    hop: asyncio.Future[bool] | None = None
    try:
        ended = False
        while not ended:
            hop = thread.call(puller.pull, hop_items())
            hop.add_done_callback(lambda _: wake.set())
            while not hop.done() or puller.ready:
                await wake.wait()
                wake.clear()
                if batch := [puller.ready.popleft() for _ in range(len(puller.ready))]:
                    yield batch
            done, hop = hop, None
            ended = done.result()
    finally:
        puller.stopping = True
        closing = thread.call(puller.close)
        thread.end()
        for future in (hop, closing):
            if future is not None:
                future.add_done_callback(_log_failure)
        # A thread that blocks in next() cannot be interrupted: it closes its iterator afterwards.
        await asyncio.wait({closing}, timeout=1)


def _log_failure(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("closing a source failed", exc_info=error)
