"""``chunkwise get``: a stream at a URL -> items on stdout or in a file."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import rich_click as click
from aiohttp import ClientResponse, ClientSession, ClientTimeout, hdrs

from chunkwise.cli.progress import progress
from chunkwise.errors import UnknownFormat
from chunkwise.flow.inbound import Inbound
from chunkwise.formats import FORMATS, by_media_type
from chunkwise.formats.sse import ServerSentEvent
from chunkwise.transports.chunked_client import items

# The formats that prove most and cost least first; whatever else there is will do.
_ACCEPT = "application/json, application/x-ndjson;q=0.9, text/event-stream;q=0.8, text/csv;q=0.7, */*;q=0.1"


async def get(
    url: str,
    path: str,
    output_format: str,
    input_format: str | None,
    output: Path | None,
    headers: Sequence[str],
    idle_seconds: float,
) -> None:
    """Read a stream and write its items as they come; see the command's help."""
    sent = {hdrs.ACCEPT: _ACCEPT, **parse_headers(headers)}
    async with open_session(idle_seconds) as session, session.get(url, headers=sent) as response:
        stream, from_events = _open(response, path, input_format)
        total = response.content_length if hdrs.CONTENT_ENCODING not in response.headers else None
        with _destination(output) as file:
            encoder = FORMATS[output_format].encoder()
            shows = output is None and sys.stdout.isatty()
            counters = (lambda: stream.items_seen, lambda: stream.bytes_seen)
            async with progress(url, *counters, total, data_on_terminal=shows):
                begun = False
                async for batch in stream.batches():
                    values = [_value(event) for event in batch] if from_events else batch
                    # The first bytes wait for the first items: what failed at once has written nothing.
                    file.write((b"" if begun else encoder.start()) + encoder.encode(values))
                    file.flush()
                    begun = True
                file.write((b"" if begun else encoder.start()) + encoder.finish())
                if output_format == "json":
                    file.write(b"\n")
                file.flush()


def _open(response: ClientResponse, path: str, input_format: str | None) -> tuple[Inbound, bool]:
    """Return the items, and whether they are whole events, whose data need not be JSON at other people's servers."""
    try:
        name = input_format or by_media_type(response.headers.get(hdrs.CONTENT_TYPE, "")).name
    except UnknownFormat:
        name = None  # said when the items are read, unless the answer is an error
    if name == "sse" and not path:
        return items(response, format=name, type=ServerSentEvent), True
    return items(response, path, format=name, required=bool(path)), False


def _value(event: ServerSentEvent) -> Any:
    try:
        return msgspec.json.decode(event.data)
    except (msgspec.DecodeError, RecursionError):
        return event.data


@contextmanager
def _destination(output: Path | None) -> Iterator[BinaryIO]:
    """Give stdout, or a file that has its name only when the body has ended well."""
    if output is None:
        yield sys.stdout.buffer
        return
    part = output.with_name(output.name + ".part")
    with part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(output)


@asynccontextmanager
async def open_session(idle_seconds: float) -> AsyncIterator[ClientSession]:
    """Give a session for streams of any length: only silence is limited."""
    timeout = ClientTimeout(total=None, sock_connect=idle_seconds, sock_read=idle_seconds)
    async with ClientSession(timeout=timeout) as session:
        yield session


def parse_headers(headers: Sequence[str]) -> dict[str, str]:
    """Return ``NAME: VALUE`` words as a dict."""
    parsed = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"got {header!r}, expected 'NAME: VALUE'", param_hint="--header")
        parsed[name.strip()] = value.strip()
    return parsed
