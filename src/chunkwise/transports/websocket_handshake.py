"""A request -> whether it opens a WebSocket, and whether the page that sent it may (RFC 6455 §4.2, §10.2)."""

import re
from collections.abc import Sequence

from aiohttp import hdrs, web
from aiohttp.typedefs import StrOrURL

from chunkwise.formats.messages import SUBPROTOCOL


def is_upgrade(request: web.BaseRequest) -> bool:
    """Whether a request is a valid handshake of a WebSocket."""
    asked = request.headers.get(hdrs.UPGRADE, "").strip().lower() == "websocket"
    if not asked or request.method != hdrs.METH_GET or request.version < (1, 1):  # RFC 6455 §4.2.1
        return False
    try:
        return bool(web.WebSocketResponse(protocols=[SUBPROTOCOL]).can_prepare(request))
    except ValueError:  # a key that is not ASCII
        return False


def check_origins(origins: Sequence[str]) -> None:
    """Refuse origins that no browser sends: TypeError for a string where a list is meant, otherwise ValueError."""
    if isinstance(origins, str):
        raise TypeError(f"origins: got {origins!r}, expected a list such as [{origins!r}]")
    for origin in origins:
        if origin not in ("*", "null") and re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin) is None:
            raise ValueError(f"origins: got {origin!r}, expected one such as 'https://example.com', without a path")


def may_open(request: web.BaseRequest, origins: Sequence[str]) -> bool:
    """Whether the page that opens a WebSocket may do so; clients other than browsers always may.

    A browser lets any page open one, sends the user's cookies along, and says which page it is (RFC 6455 §10.2).
    """
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or "*" in origins or origin in origins:
        return True
    # The scheme is not compared: a proxy may have removed TLS.
    return origin.partition("://")[2].lower() == request.host.lower()


def is_websocket_url(url: StrOrURL) -> bool:
    """Whether a URL opens a WebSocket: its scheme is ``ws`` or ``wss``."""
    return str(url).lower().startswith(("ws:", "wss:"))
