"""A sync iterable -> batches of its items, which a separate thread pulls.

Each source has a thread of its own instead of one from a pool. So a source that blocks does not delay other sources,
and a source can use objects that must stay in one thread, such as a SQLite connection.
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
    """The thread of one source, which runs the functions passed to `call` one after the other.

    The thread does not belong to an executor, because the interpreter waits for the threads of executors when it exits:
    a source that blocks for ever would keep the process alive.
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
            except BaseException as error:  # noqa: BLE001 - the future raises it in the event loop
                future.set_exception(error)
            else:
                future.set_result(result)


class _Puller:
    """Pulls items from an iterable. Its methods run in the thread of the source."""

    def __init__(self, iterable: Iterable[Any], wake: Callable[[], object]) -> None:
        self.ready: deque[Any] = deque()
        self.stopping = False
        self._iterable = iterable
        self._iterator: Iterator[Any] | None = None
        self._wake = wake

    def pull(self, count: int) -> bool:
        """Pull at most ``count`` items and append them to ``ready``; return whether the iterator has ended."""
        if self._iterator is None:
            try:
                self._iterator = iter(self._iterable)
            except StopIteration as error:
                # A future passes on the error of this method, and a future cannot raise StopIteration. So raise another
                # error instead.
                raise RuntimeError("the iterable's __iter__ raised StopIteration, expected an iterator") from error
        for _ in range(count):
            try:
                item = next(self._iterator)
            except StopIteration:
                return True
            self.ready.append(item)
            if len(self.ready) == 1:
                # Wake the event loop now, so that it takes this item even if the next call of next() blocks.
                self._wake()
            if self.stopping:
                break
        return False

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


async def batches_in_thread(iterable: Iterable[Any], hop_items: Callable[[], int]) -> AsyncGenerator[list[Any], None]:
    """Yield the items of a sync iterable in batches, each as soon as it is available.

    If the iterable raises an exception, the items before the exception are yielded first. All code of the iterable,
    also the method ``close`` of its iterator, runs in one thread, which no other source uses.

    Args:
        iterable: the source of the items.
        hop_items: a function that returns how many items the thread may pull. When the thread has pulled them, it waits
            until the event loop has taken them. Then the function is called again.
    """
    loop = asyncio.get_running_loop()
    wake = asyncio.Event()

    def wake_up() -> None:
        # If the event loop is closed, call_soon_threadsafe() raises RuntimeError, and no task needs the items.
        with suppress(RuntimeError):
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
        # If the thread blocks in next(), it cannot be interrupted, so do not wait longer than one second for it. The
        # thread closes the iterator later, when next() has returned.
        await asyncio.wait({closing}, timeout=1)


def _log_failure(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.error("a source raised an error while it was being closed", exc_info=error)
