"""The arguments of the command line -> a command that runs, and its exit code."""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rich_click as click
from rich_click import rich_click as rich_config

from chunkwise.cli.demo import demo
from chunkwise.cli.exits import MEANINGS, Exit, exit_code, one_line
from chunkwise.cli.get import OUTPUT_FORMATS, get
from chunkwise.cli.send import send
from chunkwise.cli.serve import serve
from chunkwise.demo.pace import MAX_SECONDS
from chunkwise.formats import FORMATS
from chunkwise.formats.speedups import KIND

# Without this setting, a help text is printed without the blank lines between its paragraphs.
rich_config.TEXT_PARAGRAPH_LINEBREAKS = "\n\n"
rich_config.PADDING_HELPTEXT_FIRST_LINE = (0, 0, 1, 0)

_EXIT_CODES = "\n\n".join(["Exit codes:", *(f"{code.value:<5}{text}" for code, text in MEANINGS.items())])
_FORMAT = click.Choice(list(FORMATS))
_FORMAT_NAMES = ", ".join(FORMATS)
# click must not check that the file can be read: it would exit with 2, but the code for an unreadable file is 10.
_PATH = click.Path(path_type=Path, readable=False)
_HEADER = click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="Add a header to the request. Repeat the option for more headers.",
    panel="Request",
)
_TIMEOUT = click.option(
    "--timeout",
    "idle_seconds",
    type=click.FloatRange(0, 1_000_000_000, min_open=True),
    metavar="SECONDS",
    default=60.0,
    show_default=True,
    help="Stop if no bytes are transferred for this many seconds.",
    panel="Request",
)
_HOST = click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Use 0.0.0.0 to accept connections from other computers.",
    panel="Network",
)
_PORT = click.option(
    "--port",
    metavar="NUMBER",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on. Use 0 for any free port.",
    panel="Network",
)
_FROM = click.option(
    "--from",
    "input_format",
    type=_FORMAT,
    metavar="FORMAT",
    help=f"Format of the input: {_FORMAT_NAMES}. By default, the content type or the file name determines it.",
    panel="Format",
)


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    version("chunkwise"),
    prog_name="chunkwise",
    message=f"%(prog)s %(version)s ({KIND} scanner)",
    help="Show the version and exit.",
)
def app() -> None:
    """Stream items over HTTP and WebSocket: serve, read and upload files of any size.

    Data is written to stdout. Errors are written to stderr, and so is the progress, if stderr is a terminal.

        chunkwise get http://127.0.0.1:8080/movies.json --format csv

    For the help of a command, run chunkwise COMMAND --help.
    """


@app.command("serve", epilog=_EXIT_CODES)
@click.argument("words", nargs=-1, required=True, metavar="PATH|DATABASE...")
@_HOST
@_PORT
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="NAME",
    help="Serve only this table or view of the database, as NAME or SCHEMA.NAME. Repeat the option for more tables. "
    "By default, all tables and views are served.",
    panel="Database",
)
@click.option(
    "--query",
    "queries",
    multiple=True,
    metavar="NAME=SQL",
    help="Serve the rows of this SQL query at /NAME. Repeat the option for more queries. Queries replace the tables: "
    "with --query, only tables that --table names are served as well.",
    panel="Database",
)
def serve_command(**options: Any) -> Coroutine[Any, Any, None]:
    r"""Serve files, folders and database tables over HTTP, as streams of items.

    Each file, table and query has a URL with its name. The URL / lists them all. Ctrl-C stops the server.

        chunkwise serve movies.json data/ sqlite:///shop.db

    A client receives a file unchanged, with an ETag and byte ranges, unless its request asks for something else. The
    Accept header or the parameter ?format=NAME selects another format: the file is then converted while it is read.
    Parameters of the URL:

        ?format=NAME        convert to json, ndjson, json-seq, sse, csv or text
        ?path=users.item    send only the values at this path (files only)
        ?limit=N            send only the first N items
        ?interval=SECONDS   wait this long between two items, at most 60 seconds

    A database is named by its URL, sqlite:///FILE or postgresql://USER@HOST/DATABASE. The server never changes it.
    Put a password into the variable PGPASSWORD or into ~/.pgpass, because other users of this computer may see the
    URL. Rows are sent in the order of the primary key, so that clients can resume after a disconnect.

    With --query, the queries replace the tables of the database:

        chunkwise serve sqlite:///shop.db \
            --query "cheap=select * from products where price < :most"

    The URL of a query contains a value for each of its parameters: /cheap?most=10. PostgreSQL finds out the type of a
    parameter. In SQLite a value is text, which is converted to the type of the column that it is compared with. In
    other expressions, write CAST(:most AS REAL). SQLite treats a text that is not a number as greater than every
    number; CAST makes it 0. Write \: for a colon inside a string of the query.
    """
    return serve(**options)


