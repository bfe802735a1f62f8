"""``chunkwise serve``: published files -> routes that stream them in any format."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from chunkwise.cli.listening import listen, program
from chunkwise.cli.publishing import VARY, Published, find_files, index_page, is_hidden, url_of
from chunkwise.errors import DecodeError, PathNotFound, UnknownFormat
from chunkwise.formats import FORMATS, Format, by_name
from chunkwise.sources.batches import Batches
from chunkwise.sources.file_index import FileVersion
from chunkwise.sources.files import file_source, read_file
from chunkwise.transports.negotiation import negotiate
from chunkwise.transports.outcomes import setup
from chunkwise.transports.problems import problem_response
from chunkwise.transports.responding import respond
from chunkwise.transports.resumption import RANGE_PARAMETER, UNIT
from chunkwise.transports.websocket_handshake import is_upgrade

_PARAMETERS = {"format", "interval", "limit", "path", RANGE_PARAMETER}
_MAX_INTERVAL_SECONDS = 60.0


def make_app(published: Sequence[Published]) -> web.Application:
    """Return the application with a route for each file, and the index."""
    app = web.Application()
    files = {entry.route: entry for entry in published}

    async def index(request: web.Request) -> web.StreamResponse:
        return index_page(request, published)

    async def file(request: web.Request) -> web.StreamResponse:
        # As it stands in the address: names of files are bytes, which need not be text.
        entry = files.get(os.fsdecode(unquote_to_bytes(request.rel_url.raw_path)))
        if entry is None:
            return problem_response(404, f"there is no {request.path}; / lists what there is")
        return await _answer(request, entry)

    app.on_response_prepare.append(_offer_items)
    app.router.add_get("/", index)
    app.router.add_get("/{name:(?s:.+)}", file)
    return app


class _File(web.FileResponse):
    """The file itself, for which aiohttp has ranges of bytes."""

    def __init__(self, entry: Published) -> None:
        super().__init__(entry.file, headers={hdrs.CONTENT_TYPE: entry.format.content_type, **VARY})
        self.entry = entry

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        headers = request.headers.copy()
        # aiohttp would send the file's neighbour of one more suffix (.gz, .br), published or not.
        headers.popall(hdrs.ACCEPT_ENCODING, None)
        # It refuses a unit that it does not know, which RFC 9110 §14.2 passes over, and takes no ETag for a condition:
        # the rest of another version would make a mixture.
        condition = headers.get(hdrs.IF_RANGE, "")
        if not headers.get(hdrs.RANGE, "").startswith("bytes=") or (
            '"' in condition and condition != f'"{_etag(self.entry.file)}"'
        ):
            headers.popall(hdrs.RANGE, None)
        return await super().prepare(request.clone(headers=headers))


def _etag(file: Path) -> str | None:
    try:
        return FileVersion.of(file.stat()).etag
    except OSError:
        return None


async def _offer_items(_: web.Request, response: web.StreamResponse) -> None:
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


async def _answer(request: web.Request, entry: Published) -> web.StreamResponse:
    query = request.query
    try:
        if unknown := query.keys() - _PARAMETERS:
            msg = f"unknown parameter {min(unknown)!r}, expected any of {', '.join(sorted(_PARAMETERS))}"
            raise ValueError(msg)
        formats = [entry.format, *(row for row in FORMATS.values() if row is not entry.format)]
        wanted = (
            by_name(query["format"])
            if "format" in query
            else negotiate(request.headers.getall(hdrs.ACCEPT, []), formats)
        )
        path, limit, interval = query.get("path", ""), _limit(query), _interval(query)
        entry.format.decoder(path)
    except (UnknownFormat, TypeError, ValueError) as error:
        return problem_response(400, str(error))
    if entry.folder is not None and is_hidden(entry.file, entry.folder):  # a link, put there since
        return problem_response(404, f"there is no {request.path}; / lists what there is")
    converted = path or limit is not None or interval or is_upgrade(request)
    if wanted is entry.format and not (converted or _asks_for_items(request, wanted)):
        return _File(entry)
    try:
        source = _source(entry, path, limit, interval, wanted)
    except OSError as error:
        return problem_response(500, _unreadable(error))
    # Without a format the client accepts none: respond() says which there are.
    return await respond(request, source, wanted or list(FORMATS), headers=VARY)


def _source(entry: Published, path: str, limit: int | None, interval: float, wanted: Format | None) -> Any:
    """Return the items of a file as they are to be sent; the limit counts from its first item, also for the rest."""
    options: Any = {"required": bool(path), "max_items": limit}
    text = wanted is not None and wanted.plain_messages

    def sent(batches: Batches) -> Any:
        batches = Batches(_told(batches))
        if text and entry.format is wanted:
            batches = Batches(_lines(batches))
        return _paced(batches, interval) if interval else batches

    # Strings of another format are not told apart in text, so that nobody could say how many came.
    if not entry.file.is_file() or (text and entry.format is not wanted):
        return sent(read_file(entry.file, entry.format, path, **options))
    whole = file_source(entry.file, entry.format, path, **options)
    return replace(whole, factory=lambda start: sent(whole.start(start)))


def _limit(query: Mapping[str, str]) -> int | None:
    text = query.get("limit")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        msg = f"limit: got {text!r}, expected a whole number of items"
        raise ValueError(msg)
    return int(text)


def _interval(query: Mapping[str, str]) -> float:
    text = query.get("interval", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MAX_INTERVAL_SECONDS:
        msg = f"interval: got {text!r}, expected seconds from 0 to {_MAX_INTERVAL_SECONDS:g}"
        raise ValueError(msg)
    return seconds


async def _told(source: Batches) -> AsyncIterator[list[Any]]:
    """Give a file's batches, its errors as answers that say what is wrong with it."""
    try:
        async with aclosing(aiter(source)) as batches:
            async for batch in batches:
                yield batch
    except PathNotFound as error:
        raise web.HTTPNotFound(text=str(error)) from error
    except (DecodeError, OSError) as error:
        raise web.HTTPInternalServerError(text=_unreadable(error)) from error


def _unreadable(error: Exception) -> str:
    return f"the file cannot be read: {error}"


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


async def _paced(source: Batches, interval: float) -> AsyncIterator[Any]:
    first = True
    async with aclosing(aiter(source)) as batches:
        async for batch in batches:
            for item in batch:
                if not first:
                    await asyncio.sleep(interval)
                first = False
                yield item


async def serve(paths: Sequence[Path], host: str, port: int) -> None:
    """Publish files until Ctrl-C or SIGTERM; see the command's help."""
    published = find_files(paths)
    app = make_app(published)
    setup(app, grace_seconds=1.0)
    await listen(app, host, port, lambda base: _print_curl_lines(published, base))


def _print_curl_lines(published: Sequence[Published], base: str) -> None:
    print(f"{len(published)} file{'s' * (len(published) > 1)} at {base}/ (Ctrl-C stops). Try, for example:\n")
    names = {Path(entry.route).name: url_of(entry) for entry in published}
    for entry in [names[name] for name in ("movies.json", "airports.csv") if name in names] or [*names.values()][:2]:
        print(f"  curl -N '{base}{entry}?format=ndjson&interval=0.2'")
        print(f"  curl -N -H 'Accept: text/event-stream' '{base}{entry}?interval=0.2&limit=20'")
        print(f"  curl -N '{base}{entry}?interval=0.2'")
        print(f"  {program()} get '{base}{entry}' --format csv -o out.csv")
        print(f"  {program()} get '{base.replace('http:', 'ws:')}{entry}?interval=0.2&limit=5'\n", flush=True)
