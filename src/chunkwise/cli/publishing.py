"""Files and folders -> the files that ``chunkwise serve`` publishes, and the index page of these and of the tables."""

import errno
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import rich_click as click
from aiohttp import hdrs, web

from chunkwise import FORMATS, UnknownFormat
from chunkwise.cli.asked import VARY
from chunkwise.cli.rows import PublishedRows
from chunkwise.formats import Format, by_suffix
from chunkwise.transports.negotiation import negotiate


@dataclass(frozen=True)
class Published:
    """A file and its route."""

    route: str
    file: Path
    format: Format
    folder: Path | None  # the published folder that it is in; None if the file itself was named
    regular: bool = True  # False for a pipe, which must be named itself

    def is_there(self) -> bool:
        """Whether the file still exists, and has not become a folder, or a pipe that would block."""
        return os.path.isfile(self.file) if self.regular else self.file.exists()  # noqa: PTH113 - never raises


class _Page(NamedTuple):
    """A media type of the index."""

    media_types: tuple[str, ...]


_DATABASES = (".db", ".sqlite", ".sqlite3")
_HTML, _JSON = _Page(("text/html",)), _Page(("application/json",))


def find_files(paths: Sequence[Path]) -> list[Published]:
    """Return the files to publish: named files under their names, a folder's files under their paths in the folder.

    A named file that is not there, cannot be read or has no known suffix is an error, and so are two files of one
    route.
    """
    found: dict[str, Published] = {}
    for path in paths:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and not is_hidden(file, path))
            named = [(file.relative_to(path).as_posix(), file) for file in files]
        elif path.exists():
            if not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            named = [(path.name, path)]
        else:
            raise FileNotFoundError(errno.ENOENT, "no such file or folder", str(path))
        for name, file in named:
            try:
                row = by_suffix(file.name)
            except UnknownFormat:
                if path.is_dir():
                    continue
                if file.suffix.lower() in _DATABASES:
                    msg = f"{file.name!r} is no file of items: expected sqlite:///{path} for the tables of a database"
                    raise UnknownFormat(msg) from None
                raise
            route = f"/{name}"
            if route in found:
                msg = f"{found[route].file} and {file} would both be {route}: publish the folder that holds both"
                raise click.UsageError(msg)
            found[route] = Published(route, file, row, path if path.is_dir() else None, file.is_file())
    if not found:
        raise UnknownFormat(
            f"nothing to publish in {', '.join(map(str, paths))}: expected files that end in .json, .ndjson, .csv, ..."
        )
    return [found[route] for route in sorted(found)]


def is_hidden(file: Path, folder: Path) -> bool:
    """Whether a file or one of its folders is hidden, or a link leads out of the published folder."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return hidden or not file.resolve().is_relative_to(folder.resolve())


def index_page(request: web.Request, published: Sequence[Published], rows: Sequence[PublishedRows]) -> web.Response:
    """Return the list of what is published, as JSON or, for browsers, as a page."""
    page = negotiate(request.headers.getall(hdrs.ACCEPT, []), [_JSON, _HTML])
    entries = [
        {
            "url": url_of(entry.route),
            "format": entry.format.name,
            "bytes": entry.file.stat().st_size,
            "modified": datetime.fromtimestamp(entry.file.stat().st_mtime, UTC).isoformat(timespec="seconds"),
        }
        for entry in published
        if entry.is_there()
    ]
    if page is not _HTML:
        tables = [{"url": url_of(entry.route), **entry.about} for entry in rows]
        return web.json_response([*entries, *tables], headers=VARY)
    files = _table("Files", _FILE_COLUMNS, [_row(entry) for entry in entries])
    tables_found = _table("Tables", _TABLE_COLUMNS, [_row_of_table(entry) for entry in rows])
    return web.Response(text=_PAGE.replace("TABLES", files + tables_found), content_type="text/html", headers=VARY)


def url_of(route: str) -> str:
    """Return the path of a URL."""
    return quote(os.fsencode(route))


def _table(title: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{column}</th>" for column in columns)
    kind = title.lower()
    return (
        f'<h1>{title}</h1>\n<div><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>\n"
    )


def _row_of_table(entry: PublishedRows) -> str:
    url = html.escape(url_of(entry.route))
    names = entry.about.get("parameters", [])
    start = "?" + "".join(f"{quote(name)}=...&amp;" for name in names)
    what = "query with " + ", ".join(names) if names else "query" if "query" in entry.about else "table"
    links = " ".join(f'<a href="{url}{start}format={name}">{name}</a>' for name in FORMATS)
    return _cells(f'<a href="{url}">{url}</a>', html.escape(what), html.escape(entry.about["database"]), links)


def _row(entry: Mapping[str, Any]) -> str:
    url = html.escape(entry["url"])
    others = " ".join(f'<a href="{url}?format={name}">{name}</a>' for name in FORMATS if name != entry["format"])
    return _cells(f'<a href="{url}">{url}</a>', entry["format"], f"{entry['bytes']:,}", entry["modified"], others)


def _cells(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


_FILE_COLUMNS = ("File", "Format", "Bytes", "Modified", "Streamed as")
_TABLE_COLUMNS = ("Table", "What", "Database", "Streamed as")

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>chunkwise serve</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
div { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top }
.files td:nth-child(3) { text-align: right }
</style>
TABLES
<p>Add <code>?path=item.name</code> to select values in files, <code>?limit=10</code> for the first items,
<code>?interval=0.2</code> to see items arrive one by one: <code>curl -N</code> shows them.</p>
</html>
"""
