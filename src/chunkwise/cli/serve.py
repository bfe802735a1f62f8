"""``chunkwise serve``: files, and tables of databases -> routes that stream them in any format."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import rich_click as click
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from chunkwise.cli.asked import check_names, interval_of, limit_of, paced
from chunkwise.cli.listening import listen, program
from chunkwise.cli.publishing import VARY, Published, Rows, find_files, index_page, is_hidden, url_of
from chunkwise.errors import DecodeError, PathNotFound, UnknownFormat
from chunkwise.formats import FORMATS, by_name
from chunkwise.sources.batches import Batches
from chunkwise.sources.files import read_file
from chunkwise.transports.negotiation import negotiate
from chunkwise.transports.outcomes import setup
from chunkwise.transports.problems import problem_response
from chunkwise.transports.responding import respond
from chunkwise.transports.websocket_handshake import is_upgrade

_PARAMETERS = {"format", "interval", "limit", "path"}
_DATABASE = re.compile(r"(?:sqlite|postgres|postgresql)(?:\+\w+)?:|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def make_app(published: Sequence[Published], rows: Sequence[Rows] = ()) -> web.Application:
    """Return the application with a route for each file, table and query, and the index."""
    app = web.Application()
    files = {entry.route: entry for entry in published}
    tables = {entry.route: entry for entry in rows}

    async def index(request: web.Request) -> web.StreamResponse:
        return index_page(request, published, rows)

    async def entry(request: web.Request) -> web.StreamResponse:
        # As it stands in the address: names of files are bytes, which need not be text.
        route = os.fsdecode(unquote_to_bytes(request.rel_url.raw_path))
        if (table := tables.get(route)) is not None:
            return await table.answer(request)
        if (file := files.get(route)) is not None:
            return await _answer(request, file)
        return problem_response(404, f"there is no {request.path}; / lists what there is")

    app.router.add_get("/", index)
    app.router.add_get("/{name:(?s:.+)}", entry)
    return app


class _File(web.FileResponse):
    """The file itself: aiohttp would send its neighbour of one more suffix (.gz, .br), published or not."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        headers = request.headers.copy()
        headers.popall(hdrs.ACCEPT_ENCODING, None)
        return await super().prepare(request.clone(headers=headers))


async def _answer(request: web.Request, entry: Published) -> web.StreamResponse:
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
    if entry.folder is not None and is_hidden(entry.file, entry.folder):  # a link, put there since
        return problem_response(404, f"there is no {request.path}; / lists what there is")
    if wanted is entry.format and not (path or limit is not None or interval or is_upgrade(request)):
        return _File(entry.file, headers={hdrs.CONTENT_TYPE: wanted.content_type, **VARY})
    source: Any = Batches(_told(read_file(entry.file, entry.format, path, required=bool(path), max_items=limit)))
    # Without a format the client accepts none: respond() says which there are.
    return await respond(
        request, paced(source, interval) if interval else source, wanted or list(FORMATS), headers=VARY
    )


async def _told(source: Batches) -> AsyncIterator[list[Any]]:
    """Give a file's batches, its errors as answers that say what is wrong with it."""
    try:
        async with aclosing(aiter(source)) as batches:
            async for batch in batches:
                yield batch
    except PathNotFound as error:
        raise web.HTTPNotFound(text=str(error)) from error
    except (DecodeError, OSError) as error:
        raise web.HTTPInternalServerError(text=f"the file cannot be read: {error}") from error


def _is_database(word: str) -> bool:
    """Whether a word is meant to be a database: it is then no name of a file, which could be told, password and all."""
    return _DATABASE.match(word) is not None


async def serve(
    words: Sequence[str], host: str, port: int, tables: Sequence[str] = (), queries: Sequence[str] = ()
) -> None:
    """Publish files and databases until Ctrl-C or SIGTERM; see the command's help."""
    urls = [word for word in words if _is_database(word)]
    paths = [Path(word) for word in words if not _is_database(word)]
    if (tables or queries) and not urls:
        option = "--table" if tables else "--query"
        raise click.BadParameter("is of a database, and none is named", param_hint=option)
    published = find_files(paths) if paths else []
    async with _rows_of(urls, tables, queries) as rows:
        if taken := {entry.route for entry in published} & {entry.route for entry in rows}:
            raise click.UsageError(f"a file and a table would both be {min(taken)}: choose with --table")
        app = make_app(published, rows)
        setup(app, grace_seconds=1.0)
        await listen(app, host, port, lambda base: _print_curl_lines(published, rows, base))


@asynccontextmanager
async def _rows_of(urls: Sequence[str], tables: Sequence[str], queries: Sequence[str]) -> AsyncIterator[Sequence[Rows]]:
    if not urls:
        yield []
        return
    try:
        from chunkwise.cli.databases import open_database
        from chunkwise.cli.tables import find_rows
    except ModuleNotFoundError as error:
        if error.name not in ("sqlalchemy", "asyncpg"):
            raise
        raise click.UsageError("databases need the extra 'sql': pip install 'chunkwise[sql]'") from None
    databases = [open_database(url) for url in urls]
    try:
        yield await find_rows(databases, tables, queries)
    finally:
        for database in databases:
            await database.engine.dispose()


def _print_curl_lines(published: Sequence[Published], rows: Sequence[Rows], base: str) -> None:
    counts = [(len(published), "file"), (len(rows), "table")]
    told = " and ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count)
    print(f"{told} at {base}/ (Ctrl-C stops). Try, for example:\n")
    names = {Path(entry.route).name: url_of(entry.route) for entry in published}
    urls = [names[name] for name in ("movies.json", "airports.csv") if name in names] or [*names.values()]
    for url in [*urls, *(url_of(entry.route) for entry in rows if not entry.about.get("parameters"))][:2]:
        print(f"  curl -N '{base}{url}?format=ndjson&interval=0.2'")
        print(f"  curl -N -H 'Accept: text/event-stream' '{base}{url}?interval=0.2&limit=20'")
        print(f"  curl -N '{base}{url}?interval=0.2'")
        print(f"  {program()} get '{base}{url}' --format csv -o out.csv")
        print(f"  {program()} get '{base.replace('http:', 'ws:')}{url}?interval=0.2&limit=5'\n", flush=True)
    sys.stdout.flush()
