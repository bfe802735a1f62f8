"""``chunkwise get``: a stream at a URL -> items on stdout or in a file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import rich_click as click
from aiohttp import ClientResponse, ClientSession, hdrs

from chunkwise.cli.progress import progress
from chunkwise.errors import UnknownFormat
from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS, by_media_type, by_suffix
from chunkwise.formats.sse import ServerSentEvent
from chunkwise.sources.batches import Batches
from chunkwise.transports.http_client import open_response, stream_of
from chunkwise.transports.opening import is_websocket, open_stream
from chunkwise.transports.stream import Stream


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
    async with ClientSession() as session, _opened(session, url, path, input_format, headers, idle_seconds) as opened:
        stream, batches, total = opened
        with _destination(output) as file:
            source = Batches(batches)
            written = Outbound(source, FORMATS[output_format].encoder())
            shows = output is None and sys.stdout.isatty()
            counters = (lambda: stream.items_seen, lambda: stream.bytes_seen)
            async with progress(url, *counters, total, data_on_terminal=shows), aclosing(written.pieces()) as pieces:
                async for data in pieces:
                    file.write(data)
                    file.flush()
                if output_format == "json":
                    file.write(b"\n")
                    file.flush()
        if stream.end == "unknown":
            print("chunkwise: the connection just closed: nothing proves that these are all items", file=sys.stderr)


@asynccontextmanager
async def _opened(
    session: ClientSession,
    url: str,
    path: str,
    input_format: str | None,
    headers: Sequence[str],
    idle_seconds: float,
) -> AsyncIterator[tuple[Stream, AsyncIterator[list[Any]], int | None]]:
    """Request the URL; give its stream, the batches of its items, and how many bytes they are, if that is known."""
    asked = parse_headers(headers)
    if is_websocket(url):
        wanted = bool(path)
        opened = open_stream(
            session, url, path, format=input_format, required=wanted, headers=asked, idle_seconds=idle_seconds
        )
        async with opened as stream:
            yield stream, stream.batches(), None
        return
    async with open_response(session, hdrs.METH_GET, url, idle_seconds=idle_seconds, headers=asked) as response:
        stream, from_events = _open(response, path, input_format)
        total = response.content_length if hdrs.CONTENT_ENCODING not in response.headers else None
        yield stream, _values(stream) if from_events else stream.batches(), total


def _open(response: ClientResponse, path: str, input_format: str | None) -> tuple[Stream, bool]:
    """Return the items, and whether they are whole events, whose data need not be JSON at other people's servers."""
    name = input_format
    if name is None and response.status not in (204, 205, 304):
        name = _format_of(response)
    if name == "sse" and not path:
        return stream_of(response, format=name, type=ServerSentEvent), True
    try:
        FORMATS[name or "json"].decoder(path)
    except TypeError as error:
        raise click.BadParameter(str(error), param_hint="--path") from None
    return stream_of(response, path, format=name, required=bool(path)), False


def _format_of(response: ClientResponse) -> str:
    """Return the format that an answer's type names, or its URL where the type says nothing."""
    try:
        return by_media_type(response.headers.get(hdrs.CONTENT_TYPE, "")).name
    except UnknownFormat as error:
        if response.content_type == "application/octet-stream":  # also if there is none
            with suppress(UnknownFormat):
                return by_suffix(response.url.name).name
        raise UnknownFormat(error.message.replace("format=", "--from")) from None


async def _values(events: Stream) -> AsyncIterator[list[Any]]:
    async for batch in events.batches():
        yield [_value(event) for event in batch]


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
    output = output.resolve()  # of a link, what it points to
    if output.exists() and not output.is_file():
        with output.open("wb") as file:  # a device or a pipe: there is no name to wait for
            yield file
        return
    part = output.with_name(output.name + ".part")
    with part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(output)


def is_token(text: str) -> bool:
    """Whether the text may be a method's or a field's name (RFC 9110 §5.6.2)."""
    return re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text) is not None


def parse_headers(headers: Sequence[str]) -> dict[str, str]:
    """Return ``NAME: VALUE`` words as a dict."""
    parsed = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not (colon and is_token(name.strip()) and value.isprintable()):
            raise click.BadParameter(f"got {header!r}, expected 'NAME: VALUE'", param_hint="--header")
        parsed[name.strip()] = value.strip()
    return parsed
