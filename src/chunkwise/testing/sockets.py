"""Plain sockets that are connected to a server, for the ``sock_`` methods of an event loop."""

import asyncio
import socket

BUFFER_BYTES = 65536


async def connect(host: str, port: int) -> socket.socket:
    """Return a non-blocking socket that is connected to the host and port. The caller must close it."""
    loop = asyncio.get_running_loop()
    (family, kind, protocol, _, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(0)
        # With TCP_NODELAY, the kernel sends each piece at once. Otherwise it may join small pieces.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
