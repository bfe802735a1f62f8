"""``chunkwise get``: a stream at a URL -> items on stdout or in a file."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import rich_click as click
from aiohttp import ClientResponse, ClientSession, hdrs

from chunkwise.cli.exits import one_line
from chunkwise.cli.partial_file import PartialFile, Tracked
from chunkwise.cli.progress import progress
from chunkwise.client.answer import Answer
from chunkwise.client.http import open_response, stream_of
from chunkwise.client.open_stream import is_websocket
from chunkwise.client.reconnecting import Connect, Policy, open_resuming
from chunkwise.client.resume_point import asks_for_part
from chunkwise.client.stream import Stream
from chunkwise.client.websocket import open_websocket_stream
from chunkwise.errors import StreamError, UnknownFormat
from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMAT_HINT, FORMATS, by_media_type, by_suffix
from chunkwise.formats.contract import DEFAULT_LIMITS
from chunkwise.formats.sse import ServerSentEvent, value_of
from chunkwise.sources.batches import Batches
from chunkwise.transports.websocket_messages import is_plain, line_decoder

_POLICY = Policy(max_reconnects=10, max_reconnect_seconds=300.0, restart=False)


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
    request = {
        "URL": url,
        "--path": path,
        "--format": output_format,
        "--from": input_format,
        "--header": sorted(headers),
    }
    own = parse_headers(headers)
    goes_on = not asks_for_part(own, url)
    # The rest is asked for by a number of records, in each of which a path selects as many items as it likes.
    partial = _partial(output, request, resumes=goes_on and not path)
    with partial.locked() if partial is not None else nullcontext():
        async with ClientSession() as session:
            connect = _asking(session, url, path, input_format, own, idle_seconds)
            await _write(connect, url, path, output_format, output, partial, goes_on=goes_on)


async def _write(
    connect: Connect,
    url: str,
    path: str,
    output_format: str,
    output: Path | None,
    partial: PartialFile | None,
    *,
    goes_on: bool,
) -> None:
    """Write the items of what a request brings, or of the rest."""
    position = partial.position if partial is not None else None
    begun = position.items if position is not None else 0
    encoder = FORMATS[output_format].encoder()
    if partial is not None and position is not None:
        print(f"chunkwise: going on behind the {begun:,} items of {partial.name}", file=sys.stderr)
        encoder = partial.goes_on(encoder)
    opened: AbstractAsyncContextManager[Stream]
    opened = open_resuming(connect, path, _POLICY, position, _tell_break) if goes_on else connect({})
    with partial.explained() if partial is not None else nullcontext():
        async with opened as stream:
            tracked = Tracked(_values(stream), begun)
            written = Outbound(Batches(tracked.lists()), encoder)
            shows = output is None and sys.stdout.isatty()
            counters = (lambda: stream.items_seen, lambda: stream.bytes_seen)
            if partial is not None and partial.why_again is not None:
                print(f"chunkwise: beginning again: {partial.why_again}", file=sys.stderr)
            with partial.opened() if partial is not None else _destination(output) as file:
                async with (
                    progress(url, *counters, _total_bytes(stream), data_on_terminal=shows),
                    aclosing(written.pieces()) as pieces,
                ):
                    async for data in pieces:
                        file.write(data)
                        file.flush()
                        if partial is not None and not written.complete:
                            partial.note(file.tell(), tracked.position(begun + written.items_sent, stream.start))
                    if output_format == "json":
                        file.write(b"\n")
                        file.flush()
    if stream.end == "unknown":
        print("chunkwise: the connection just closed: nothing proves that these are all items", file=sys.stderr)


def _tell_break(error: StreamError) -> None:
    print(f"chunkwise: {one_line(error)}; trying again", file=sys.stderr)


def _asking(
    session: ClientSession, url: str, path: str, input_format: str | None, own: Mapping[str, str], idle_seconds: float
) -> Connect:
    """Return what requests the URL, or the rest of what is there."""
    if is_websocket(url):
        make_decoder = line_decoder(path, type=Any, required=bool(path), limits=DEFAULT_LIMITS)
        return lambda more: open_websocket_stream(
            session,
            url,
            {**own, **more},
            None,
            make_decoder,
            None,
            plain=is_plain(input_format),
            idle_seconds=idle_seconds,
            max_item_bytes=DEFAULT_LIMITS.max_item_bytes,
        )

    @asynccontextmanager
    async def connect(more: Mapping[str, str]) -> AsyncIterator[Answer]:
        headers = {**own, **more}
        async with open_response(session, hdrs.METH_GET, url, idle_seconds=idle_seconds, headers=headers) as response:
            yield _open(response, path, input_format)

    return connect


def _total_bytes(stream: Stream) -> int | None:
    """Return how many bytes will come, if that is known."""
    over = stream.over
    if not isinstance(over, ClientResponse) or hdrs.CONTENT_ENCODING in over.headers:
        return None
    return over.content_length


def _open(response: ClientResponse, path: str, input_format: str | None) -> Answer:
    """Return the items, or whole events, whose data need not be JSON at other people's servers."""
    name = input_format
    if name is None and response.status not in (204, 205, 304):
        name = _format_of(response)
    if name == "sse" and not path:
        return stream_of(response, format=name, type=ServerSentEvent)
    try:
        FORMATS[name or "json"].decoder(path)
    except TypeError as error:
        raise click.BadParameter(str(error), param_hint="--path") from None
    return stream_of(response, path, format=name, required=bool(path))


def _format_of(response: ClientResponse) -> str:
    """Return the format that an answer's type names, or its URL where the type says nothing."""
    try:
        return by_media_type(response.headers.get(hdrs.CONTENT_TYPE, "")).name
    except UnknownFormat as error:
        if response.content_type == "application/octet-stream":  # also if there is none
            with suppress(UnknownFormat):
                return by_suffix(response.url.name).name
        raise UnknownFormat(error.message.replace(FORMAT_HINT, "name the format with --from")) from None


async def _values(stream: Stream) -> AsyncIterator[list[Any]]:
    async for batch in stream.batches():
        yield [value_of(item) for item in batch] if isinstance(batch[0], ServerSentEvent) else batch


def _partial(output: Path | None, request: Mapping[str, object], *, resumes: bool) -> PartialFile | None:
    """Return the file that has its name only when it is whole; a device or a pipe has no name to wait for."""
    if output is None or (output.exists() and not output.is_file()):
        return None
    return PartialFile(output.resolve(), request, resumes=resumes)  # of a link, what it points to


@contextmanager
def _destination(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        return
    with output.open("wb") as file:
        yield file


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
