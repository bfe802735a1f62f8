"""chunkwise: the streaming layer for aiohttp. A stream that ends is whole.

Server and client are apart; both use the same packages. Each package imports only those above it:

    errors       the exception tree
    formats      bytes <-> items; one file per format, one table (`FORMATS`)
    sources      where items start: batches, threads, files, SQL
    flow         source -> batches -> bytes, and bytes -> batches -> items; async, no network
    transports   what server and client share of HTTP and WebSocket
    server       a request -> its streamed response: `respond`, `streaming`, `setup`
    client       a URL -> the items of its response: `open_stream`, and `body`
    testing      checks for formats and servers, and a proxy that breaks connections
    demo         the tutorial: routes, a page, clients
    cli          ``python -m chunkwise``
"""

from chunkwise.client.open_stream import open_stream
from chunkwise.client.stream import Stream
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
from chunkwise.transports.range_headers import ResumePoint
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
    "ResumePoint",
    "StalledError",
    "Stream",
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
