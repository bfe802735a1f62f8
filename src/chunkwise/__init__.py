"""chunkwise: the streaming layer for aiohttp. A stream that ends is whole.

The house, in the order in which data meets its rooms; each imports only what stands above it here:

    errors       the tree of errors
    formats      bytes <-> items; pure, one file a format, one table (`FORMATS`)
    sources      where items start: lists of them, threads, files, SQL
    flow         source -> batches -> bytes, and bytes -> batches -> items; async, no network
    transports   HTTP and WebSocket, server and client; the only room that imports aiohttp
    demo         the tutorial: routes, a page, clients
    cli          ``python -m chunkwise``
"""

from __future__ import annotations

from chunkwise.client.open_stream import open_stream
from chunkwise.client.upload import body
from chunkwise.errors import (
    DecodeError,
    EncodeError,
    LimitError,
    PathNotFound,
    RemoteError,
    StalledError,
    StreamError,
    TruncatedError,
    UnknownFormat,
)
from chunkwise.formats import FORMATS
from chunkwise.server.lifecycle import Outcome, setup
from chunkwise.server.respond import respond, streaming
from chunkwise.sources.batches import Batches
from chunkwise.sources.resumable import resumable
from chunkwise.transports.reading import events, items, text

__all__ = [
    "FORMATS",
    "Batches",
    "DecodeError",
    "EncodeError",
    "LimitError",
    "Outcome",
    "PathNotFound",
    "RemoteError",
    "StalledError",
    "StreamError",
    "TruncatedError",
    "UnknownFormat",
    "body",
    "events",
    "items",
    "open_stream",
    "respond",
    "resumable",
    "setup",
    "streaming",
    "text",
]
