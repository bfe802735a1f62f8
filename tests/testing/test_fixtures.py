"""testing/fixtures.py: the fixture that starts proxies."""

from collections.abc import AsyncIterator

import pytest

from chunkwise.testing import cut_at
from chunkwise.testing.fixtures import StartFaultProxy, fault_proxy
from tests.testing.test_proxy import RESPONSE, Plain, respond_always
from tests.transports.wire import talking

__all__ = ["fault_proxy"]  # a project loads the fixture with pytest_plugins instead: see test_docs.py


async def test_fixture_starts_any_number_of_proxies(fault_proxy: StartFaultProxy) -> None:
    async with talking(respond_always) as port:
        proxies = [await fault_proxy(port, cut_at(5), times=1), await fault_proxy(port)]
        received: list[bytes] = []
        for proxy in (*proxies, proxies[0]):
            async with Plain() as client:
                await client.ask(proxy.port)
                received.append(await client.read(5 if not received else len(RESPONSE)))
        assert received == [RESPONSE[:5], RESPONSE, RESPONSE]
        assert [proxy.connections for proxy in proxies] == [2, 1]


@pytest.fixture
async def ports() -> AsyncIterator[list[int]]:
    """A list of ports, which must be closed when the fixtures that start after this one have ended."""
    expected_closed: list[int] = []
    yield expected_closed
    for port in expected_closed:
        async with Plain() as client:
            with pytest.raises(ConnectionRefusedError):
                await client.connect(port)


async def test_fixture_closes_its_proxies(ports: list[int], fault_proxy: StartFaultProxy) -> None:
    ports += [(await fault_proxy(1)).port, (await fault_proxy(1)).port]
