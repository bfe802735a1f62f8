"""transports/connect_errors.py: an error that names the server that cannot be reached, and the reason."""

import asyncio
import errno
import os
import socket
import ssl
from pathlib import Path
from typing import NoReturn

import pytest
from aiohttp import ClientConnectionError, ClientError, ClientSession, TCPConnector, abc

from chunkwise.transports.connect_errors import why_no_connection
from tests.flow.producing import GUARD_SECONDS
from tests.transports.tls import CERTIFICATE
from tests.transports.wire import serving


async def refused(
    url: str, connector: TCPConnector | None = None, *, trusts: ssl.SSLContext | bool = True
) -> str | None:
    """Send a request that gets no connection; return the error message."""
    async with asyncio.timeout(GUARD_SECONDS), ClientSession(connector=connector) as session:
        with pytest.raises(ClientError) as caught:
            await session.get(url, ssl=trusts)
    return why_no_connection(caught.value)


async def test_closed_port_gives_the_system_message() -> None:
    async with serving() as port:
        pass
    why = os.strerror(errno.ECONNREFUSED)
    assert await refused(f"http://127.0.0.1:{port}/") == f"cannot connect to 127.0.0.1:{port}: {why}"


class Nowhere(abc.AbstractResolver):
    """A resolver that fails for every name."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    async def resolve(self, *_: object, **__: object) -> NoReturn:
        raise self.error

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "the name is unknown"), OSError("the name is unknown")]
)
async def test_unknown_host_gives_the_resolver_message(error: OSError) -> None:
    """The error number is not one of the operating system, or is missing."""
    connector = TCPConnector(resolver=Nowhere(error))
    assert await refused("http://a.test:80/", connector) == "cannot connect to a.test:80: the name is unknown"


@pytest.mark.parametrize("secure", [False, True], ids=["no TLS", "untrusted"])
async def test_failed_tls_handshake_gives_the_reason(*, secure: bool, tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").write_text(CERTIFICATE)
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(tmp_path / "certificate.pem")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # the response of a server without TLS to a TLS handshake
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=serves if secure else None)
    async with server:
        port = server.sockets[0].getsockname()[1]
        told = await refused(f"https://127.0.0.1:{port}/", trusts=ssl.create_default_context())
    assert told is not None
    assert told.startswith(f"the TLS handshake with 127.0.0.1:{port} failed: ")
    assert ("certificate" in told.lower()) is secure


def test_other_errors_are_not_connect_errors() -> None:
    for error in (ClientConnectionError("it broke"), OSError(errno.ECONNREFUSED, "of a file"), ValueError()):
        assert why_no_connection(error) is None
