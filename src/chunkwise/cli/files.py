"""A request for a published file -> the file itself, or a stream of its items in any format."""

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
    """A response that is the file itself, or a range of its bytes."""

    def __init__(self, entry: Published) -> None:
        super().__init__(entry.file, headers={hdrs.CONTENT_TYPE: entry.format.content_type, **VARY})
        self.entry = entry

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        headers = request.headers.copy()
        # Accept-Encoding is removed: with it, aiohttp would send FILE.gz or FILE.br instead of FILE, even if that
        # file is not published.
        headers.popall(hdrs.ACCEPT_ENCODING, None)
        # In two cases, Range is removed, so that the whole file is sent. One is an unknown range unit: aiohttp rejects
        # it, but RFC 9110 §14.2 says to ignore it. The other is an If-Range that does not match: aiohttp accepts any
        # later date, and text that is not a date, so a client could mix two versions of the file.
        conditions = headers.popall(hdrs.IF_RANGE, [])
        if not headers.get(hdrs.RANGE, "").startswith("bytes=") or (
            conditions and conditions != [_validator(self.entry.file, conditions[0])]
        ):
            headers.popall(hdrs.RANGE, None)
        return await super().prepare(request.clone(headers=headers))


def _validator(file: Path, condition: str) -> str | None:
    """Return the ETag of the file, or its date if ``condition`` is not an ETag; None if the file cannot be read.

    A range is only sent if the If-Range header has this value (RFC 9110 §13.1.5).
    """
    try:
        status = file.stat()
    except OSError:
        return None
    if condition.startswith('"'):
        return f'"{FileVersion.of(status).etag}"'
    # The time is rounded up, as in the Last-Modified header that aiohttp sends.
    return formatdate(math.ceil(status.st_mtime), usegmt=True)


async def offer_items(_: web.Request, response: web.StreamResponse) -> None:
    """Add ranges of items to the Accept-Ranges header of a file, in which aiohttp has set ranges of bytes."""
    if isinstance(response, _File) and hdrs.ACCEPT_RANGES in response.headers and _restarts(response.entry.format):
        response.headers[hdrs.ACCEPT_RANGES] = f"bytes, {UNIT}"


def _restarts(format: Format) -> bool:
    """Return whether a client can request ranges of a file's items in the file's own format."""
    # A range is sent as a stream of items. A stream of server-sent events has new ids and names, not those of the file,
    # so ranges of such a file are not offered.
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
        # A decoder is made only to check the path: this raises an error if the format does not support it.
        entry.format.decoder(path)
    except (UnknownFormat, TypeError, ValueError) as error:
        return problem_response(400, str(error))
    # The file is not sent if, since the server started, it was deleted or replaced by a link out of its folder.
    if not entry.is_there() or (entry.folder is not None and is_hidden(entry.file, entry.folder)):
        return not_there(request)
    converted = path or limit is not None or interval or is_upgrade(request)
    if wanted is entry.format and not (converted or _asks_for_items(request, wanted)):
        return _File(entry)
    try:
        source = _source(entry, path, limit, interval, wanted)
    except (OSError, ValueError):
        # The file was deleted or replaced after it was checked above.
        return not_there(request)
    # If the client accepts none of the formats, respond() receives all formats, and lists them in its error response.
    return await respond(request, source, wanted or list(FORMATS), headers=VARY)


def not_there(request: web.Request) -> web.Response:
    """Return the 404 response for a path that is not published."""
    return problem_response(404, f"nothing is published at {request.path}; the URL / lists all files and tables")


def _source(entry: Published, path: str, limit: int | None, interval: float, wanted: Format | None) -> Any:
    """Return the items to send. The limit counts from the first item of the file, even if a range starts later."""
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
    """Yield the lines of a text file with their line ends, so that the streamed text equals the file."""
    # A reader of the stream removes one U+FEFF from the start, as a byte order mark. If the text itself begins with
    # this character, the character is therefore sent twice.
    mark = "\ufeff"
    async with aclosing(aiter(source)) as batches:
        async for batch in batches:
            lines = [f"{line}\r\n" if line.endswith("\r") else f"{line}\n" for line in batch]
            if mark and lines[0].startswith(mark):
                lines[0] = mark + lines[0]
            mark = ""
            yield lines
