"""Streams over TLS: complete streams, failures and disconnects look the same as without TLS."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.flow.producing import GUARD_SECONDS
from tests.server.endings import ending, failing, rows
from tests.transports.tls import CERTIFICATE, Secure
from tests.transports.websocket_peer import handshake
from tests.transports.wire import streams


async def waiting() -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(GUARD_SECONDS)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_complete_stream_ends_under_tls(version: str, tmp_path: Path) -> None:
    # With set_write_buffer_limits(high=0), asyncio's TLS transport would pause at 0 bytes and never resume.
    async with Secure(streams(rows, "ndjson"), tmp_path) as server:
        reader, writer = await server.connect()
        writer.write(f"GET / HTTP/{version}\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        came, how = await ending(reader)
        writer.close()
        assert how == "closed", f"the connection was {how} after {came[-50:]!r}"
        assert came.count(b'{"n":') == 5
        async with asyncio.timeout(GUARD_SECONDS):
            assert (await server.outcomes.get()).end == "complete"


async def test_failed_http_1_0_stream_is_reset_under_tls(tmp_path: Path) -> None:
    # transport.close() sends close_notify, which is a normal end for TLS, before TCP sends the reset.
    async with Secure(streams(failing, "ndjson"), tmp_path) as server:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")
        came, how = await ending(reader)
        writer.close()
        assert how == "reset", f"the connection was {how} after {came[-50:]!r}"


async def test_tls_disconnect_logs_no_loop_error(tmp_path: Path) -> None:
    told: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with Secure(streams(waiting, "ndjson", stall_seconds=0.4), tmp_path) as server:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await reader.readuntil(b"1\n")
        writer.transport.abort()
        async with asyncio.timeout(GUARD_SECONDS):
            assert (await server.outcomes.get()).end == "client_gone"
        await asyncio.sleep(0.2)  # longer than one check of the stall watch
    assert not told


@pytest.mark.parametrize("how", ["reset", "fin", "goodbye"])
@pytest.mark.parametrize("fails", [False, True])
async def test_tls_websocket_disconnect_is_noticed(
    how: str, fails: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusts = ssl.create_default_context(cadata=CERTIFICATE[CERTIFICATE.index("-----BEGIN CERT") :])

    async def source() -> AsyncIterator[Any]:
        yield 1
        if fails:
            raise ValueError("the source")

    async with Secure(streams(source), tmp_path) as it, asyncio.timeout(GUARD_SECONDS):
        reader, writer = await asyncio.open_connection(*it.runner.addresses[0], ssl=trusts, server_hostname="localhost")
        writer.write(handshake("/"))
        await reader.readuntil(b"Internal Server Error" if fails else b"complete; items=1")
        await asyncio.sleep(0.05)
        if how == "goodbye":
            writer.close()
        else:
            if how == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        outcome = await it.outcomes.get()
        writer.transport.abort()
        await asyncio.sleep(0.05)
    kinds = {type(entry.exc_info[1]) for entry in caplog.records if entry.exc_info}
    assert AttributeError not in kinds
    assert outcome.end == ("failed" if fails else "client_gone"), outcome
