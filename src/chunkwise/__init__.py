"""chunkwise: the streaming layer for aiohttp, for servers and clients.

The package has these parts. Each one imports only those above it, and server and client do not import each other:

    errors       the exceptions
    formats      bytes <-> items: one file per format, and the table `FORMATS`
    sources      where items come from: batches, threads, files, SQL
    flow         source -> batches -> bytes, and bytes -> batches -> items; async, without a network
    transports   what server and client share: HTTP bodies, WebSocket messages, headers, compression
    server       a request -> its streamed response: `respond`, `streaming`, `setup`
    client       a URL -> the items of its response: `open_stream`; items -> a request's body: `body`
    testing      tests for your own formats and servers, and a proxy that breaks connections
    demo         a demonstration: a server with a page, and clients
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
