"""A request -> whether it opens a WebSocket, and whether its Origin header allows this (RFC 6455 §4.2, §10.2)."""

import re
from collections.abc import Sequence

from aiohttp import hdrs, web
from aiohttp.typedefs import StrOrURL

from chunkwise.formats.messages import SUBPROTOCOL


def is_upgrade(request: web.BaseRequest) -> bool:
    """Whether a request is a valid WebSocket handshake."""
    asked = request.headers.get(hdrs.UPGRADE, "").strip().lower() == "websocket"
    # RFC 6455 §4.2.1 requires the method GET and at least HTTP/1.1.
    if not asked or request.method != hdrs.METH_GET or request.version < (1, 1):
        return False
    try:
        return bool(web.WebSocketResponse(protocols=[SUBPROTOCOL]).can_prepare(request))
    except ValueError:  # aiohttp raises ValueError if Sec-WebSocket-Key is not ASCII: the handshake is invalid
        return False


def check_origins(origins: Sequence[str]) -> None:
    """Check the ``origins`` argument; raise TypeError for a string, ValueError for an origin that no browser sends."""
    if isinstance(origins, str):
        raise TypeError(f"origins: got {origins!r}, expected a list such as [{origins!r}]")
    for origin in origins:
        if origin not in ("*", "null") and re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin) is None:
            raise ValueError(f"origins: got {origin!r}, expected one such as 'https://example.com', without a path")


def may_open(request: web.BaseRequest, origins: Sequence[str]) -> bool:
    """Whether the page that sent a WebSocket handshake is allowed to open it; clients other than browsers always are.

    Browsers let any page open a WebSocket to any server, and send the user's cookies. The Origin header names the
    origin of the page (RFC 6455 §10.2).
    """
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or "*" in origins or origin in origins:
        return True
    # Only the hosts are compared: behind a proxy that ends TLS, the request of an https page arrives over http.
    return origin.partition("://")[2].lower() == request.host.lower()


def is_websocket_url(url: StrOrURL) -> bool:
    """Whether the scheme of a URL is ``ws`` or ``wss``."""
    return str(url).lower().startswith(("ws:", "wss:"))
