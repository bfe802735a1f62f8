"""``chunkwise serve``: files, folders and databases -> an application with a route for each file, table and query."""

import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

import rich_click as click
from aiohttp import web

from chunkwise import Outcome, setup
from chunkwise.cli.files import not_there, offer_items, respond_with_file
from chunkwise.cli.index_page import index_page
from chunkwise.cli.listening import listen, program
from chunkwise.cli.publishing import Published, Unpublished, find_files, find_unpublished, url_of
from chunkwise.cli.rows import PublishedRows

logger: logging.Logger = logging.getLogger("chunkwise")

_PLURALS = {"file": "files", "table": "tables", "query": "queries"}
_DATABASE = re.compile(r"(?:sqlite|postgres|postgresql)(?:\+\w+)?:|[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def make_app(
    published: Sequence[Published], rows: Sequence[PublishedRows] = (), unpublished: Unpublished | None = None
) -> web.Application:
    """Return the application with a route for each file, table and query, and the index."""
    app = web.Application()
    files = {entry.route: entry for entry in published}
    tables = {entry.route: entry for entry in rows}

    async def index(request: web.Request) -> web.StreamResponse:
        return index_page(request, published, rows, unpublished or Unpublished())

    async def entry(request: web.Request) -> web.StreamResponse:
        # The raw path is decoded here, because a file name may contain bytes that are not valid UTF-8.
        route = os.fsdecode(unquote_to_bytes(request.rel_url.raw_path))
        if (table := tables.get(route)) is not None:
            return await table.respond(request)
        if (file := files.get(route)) is not None:
            return await respond_with_file(request, file)
        return not_there(request)

    app.on_response_prepare.append(offer_items)
    app.router.add_get("/", index)
    app.router.add_get("/{name:(?s:.+)}", entry)
    return app


def _is_database(word: str) -> bool:
    """Return whether an argument looks like a database URL. It may contain a password, so no message quotes it."""
    return _DATABASE.match(word) is not None


async def serve(
    words: Sequence[str], host: str, port: int, tables: Sequence[str] = (), queries: Sequence[str] = ()
) -> None:
    """Publish files and databases until Ctrl-C or SIGTERM; see the command's help."""
    urls = [word for word in words if _is_database(word)]
    paths = [Path(word) for word in words if not _is_database(word)]
    if (tables or queries) and not urls:
        option = "--table" if tables else "--query"
        raise click.BadParameter(
            "needs a database: sqlite:///FILE or postgresql://USER@HOST/DATABASE", param_hint=option
        )
    published = find_files(paths) if paths else []
    async with _rows_of(urls, tables, queries) as rows:
        if taken := {entry.route for entry in published} & {entry.route for entry in rows}:
            raise click.UsageError(f"a file and a table have the same URL {min(taken)}: select tables with --table")
        app = make_app(published, rows, find_unpublished(paths))
        setup(app, grace_seconds=1.0, on_outcome=_log_refusal)
        await listen(app, host, port, lambda base: _print_curl_lines(published, rows, base))


def _log_refusal(request: web.Request, outcome: Outcome) -> None:
    """Log a failure that happens before the first item, because `respond` reports it only to the client."""
    if isinstance(outcome.error, web.HTTPException) and outcome.status >= 500:
        logger.warning("%s %s: %d: %s", request.method, request.rel_url, outcome.status, outcome.error.text)


@asynccontextmanager
async def _rows_of(
    urls: Sequence[str], tables: Sequence[str], queries: Sequence[str]
) -> AsyncIterator[Sequence[PublishedRows]]:
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
            await database.dispose()


def _print_curl_lines(published: Sequence[Published], rows: Sequence[PublishedRows], base: str) -> None:
    queries = sum("query" in entry.about for entry in rows)
    counts = {"file": len(published), "table": len(rows) - queries, "query": queries}
    published_counts = " and ".join(
        f"{count} {name if count == 1 else _PLURALS[name]}" for name, count in counts.items() if count
    )
    print(f"Serving {published_counts} at {base}/ (Ctrl-C stops the server). Try, for example:\n")
    names = {Path(entry.route).name: url_of(entry.route) for entry in published}
    urls = [names[name] for name in ("movies.json", "airports.csv") if name in names] or [*names.values()]
    urls = [*urls, *(url_of(entry.route) for entry in rows if not entry.example)][:2]
    for url in urls:
        print(f"  curl -N '{base}{url}?format=ndjson&interval=0.2'")
        print(f"  curl -N -H 'Accept: text/event-stream' '{base}{url}?interval=0.2&limit=20'")
        print(f"  curl -N '{base}{url}?interval=0.2'")
        print(f"  {program()} get '{base}{url}' --format csv -o out.csv")
        print(f"  {program()} get '{base.replace('http:', 'ws:')}{url}?interval=0.2&limit=5'\n", flush=True)
    for entry in rows:
        if "query" in entry.about and (url := url_of(entry.route)) not in urls:
            print(f"  curl -N '{base}{url}{entry.example}'")
    sys.stdout.flush()
