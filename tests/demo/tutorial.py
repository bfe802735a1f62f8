"""The responses of the tutorial's routes, byte for byte, and a running demo."""

import os
from contextlib import AbstractContextManager
from typing import NamedTuple

from tests.cli.running import Running, Serving, serving
from tests.transports.websocket_peer import frame

LINES = [f"Chunk {n}\n" for n in range(5)]
USERS = ['{"id":1,"name":"Tom"}', '{"id":2,"name":"Adam"}', '{"id":3,"name":"Sam"}']
MESSAGES = [f"WebSocket message {n}" for n in range(5)]
EVENTS = """\
 start_map None
 map_key items
items start_array None
items.item start_map None
items.item map_key id
items.item.id number 1
items.item end_map None
items.item start_map None
items.item map_key id
items.item.id number 2
items.item end_map None
items.item start_map None
items.item map_key id
items.item.id number 3
items.item end_map None
items end_array None
 end_map None
"""
NESTED = (
    '{"users":[{"id":1,"name":"Tom","roles":["admin","user"]},{"id":2,"name":"Adam","roles":["user"]}],'
    '"settings":{"theme":"dark","notifications":true}}'
)


class Route(NamedTuple):
    """A route and its response in curl.

    Attributes:
        first: the bytes sent with the first item.
        whole: the complete response.
        code: curl's exit code.
        options: options for curl.
    """

    path: str
    first: str | bytes
    whole: str | bytes
    code: int = 0
    options: tuple[str, ...] = ()


# curl upgrades with these headers, prints the frames (RFC 6455 §5), and does not answer them.
UPGRADE = (
    "--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
    "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
FRAMES = [frame(message) for message in MESSAGES]
CLOSE = frame((1000).to_bytes(2) + b"complete; items=5", opcode=8)
SSE = [f"id: {n}\ndata: {user}\n\n" for n, user in enumerate(USERS)]

ROUTES = [
    Route("/chunked", LINES[0], "".join(LINES)),
    Route("/json", f"[{USERS[0]}", f"[{','.join(USERS)}]"),
    Route("/nested", '{"users":[{"id":1,"name":"Tom","roles":[', NESTED),
    Route("/sse", SSE[0], "".join(SSE) + 'id: 3\nevent: end\ndata: {"items": 3}\n\n'),
    Route("/events", " start_map None\n", EVENTS),
    Route("/ws", f"{MESSAGES[0]}\n", "".join(f"{message}\n" for message in MESSAGES)),
    Route("/ws", FRAMES[0], b"".join(FRAMES) + CLOSE, options=UPGRADE),
    Route("/fail", f"[{USERS[0]}", f"[{','.join(USERS[:2])}", code=18),  # "partial file"
]
"""Routes that stream. The others are /non-chunked, /large and /upper."""


def encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def running_demo() -> AbstractContextManager[Serving]:
    """Start `chunkwise demo` on a free port."""
    return serving(command="demo")


def read_exactly(reading: Running, count: int) -> bytes:
    """Read that many bytes of a process's output, or up to its end."""
    received = b""
    while len(received) < count and (data := os.read(reading.stdout.fileno(), count - len(received))):
        received += data
    return received
