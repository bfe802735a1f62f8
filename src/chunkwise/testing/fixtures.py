"""Fixtures for pytest: ``pytest_plugins = ["chunkwise.testing.fixtures"]``. The only file that needs pytest-asyncio.

`fault_proxy` starts proxies that break answers, and closes them when the test ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest_asyncio

from chunkwise.testing.faults import Fault
from chunkwise.testing.proxy import FaultProxy

__all__ = ["StartFaultProxy", "fault_proxy"]


class StartFaultProxy(Protocol):
    """What the fixture `fault_proxy` gives: a call that starts a proxy."""

    async def __call__(
        self, port: int, fault: Fault | None = None, *, host: str = "127.0.0.1", times: int | None = None
    ) -> FaultProxy:
        """Return a proxy before the server at that port, until the test ends.

        Args:
            port: of the server.
            fault: what is done to each connection.
            host: of the server.
            times: to how many connections it is done; None for all. See `FaultProxy`.
        """


@pytest_asyncio.fixture
async def fault_proxy() -> AsyncIterator[StartFaultProxy]:
    """Start proxies that break answers; all are closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(
            port: int, fault: Fault | None = None, *, host: str = "127.0.0.1", times: int | None = None
        ) -> FaultProxy:
            return await stack.enter_async_context(FaultProxy(host, port, fault, times=times))

        yield start
