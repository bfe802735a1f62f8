"""The published files, tables and queries -> the index of ``chunkwise serve``: JSON, or a page for browsers.

The page also lists the files of a published folder that are not served, each with the reason, because the user may
expect to find them. Hidden files are only counted, because names such as ``.env``, and names inside ``.git``, may be
private. The JSON lists only what can be requested.
"""

import hashlib
import html
import os
import shlex
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from aiohttp import hdrs, web

import chunkwise.demo
from chunkwise import FORMATS
from chunkwise.cli.asked import VARY
from chunkwise.cli.publishing import MAX_UNPUBLISHED, Published, Unpublished, url_of
from chunkwise.cli.rows import PublishedRows
from chunkwise.transports.negotiation import negotiate


class _Page(NamedTuple):
    """The media types of one form of the index: HTML or JSON. `negotiate` selects a form by them."""

    media_types: tuple[str, ...]


_HTML, _JSON = _Page(("text/html",)), _Page(("application/json",))
_THEME = Path(chunkwise.demo.__file__).parent / "page" / "theme.css"


def index_page(
    request: web.Request,
    published: Sequence[Published],
    rows: Sequence[PublishedRows],
    unpublished: Unpublished,
) -> web.Response:
    """Return the index, as JSON or, for browsers, as a page."""
    page = negotiate(request.headers.getall(hdrs.ACCEPT, []), [_JSON, _HTML])
    entries = [_about(entry) for entry in published if entry.is_there()]
    if page is not _HTML:
        tables = [{"url": url_of(entry.route), **entry.about} for entry in rows]
        return web.json_response([*entries, *tables], headers=VARY)
    gone = [(entry.route[1:], "it no longer exists") for entry in published if not entry.is_there()]
    content = "".join(
        [
            _example(request, entries, rows),
            _titled("Files", _table("files", _FILE_COLUMNS, [_file_row(entry) for entry in entries])),
            _titled("Tables", _table("tables", _TABLE_COLUMNS, [_table_row(entry) for entry in rows])),
            _not_served(sorted([*unpublished.reasons, *gone]), unpublished, rows),
        ]
    )
    style = _style()
    text = _PAGE.replace("STYLE", style).replace("CONTENT", content)
    return web.Response(
        text=text, content_type="text/html", headers={**VARY, "Content-Security-Policy": _policy(style)}
    )


@cache
def _style() -> str:
    return _THEME.read_text(encoding="utf-8")


def _policy(style: str) -> str:
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _about(entry: Published) -> dict[str, Any]:
    status = entry.file.stat()
    return {
        "url": url_of(entry.route),
        "format": entry.format.name,
        "bytes": status.st_size,
        "modified": datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds"),
    }


def _example(request: web.Request, entries: Sequence[Mapping[str, Any]], rows: Sequence[PublishedRows]) -> str:
    """Return, as HTML, a curl command that streams the first file or table; ``""`` if nothing is served."""
    paths = [entry["url"] for entry in entries] + [url_of(entry.route) + entry.example for entry in rows]
    if not paths:
        return ""
    url = f"{request.scheme}://{request.host}{paths[0]}"
    query = "&" if "?" in url else "?"
    command = f"curl -N {shlex.quote(f'{url}{query}format=ndjson&interval=0.2')}"
    return f'<pre class="example">{html.escape(command)}</pre>\n'


def _not_served(reasons: Sequence[tuple[str, str]], unpublished: Unpublished, rows: Sequence[PublishedRows]) -> str:
    text = ""
    if reasons:
        databases = {entry.about["database"] for entry in rows}
        files = Counter(Path(name).name for name, _ in reasons)
        listed = reasons[:MAX_UNPUBLISHED]
        lines = [_reason_row(name, _reason(name, reason, files, databases)) for name, reason in listed]
        table = _table("not-served", ("File", "Reason"), lines)
        count = len(reasons) + unpublished.more
        if more := count - len(listed):
            table += f"<p>{more:,} more files are not served for such reasons.</p>\n"
        title = f"<h2>Not served: {count:,} file{'s' * (count != 1)}</h2>"
        text = f"<details>\n<summary>{title}</summary>\n{table}</details>\n"
    if unpublished.hidden:
        hidden = "1 hidden file is" if unpublished.hidden == 1 else f"{unpublished.hidden:,} hidden files are"
        text += f"<p>{hidden} not listed.</p>\n"
    return text


def _reason(name: str, reason: str, files: Mapping[str, int], databases: AbstractSet[str]) -> str:
    """Return the reason for a file that is not served, such as ``"a database: its tables are listed above"``."""
    file = Path(name).name
    # A served database is known here only by its file name. If two files have this name, it is unknown which one is
    # served, so the reason of neither is changed to "its tables are listed above".
    is_served = reason.startswith("a database") and file in databases and files[file] == 1
    return "a database: its tables are listed above" if is_served else reason


def _titled(title: str, table: str) -> str:
    return f"<h2>{title}</h2>\n{table}" if table else ""


def _table(kind: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{column}</th>" for column in columns)
    return (
        f'<div class="scroll"><table class="index {kind}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>\n"
    )


def _file_row(entry: Mapping[str, Any]) -> str:
    url = html.escape(entry["url"])
    others = " ".join(f'<a href="{url}?format={name}">{name}</a>' for name in FORMATS if name != entry["format"])
    modified = datetime.fromisoformat(entry["modified"]).strftime("%Y-%m-%d %H:%M UTC")
    return _row(f'<a href="{url}">{url}</a>', entry["format"], f"{entry['bytes']:,}", modified, others)


def _table_row(entry: PublishedRows) -> str:
    url = html.escape(url_of(entry.route))
    names = entry.about.get("parameters", [])
    start = "?" + "".join(f"{quote(name)}=...&amp;" for name in names)
    kind = "query with " + ", ".join(names) if names else "query" if "query" in entry.about else "table"
    links = " ".join(f'<a href="{url}{start}format={name}">{name}</a>' for name in FORMATS)
    return _row(f'<a href="{url}">{url}</a>', html.escape(kind), html.escape(entry.about["database"]), links)


def _reason_row(name: str, reason: str) -> str:
    # A file name may contain bytes that are not valid UTF-8. They are shown as replacement characters.
    return _row(*[html.escape(os.fsencode(text).decode(errors="replace")) for text in (name, reason)])


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


_FILE_COLUMNS = ("File", "Format", "Bytes", "Modified", "Streamed as")
_TABLE_COLUMNS = ("Table", "Type", "Database", "Streamed as")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>chunkwise serve</title>
<link rel="icon" href="data:,">
<style>STYLE</style>
</head>
<body>
<header class="bar"><span class="brand">chunkwise</span> <span class="tagline">serve</span></header>
<main>
<h1>What this server streams</h1>
<p class="lede">Each link streams its items. In a terminal, <code>curl -N</code> shows them as they arrive.</p>
CONTENT</main>
<footer>
<p>Add <code>?path=item.name</code> to select values in files, <code>?limit=10</code> for the first ten items, and
<code>?interval=0.2</code> for a pause of 0.2 seconds between two items.</p>
</footer>
</body>
</html>
"""
