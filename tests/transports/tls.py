"""A handler -> a server over TLS with a certificate of its own, and the outcomes of its streams."""

import asyncio
import ssl
from pathlib import Path
from typing import Self

from aiohttp import web

import chunkwise
from chunkwise import Outcome
from tests.transports.wire import Handler

# A certificate for "localhost", until 2126, made with openssl for this file.
CERTIFICATE = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEINnd0W/5/IoBpIIFlMWKY4xfzUh+EgnTqH+jEJ/3Eic1oAoGCCqGSM49
AwEHoUQDQgAE8qNQTA/plIWpsJ7QOPKAjxgmq2JPo9a+2MD788Yg5ETeEqInkR4u
Tb5IL/ZugGE9Q+zOTFRUylQ6e6uE3su8vQ==
-----END EC PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUQMjClny7vCDtjsvdqr4YrFId88owCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzE5MTk1N1oYDzIxMjYxMDMw
MTkxOTU3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATyo1BMD+mUhamwntA48oCPGCarYk+j1r7YwPvzxiDkRN4SoieRHi5N
vkgv9m6AYT1D7M5MVFTKVDp7q4Tey7y9o1MwUTAdBgNVHQ4EFgQUIDdlvnPeYbjz
RZJLsr7LODqUe8EwHwYDVR0jBBgwFoAUIDdlvnPeYbjzRZJLsr7LODqUe8EwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAr930ITjmRcFSCqGKOc11
T6Kg/jegZ7mphuOAamMSXAQCIQCEwDeSe1FLx5HLBl3HnUFFi16KmC49vZE/cTRs
YY4EhA==
-----END CERTIFICATE-----
"""


class Secure:
    """A server over TLS, and the outcomes of its streams."""

    def __init__(self, handler: Handler, folder: Path) -> None:
        self.outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        app = web.Application()
        app.router.add_get("/", handler)
        chunkwise.setup(app, grace_seconds=0, on_outcome=lambda _, outcome: self.outcomes.put_nowait(outcome))
        self.runner = web.AppRunner(app, shutdown_timeout=0.05)
        self._file = folder / "certificate.pem"

    async def __aenter__(self) -> Self:
        self._file.write_text(CERTIFICATE)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self._file)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=server).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        client = ssl.create_default_context(cadata=CERTIFICATE[CERTIFICATE.index("-----BEGIN CERT") :])
        return await asyncio.open_connection(*self.runner.addresses[0], ssl=client, server_hostname="localhost")
