"""A host and a port -> a connected plain socket for an event loop's ``sock_`` methods."""

import asyncio
import socket

BUFFER_BYTES = 65536


async def connect(host: str, port: int) -> socket.socket:
    """Return a connected socket, which the caller closes."""
    loop = asyncio.get_running_loop()
    (family, kind, protocol, _, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # without it, the kernel may join small pieces
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
