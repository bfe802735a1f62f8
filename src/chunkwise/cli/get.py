"""``chunkwise get``: a stream at a URL -> its items on stdout or in a file."""

import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import rich_click as click
from aiohttp import ClientResponse, ClientSession, hdrs

from chunkwise import Batches, Stream, open_stream
from chunkwise.cli.exits import one_line
from chunkwise.cli.partial_file import PartialFile, Tracked
from chunkwise.cli.progress import progress
from chunkwise.errors import StreamError, UnknownFormat
from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMAT_HINT, FORMATS, Decoder, Format, by_media_type, by_suffix
from chunkwise.formats.paths import PathLike
from chunkwise.formats.sse import ServerSentEvent, value_of
from chunkwise.transports.range_headers import asks_for_range
from chunkwise.transports.websocket_handshake import is_websocket_url

OUTPUT_FORMATS = ("ndjson", "json", "csv")
"""The names of the formats that ``get`` writes."""


async def get(
    url: str,
    path: str,
    output_format: str | None,
    input_format: str | None,
    output: Path | None,
    headers: Sequence[str],
    idle_seconds: float,
) -> None:
    """Read a stream and write its items as they arrive; see the command's help."""
    output_format = output_format or _format_of_file(output)
    request = {
        "URL": url,
        "--path": path,
        "--format": output_format,
        "--from": input_format,
        "--header": sorted(headers),
    }
    own_headers = parse_headers(headers)
    # To resume, a client must know how many records it has received. With a path, it only knows the number of
    # items, because the path may select any number of items in a record.
    partial = _partial(output, request, resumes=not path and not asks_for_range(own_headers, url))
    with partial.locked() if partial is not None else nullcontext():
        point = partial.position if partial is not None else None
        if partial is not None and point is not None:
            print(f"chunkwise: continuing after the {point.items:,} items in {partial.name}", file=sys.stderr)
        async with ClientSession() as session:
            opened = open_stream(
                session,
                url,
                path,
                headers=own_headers,
                format=input_format if is_websocket_url(url) else _chooser(path, input_format),
                required=bool(path),
                idle_seconds=idle_seconds,
                max_reconnects=10,
                resume_from=point,
                on_reconnect=_report_disconnect,
            )
            with partial.explained() if partial is not None else nullcontext():
                async with opened as stream:
                    await _write(stream, url, output_format, output, partial)
    if stream.end == "unknown":
        print("chunkwise: the server closed the connection without an end mark: items may be missing", file=sys.stderr)


async def _write(
    stream: Stream, url: str, output_format: str, output: Path | None, partial: PartialFile | None
) -> None:
    """Write the items of a stream to stdout, to the partial file, or to a device or pipe."""
    encoder, first = FORMATS[output_format].encoder(), 0
    if partial is not None and partial.position is not None:
        encoder, first = partial.goes_on(encoder), partial.position.items
    tracked = Tracked(_values(stream), first)
    written = Outbound(Batches(tracked.lists()), encoder)
    shows = output is None and sys.stdout.isatty()
    counters = (lambda: stream.items_seen, lambda: stream.bytes_seen)
    if partial is not None and partial.why_again is not None:
        print(f"chunkwise: starting from the first item: {partial.why_again}", file=sys.stderr)
    with partial.opened() if partial is not None else _destination(output) as file:
        async with (
            progress(url, *counters, _total_bytes(stream), data_on_terminal=shows),
            aclosing(written.pieces()) as pieces,
        ):
            async for data in pieces:
                file.write(data)
                file.flush()
                if partial is not None and not written.complete:
                    partial.note(file.tell(), tracked.position(first + written.items_sent, stream.resume_point))
            if output_format == "json":
                file.write(b"\n")
                file.flush()


def _format_of_file(output: Path | None) -> str:
    """Return the name of the output format that belongs to a file's suffix, or NDJSON."""
    with suppress(UnknownFormat):
        if output is not None and (name := by_suffix(output.name).name) in OUTPUT_FORMATS:
            return name
    return "ndjson"


def _report_disconnect(error: StreamError) -> None:
    print(f"chunkwise: {one_line(error)}; connecting again", file=sys.stderr)


def _total_bytes(stream: Stream) -> int | None:
    """Return the size of the whole response in bytes, or None if it is unknown."""
    over = stream.over
    if not isinstance(over, ClientResponse) or hdrs.CONTENT_ENCODING in over.headers:
        return None
    return over.content_length


def _chooser(path: str, input_format: str | None) -> Callable[[ClientResponse], Format]:
    """Return a function that finds the format of a response by ``--from``, its content type or its URL's suffix."""

    def choose(response: ClientResponse) -> Format:
        chosen = FORMATS[input_format] if input_format else _format_of(response)
        if chosen.name == "sse" and not path:
            return replace(chosen, decoder=_whole_events)
        try:
            chosen.decoder(path)
        except TypeError as error:
            raise click.BadParameter(str(error), param_hint="--path") from None
        return chosen

    return choose


def _format_of(response: ClientResponse) -> Format:
    try:
        return by_media_type(response.headers.get(hdrs.CONTENT_TYPE, ""))
    except UnknownFormat as error:
        # aiohttp also reports application/octet-stream if the response has no Content-Type. The suffix of the URL may
        # show the format.
        if response.content_type == "application/octet-stream":
            with suppress(UnknownFormat):
                return by_suffix(response.url.name)
        raise UnknownFormat(error.message.replace(FORMAT_HINT, "name the format with --from")) from None


def _whole_events(path: PathLike = "", **options: Any) -> Decoder:
    """Return a decoder whose items are `ServerSentEvent` objects, because the data of an event may not be JSON."""
    return FORMATS["sse"].decoder(path, **{**options, "type": ServerSentEvent})


async def _values(stream: Stream) -> AsyncIterator[list[Any]]:
    async for batch in stream.batches():
        yield [value_of(item) for item in batch] if isinstance(batch[0], ServerSentEvent) else batch


def _partial(output: Path | None, request: Mapping[str, object], *, resumes: bool) -> PartialFile | None:
    """Return the partial file for ``output``, or None if the output is stdout, a device or a pipe."""
    if output is None or (output.exists() and not output.is_file()):
        return None
    # If the output is a symbolic link, the download replaces the file that it points to, not the link.
    return PartialFile(output.resolve(), request, resumes=resumes)


@contextmanager
def _destination(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        return
    with output.open("wb") as file:
        yield file


def is_token(text: str) -> bool:
    """Return whether a text is allowed as the name of a method or a header (RFC 9110 §5.6.2)."""
    return re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text) is not None


def parse_headers(headers: Sequence[str]) -> dict[str, str]:
    """Return the headers, each given as ``NAME: VALUE``, as a dict."""
    parsed = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not (colon and is_token(name.strip()) and value.isprintable()):
            raise click.BadParameter(f"expected 'NAME: VALUE', got {header!r}", param_hint="--header")
        parsed[name.strip()] = value.strip()
    return parsed
