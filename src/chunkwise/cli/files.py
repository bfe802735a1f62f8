"""A request for a published file -> the file itself, or a stream of its items in any format, from any item on."""

import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from chunkwise import Batches, UnknownFormat, respond
from chunkwise.cli.asked import PARAMETERS, VARY, asked_by, paced
from chunkwise.cli.failures import with_http_errors
from chunkwise.cli.publishing import Published, is_hidden
from chunkwise.formats import FORMATS, Format
from chunkwise.sources.files import file_source, read_file
from chunkwise.sources.files.index import FileVersion
from chunkwise.transports.problems import problem_response
from chunkwise.transports.range_headers import RANGE_PARAMETER, UNIT
from chunkwise.transports.websocket_handshake import is_upgrade


class _File(web.FileResponse):
    """The file itself; aiohttp sends ranges of its bytes."""

    def __init__(self, entry: Published) -> None:
        super().__init__(entry.file, headers={hdrs.CONTENT_TYPE: entry.format.content_type, **VARY})
        self.entry = entry

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        headers = request.headers.copy()
        # aiohttp would send a file with one more suffix (.gz, .br), whether that is published or not.
        headers.popall(hdrs.ACCEPT_ENCODING, None)
        # aiohttp refuses an unknown range unit, which RFC 9110 §14.2 ignores. As If-Range it accepts any later date and
        # text that is not a date, so that a client could mix two versions of the file.
        conditions = headers.popall(hdrs.IF_RANGE, [])
        if not headers.get(hdrs.RANGE, "").startswith("bytes=") or (
            conditions and conditions != [_validator(self.entry.file, conditions[0])]
        ):
            headers.popall(hdrs.RANGE, None)
        return await super().prepare(request.clone(headers=headers))


def _validator(file: Path, condition: str) -> str | None:
    """Return the value that an If-Range header must have for this version of the file (RFC 9110 §13.1.5)."""
    try:
        status = file.stat()
    except OSError:
        return None
    if condition.startswith('"'):
        return f'"{FileVersion.of(status).etag}"'
    return formatdate(math.ceil(status.st_mtime), usegmt=True)  # as aiohttp sends Last-Modified


async def offer_items(_: web.Request, response: web.StreamResponse) -> None:
    """Add ranges of items to a file's Accept-Ranges header, which aiohttp sets just before this."""
    if isinstance(response, _File) and hdrs.ACCEPT_RANGES in response.headers and _restarts(response.entry.format):
        response.headers[hdrs.ACCEPT_RANGES] = f"bytes, {UNIT}"


def _restarts(format: Format) -> bool:
    """Whether a file can be resumed as a stream of its items in its own format."""
    # The events of a file have ids and names, which its items do not have.
    return not format.event_ids


def _asks_for_items(request: web.Request, format: Format) -> bool:
    asked = RANGE_PARAMETER in request.query or request.headers.get(hdrs.RANGE, "").startswith(f"{UNIT}=")
    return asked and _restarts(format)


async def respond_with_file(request: web.Request, entry: Published) -> web.StreamResponse:
    """Respond with the file itself if the request asks for nothing else, or with a stream of its items."""
    path = request.query.get("path", "")
    formats = [entry.format, *(row for row in FORMATS.values() if row is not entry.format)]
    try:
        wanted, limit, interval = asked_by(request, PARAMETERS | {"path"}, formats)
        entry.format.decoder(path)  # raises for a path that the format does not have
    except (UnknownFormat, TypeError, ValueError) as error:
        return problem_response(400, str(error))
    # It may have been deleted since, or replaced by a link.
    if not entry.is_there() or (entry.folder is not None and is_hidden(entry.file, entry.folder)):
        return not_there(request)
    converted = path or limit is not None or interval or is_upgrade(request)
    if wanted is entry.format and not (converted or _asks_for_items(request, wanted)):
        return _File(entry)
    try:
        source = _source(entry, path, limit, interval, wanted)
    except (OSError, ValueError):  # deleted or replaced just now
        return not_there(request)
    # If the client accepts none of the formats, respond() lists them in its error.
    return await respond(request, source, wanted or list(FORMATS), headers=VARY)


def not_there(request: web.Request) -> web.Response:
    """Return the 404 response for a path that is not published."""
    return problem_response(404, f"there is no {request.path}; / lists what there is")


def _source(entry: Published, path: str, limit: int | None, interval: float, wanted: Format | None) -> Any:
    """Return the items of a file as they are sent; the limit counts from the file's first item, also for a range."""
    options: Any = {"required": bool(path), "max_items": limit}
    text = wanted is not None and wanted.plain_messages

    def sent(batches: Batches) -> Any:
        batches = Batches(with_http_errors(batches))
        if text and entry.format is wanted:
            batches = Batches(_lines(batches))
        return paced(batches, interval) if interval else batches

    if not entry.regular:
        return sent(read_file(entry.file, entry.format, path, **options))
    whole = file_source(entry.file, entry.format, path, **options)
    return replace(whole, factory=lambda start: sent(whole.start(start)), lines=entry.format.plain_messages)


async def _lines(source: Batches) -> AsyncIterator[list[str]]:
    """Yield a text's lines with their line ends, so that a stream of text equals the file, from any line on."""
    mark = "\ufeff"  # a byte order mark: readers remove one at the start of a stream
    async with aclosing(aiter(source)) as batches:
        async for batch in batches:
            lines = [f"{line}\r\n" if line.endswith("\r") else f"{line}\n" for line in batch]
            if mark and lines[0].startswith(mark):
                lines[0] = mark + lines[0]
            mark = ""
            yield lines
