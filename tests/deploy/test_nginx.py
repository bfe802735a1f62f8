"""deploy/nginx.conf in a real nginx, with killed replicas and cut responses."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import ClientSession

import chunkwise
from tests.cli.running import curl
from tests.databases import Postgres
from tests.deploy.replicas import STEP, Replicas, replaced, replicas
from tests.flow.producing import GUARD_SECONDS
from tests.needs import needs_curl, needs_nginx, needs_postgres
from tests.transports.watched import LAST

pytestmark = [needs_nginx, needs_postgres, needs_curl]

ROWS = 300_000
"""More than all buffers between a replica and a client can hold."""


@pytest.fixture(scope="module")
def deployed(postgres: Postgres) -> Iterator[Replicas]:
    """Two replicas that serve a table."""
    with replicas(postgres, ROWS) as running:
        yield running


@pytest.fixture
def both(deployed: Replicas) -> Iterator[Replicas]:
    """The replicas. Both run before the test, and are restarted after it."""
    yield deployed
    deployed.start_again()
    deployed.wait()


@pytest.mark.parametrize("name", ["csv", "sse", "ws"])
async def test_stream_resumes_after_all_replicas_stopped(both: Replicas, tmp_path: Path, name: str) -> None:
    base = f"http://127.0.0.1:{both.nginx(tmp_path)}"
    url, asked = (base.replace("http", "ws"), None) if name == "ws" else (base, name)
    wanted = 0
    async with (
        asyncio.timeout(GUARD_SECONDS),
        ClientSession() as session,
        chunkwise.open_stream(session, f"{url}/things", format=asked) as stream,
    ):
        async for batch in stream.batches():
            for row in batch:
                wanted += 1
                assert int(row["id"]) == wanted * STEP
            if not both.gone and not stream.reconnects:
                both.kill()
                async with session.get(f"{base}/things") as response:
                    assert response.status == 502
                both.start_again()
    assert wanted == ROWS
    assert stream.reconnects >= 1


async def test_request_succeeds_with_one_replica_down(both: Replicas, tmp_path: Path) -> None:
    base = f"http://127.0.0.1:{both.nginx(tmp_path)}"
    async with ClientSession() as session:
        async with session.head(f"{base}/things") as response:
            gone = response.headers["X-Replica"]
        both.kill(gone)
        for _ in range(6):
            async with session.head(f"{base}/things") as response:
                assert response.status == 200
                assert response.headers["X-Replica"] != gone


def over_http_1_0(config: str) -> str:
    """Let nginx use HTTP/1.0 to the replicas."""
    config = replaced(config, "proxy_http_version 1.1;", "proxy_http_version 1.0;")
    return replaced(config, "proxy_set_header Connection $connection_upgrade;", "")


def with_gzip_of_nginx(config: str) -> str:
    config = replaced(config, "gzip off;", "gzip on; gzip_types *; gzip_proxied any;")
    return replaced(config, "proxy_buffering off;", 'proxy_buffering off; proxy_set_header Accept-Encoding "";')


@pytest.mark.parametrize("change", [str, over_http_1_0, with_gzip_of_nginx])
def test_cut_response_behind_nginx_has_no_last_chunk(
    both: Replicas, tmp_path: Path, change: Callable[[str], str]
) -> None:
    request = b"GET /things HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\nAccept-Encoding: gzip\r\n\r\n"
    received = b""
    with closing(socket.create_connection(("127.0.0.1", both.nginx(tmp_path, change)), GUARD_SECONDS)) as client:
        client.sendall(request)
        while data := client.recv(4096):
            received += data
            if len(received) > 20_000 and not both.gone:
                both.kill()
    head, _, _ = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert b"\r\nContent-Encoding: gzip" in head
    assert both.gone
    assert not received.endswith(LAST)


def test_complete_response_has_a_last_chunk(both: Replicas, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{both.nginx(tmp_path)}/things"
    done = curl(url, "--raw", "-H", "Accept: application/x-ndjson")
    assert done.code == 0
    assert done.out.endswith(LAST)