@app.command("get", epilog=_EXIT_CODES)
@click.argument("url")
@click.option(
    "--path",
    default="",
    metavar="PATH",
    help="Write only the values at this path, such as users.item, item.name or *. By default, all items are written.",
    panel="Format",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(OUTPUT_FORMATS),
    help="Format of the output. By default, the suffix of --output determines it; otherwise it is ndjson.",
    panel="Format",
)
@_FROM
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, readable=False),
    help="Write to this file instead of stdout. Until the file is complete, its name ends in .part.",
    panel="Output",
)
@_HEADER
@_TIMEOUT
def get_command(**options: Any) -> Coroutine[Any, Any, None]:
    """Read the stream at URL, and write its items to stdout or to a file.

    URL starts with http://, https://, ws:// or wss://. Each item is written as soon as it is received.

        chunkwise get http://127.0.0.1:8080/movies.json -o movies.csv

    If the stream fails, the items before the failure are written, and the exit code says what failed. If the server
    reports its failure, the exit code is 4. In JSON, CSV and text, a server cannot report a failure after the first
    item. It can only close the connection early, and the exit code is 5 (or 4, if the attempt to resume gets an error
    status). To see the server's reason, request NDJSON with -H 'Accept: application/x-ndjson'.

    After a disconnect, the command connects again and continues after the last item, if the server supports ranges of
    items. It stops after 10 attempts, or after 300 seconds, without a new item.

    With --output FILE, the items are written to FILE.part, which is renamed to FILE when the stream is complete. If
    the download was interrupted, run the same command again to continue it: FILE.part.state records the position. With
    --path, the download starts again from the first item. If the items on the server have changed in the meantime (the
    ETag differs), the command fails and names the file to delete.

    Progress is shown if stderr is a terminal and the items are not written to the terminal themselves.
    """
    return get(**options)


@app.command("send", epilog=_EXIT_CODES)
@click.argument("file", type=_PATH)
@click.argument("url")
@click.option(
    "--format",
    "output_format",
    type=_FORMAT,
    metavar="FORMAT",
    help=f"Convert the file while it is sent, to {_FORMAT_NAMES}. By default, its bytes are sent unchanged.",
    panel="Format",
)
@_FROM
@click.option("--method", default="POST", show_default=True, metavar="NAME", help="Request method.", panel="Request")
@_HEADER
@_TIMEOUT
def send_command(**options: Any) -> Coroutine[Any, Any, None]:
    """Upload FILE to URL, and write the response to stdout.

    FILE is sent as a chunked request body. Use - for stdin, and name its format with --from. If URL starts with ws://
    or wss://, each item is sent as a WebSocket message, and the items of the response are written as NDJSON.

        chunkwise send movies.json http://127.0.0.1:8080/upload --format ndjson

    If the server responds before it has received all of FILE, the response is written and the exit code is 5.

    Progress is shown if stderr is a terminal.
    """
    return send(**options)


@app.command("demo", epilog=_EXIT_CODES)
@_HOST
@_PORT
@click.option(
    "--client",
    is_flag=True,
    help="Run the tutorial's clients against a demo that is already running.",
    panel="Clients",
)
@click.option(
    "--interval",
    type=click.FloatRange(0, MAX_SECONDS),
    metavar="SECONDS",
    help="With --client: wait this long between two items. By default, each route has its own interval.",
    panel="Clients",
)
def demo_command(**options: Any) -> Coroutine[Any, Any, None]:
    """Start the tutorial's server: a web page and routes that show how streaming works.

    Open http://127.0.0.1:8080/ in a browser, or request one of the routes with curl -N: /chunked, /non-chunked, /json,
    /nested, /sse, /events, /large, /ws, /upper and /fail. Ctrl-C stops the server. Parameters of the URL:

        ?interval=SECONDS   wait this long between two items, at most 60 seconds
        ?items=N            make this many items
        ?size=BYTES         add this many bytes to each item
        ?fail=N             fail after N items (on /nested, each role counts as an item too)

    For example, start the demo on another port:

        chunkwise demo --port 8090
    """
    return demo(**options)


def run(arguments: Sequence[str]) -> int:
    """Run a command, report a failure in one line on stderr, and return the exit code."""
    # Without a handler, Python would print each logged failure to stderr, in addition to the line printed below.
    logging.getLogger("chunkwise").addHandler(logging.NullHandler())
    try:
        work = app.main(list(arguments), prog_name="chunkwise", standalone_mode=False)
        if asyncio.iscoroutine(work):
            asyncio.run(work)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a user never sees a bare traceback
        _flush_or_discard()
        code = exit_code(error)
        if code is not Exit.PIPE_CLOSED:
            kind = f"{type(error).__name__}: " if code is Exit.UNEXPECTED else ""
            print(f"chunkwise: {kind}{one_line(error)}", file=sys.stderr)
        return code
    return Exit.DONE


def _flush_or_discard() -> None:
    """Flush stdout, or discard its buffer if that fails: otherwise Python would flush it at exit, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
