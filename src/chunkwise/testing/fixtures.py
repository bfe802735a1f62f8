"""The pytest fixture `fault_proxy`, which starts proxies that break responses. It needs pytest-asyncio.

Add ``pytest_plugins = ["chunkwise.testing.fixtures"]`` to your ``conftest.py``.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest_asyncio

from chunkwise.testing.faults import Fault
from chunkwise.testing.proxy import FaultProxy

__all__ = ["StartFaultProxy", "fault_proxy"]


class StartFaultProxy(Protocol):
    """The type of the fixture `fault_proxy`: a function that starts a proxy."""

    async def __call__(
        self, port: int, fault: Fault | None = None, *, host: str = "127.0.0.1", times: int | None = None
    ) -> FaultProxy:
        """Start a proxy in front of a server. The proxy is closed when the test ends.

        Args:
            port: the port of the server.
            fault: the fault of each connection.
            host: the host of the server.
            times: how many connections get the fault; None for all. See `FaultProxy`.
        """


@pytest_asyncio.fixture
async def fault_proxy() -> AsyncIterator[StartFaultProxy]:
    """Yield a function that starts a proxy that breaks responses. All proxies are closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(
            port: int, fault: Fault | None = None, *, host: str = "127.0.0.1", times: int | None = None
        ) -> FaultProxy:
            return await stack.enter_async_context(FaultProxy(host, port, fault, times=times))

        yield start
