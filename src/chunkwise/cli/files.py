"""A request for a published file -> the file itself, or its items as a stream in any format, from any of them on."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from chunkwise.cli.asked import check_names, interval_of, limit_of, paced
from chunkwise.cli.publishing import VARY, Published, is_hidden
from chunkwise.errors import DecodeError, PathNotFound, UnknownFormat
from chunkwise.formats import FORMATS, Format, by_name
from chunkwise.server.respond import respond
from chunkwise.sources.batches import Batches
from chunkwise.sources.files import file_source, read_file
from chunkwise.sources.files.index import FileVersion
from chunkwise.transports.negotiation import negotiate
from chunkwise.transports.problems import problem_response
from chunkwise.transports.range_headers import RANGE_PARAMETER, UNIT
from chunkwise.transports.websocket_handshake import is_upgrade

logger: logging.Logger = logging.getLogger("chunkwise")

_PARAMETERS = {"format", "interval", "limit", "path", RANGE_PARAMETER}
_GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class _File(web.FileResponse):
    """The file itself, for which aiohttp has ranges of bytes."""

    def __init__(self, entry: Published) -> None:
        super().__init__(entry.file, headers={hdrs.CONTENT_TYPE: entry.format.content_type, **VARY})
        self.entry = entry

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        headers = request.headers.copy()
        # aiohttp would send the file's neighbour of one more suffix (.gz, .br), published or not.
        headers.popall(hdrs.ACCEPT_ENCODING, None)
        # It refuses a unit that it does not know, which RFC 9110 §14.2 passes over, and as a condition it takes any
        # later date, and what is none: the rest of another version would make a mixture.
        conditions = headers.popall(hdrs.IF_RANGE, [])
        if not headers.get(hdrs.RANGE, "").startswith("bytes=") or (
            conditions and conditions != [_validator(self.entry.file, conditions[0])]
        ):
            headers.popall(hdrs.RANGE, None)
        return await super().prepare(request.clone(headers=headers))


def _validator(file: Path, condition: str) -> str | None:
    """Return what a condition must be for the file to be the one that it is about (RFC 9110 §13.1.5)."""
    try:
        status = file.stat()
    except OSError:
        return None
    if condition.startswith('"'):
        return f'"{FileVersion.of(status).etag}"'
    return formatdate(math.ceil(status.st_mtime), usegmt=True)  # as aiohttp says Last-Modified


async def offer_items(_: web.Request, response: web.StreamResponse) -> None:
    """Say that a file is to be had from any item on as well: aiohttp sets the header itself, just before this."""
    if isinstance(response, _File) and hdrs.ACCEPT_RANGES in response.headers and _restarts(response.entry.format):
        response.headers[hdrs.ACCEPT_RANGES] = f"bytes, {UNIT}"


def _restarts(format: Format) -> bool:
    """Whether a file may go on as a stream of its items in its own format."""
    # Events have ids and names of their own, which items are without.
    return not format.event_ids


def _asks_for_items(request: web.Request, format: Format) -> bool:
    asked = RANGE_PARAMETER in request.query or request.headers.get(hdrs.RANGE, "").startswith(f"{UNIT}=")
    return asked and _restarts(format)


async def answer_with_file(request: web.Request, entry: Published) -> web.StreamResponse:
    """Answer with the file as it is, if that is what is wanted, or with a stream of its items."""
    query = request.query
    try:
        check_names(query, _PARAMETERS)
        formats = [entry.format, *(row for row in FORMATS.values() if row is not entry.format)]
        wanted = (
            by_name(query["format"])
            if "format" in query
            else negotiate(request.headers.getall(hdrs.ACCEPT, []), formats)
        )
        path, limit, interval = query.get("path", ""), limit_of(query), interval_of(query)
        entry.format.decoder(path)
    except (UnknownFormat, TypeError, ValueError) as error:
        return problem_response(400, str(error))
    # It may have gone since, or a link have taken its place.
    if not entry.is_there() or (entry.folder is not None and is_hidden(entry.file, entry.folder)):
        return _not_there(request)
    converted = path or limit is not None or interval or is_upgrade(request)
    if wanted is entry.format and not (converted or _asks_for_items(request, wanted)):
        return _File(entry)
    try:
        source = _source(entry, path, limit, interval, wanted)
    except (OSError, ValueError):  # nor can it be looked at
        return _not_there(request)
    # Without a format the client accepts none: respond() says which there are.
    return await respond(request, source, wanted or list(FORMATS), headers=VARY)


def _not_there(request: web.Request) -> web.Response:
    return problem_response(404, f"there is no {request.path}; / lists what there is")


def _source(entry: Published, path: str, limit: int | None, interval: float, wanted: Format | None) -> Any:
    """Return the items of a file as they are to be sent; the limit counts from its first item, also for the rest."""
    options: Any = {"required": bool(path), "max_items": limit}
    text = wanted is not None and wanted.plain_messages

    def sent(batches: Batches) -> Any:
        batches = Batches(_told(batches))
        if text and entry.format is wanted:
            batches = Batches(_lines(batches))
        return paced(batches, interval) if interval else batches

    if not entry.regular:
        return sent(read_file(entry.file, entry.format, path, **options))
    whole = file_source(entry.file, entry.format, path, **options)
    return replace(whole, factory=lambda start: sent(whole.start(start)), lines=entry.format.plain_messages)


async def _told(source: Batches) -> AsyncIterator[list[Any]]:
    """Give a file's batches, its errors as answers that say what is wrong with it."""
    try:
        async with aclosing(aiter(source)) as batches:
            async for batch in batches:
                yield batch
    except PathNotFound as error:
        raise web.HTTPNotFound(text=str(error)) from error
    except _GONE as error:
        raise web.HTTPNotFound(text="the file has gone") from error
    except (DecodeError, OSError) as error:
        raise web.HTTPInternalServerError(text=_unreadable(error)) from error


def _unreadable(error: Exception) -> str:
    """Return what to tell a client: not where the file is."""
    return f"the file cannot be read: {(error.strerror if isinstance(error, OSError) else None) or error}"


async def _lines(source: Batches) -> AsyncIterator[list[str]]:
    """Give a text's lines with their ends again: as text they come back as what they were, whichever is the first."""
    mark = "\ufeff"  # of byte order, at the start of a stream only, where a reader takes one off
    async with aclosing(aiter(source)) as batches:
        async for batch in batches:
            lines = [f"{line}\r\n" if line.endswith("\r") else f"{line}\n" for line in batch]
            if mark and lines[0].startswith(mark):
                lines[0] = mark + lines[0]
            mark = ""
            yield lines
