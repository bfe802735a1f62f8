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

from chunkwise.cli.demo import demo
from chunkwise.cli.exits import MEANINGS, Exit, exit_code, one_line
from chunkwise.cli.get import get
from chunkwise.cli.send import send
from chunkwise.cli.serve import serve
from chunkwise.demo.pace import MAX_SECONDS
from chunkwise.formats import FORMATS
from chunkwise.formats.speedups import KIND

_EXIT_CODES = "\n\n".join(["Exit codes:", *(f"{code.value:>3}  {text}" for code, text in MEANINGS.items())])
_FORMAT = click.Choice(list(FORMATS))
# An unreadable file is not a wrong argument: it has its own exit code.
_PATH = click.Path(path_type=Path, readable=False)
_HEADER = click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="One more request header; may be repeated.",
)
_TIMEOUT = click.option(
    "--timeout",
    "idle_seconds",
    type=click.FloatRange(0, 1e9, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the next bytes.",
)
_HOST = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 accepts connections from other hosts.",
)
_PORT = click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
_FROM = click.option(
    "--from", "input_format", type=_FORMAT, help="Format of the input, if its content type or file name is wrong."
)


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("chunkwise"), prog_name="chunkwise", message=f"%(prog)s %(version)s ({KIND} scanner)")
def app() -> None:
    """Stream items over HTTP: publish files and tables, read any stream, upload one, and learn how it works.

    Data goes to stdout, progress and errors go to stderr.
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
    help="Publish this table or view, or SCHEMA.NAME; may be repeated. All of them by default.",
)
@click.option(
    "--query",
    "queries",
    multiple=True,
    metavar="NAME=SQL",
    help="Publish a query; may be repeated. Tables are then published only if --table names them.",
)
def serve_command(**options: Any) -> Coroutine[Any, Any, None]:
    r"""Publish files and folders, each item as soon as it is read, and tables of databases.

    Each file has a route of its name, and / lists them. A client gets a file as it is (with ranges and ETag), or, if it
    asks by its Accept header or with ?format=NAME, converted to any other format while it is read.
    ?path=users.item selects values inside, ?limit=N takes the first N items, ?interval=SECONDS sends an item each
    so many seconds.

    A database is sqlite:///FILE or postgresql://USER@HOST/DATABASE (a password is better in PGPASSWORD, or in
    ~/.pgpass, than in the URL). It is only read. Each table has a route of its name; its rows are in the order of its
    primary key, so that a client that was cut off can continue. A parameter of a query, such as :city, is bound from
    ?city=...: as the type that PostgreSQL finds for it; in SQLite as text, which is compared with a column as the
    column's type, and elsewhere needs a CAST(:low AS REAL). Text that is not a number is greater than every number
    there, and 0 in a CAST. Write a colon in a text of the query as \:.
    """
    return serve(**options)


@app.command("get", epilog=_EXIT_CODES)
@click.argument("url")
@click.option("--path", default="", help="Which values are the items: users.item, item.name, *. All by default.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["ndjson", "json", "csv"]),
    default="ndjson",
    show_default=True,
    help="Output format.",
)
@_FROM
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, readable=False),
    help="Output file, which gets its name only when it is whole.",
)
@_HEADER
@_TIMEOUT
def get_command(**options: Any) -> Coroutine[Any, Any, None]:
    """Read the stream at URL, item by item, in any format.

    Items that arrived before a failure are on stdout, and the exit code says what failed. A JSON array cannot say that
    its server failed: it just stops (exit code 5, not 4). -H 'Accept: application/x-ndjson' asks for a format that can.

    If a stream breaks and the server can send the rest, the rest is requested: up to 10 times, or for 300 seconds,
    without a new item.

    With --output, the file has the suffix .part until it is whole, and a file .part.state says which items are in it.
    The same command, run again, continues that file, unless --path selects its items. Otherwise it starts from the
    first item, and says why. If the items have changed meanwhile (another ETag), it fails, and says which file to
    delete.
    """
    return get(**options)


@app.command("send", epilog=_EXIT_CODES)
@click.argument("file", type=_PATH)
@click.argument("url")
@click.option("--format", "output_format", type=_FORMAT, help="Convert the file while it is sent.")
@_FROM
@click.option("--method", default="POST", show_default=True, help="Request method.")
@_HEADER
@_TIMEOUT
def send_command(**options: Any) -> Coroutine[Any, Any, None]:
    """Upload FILE to URL as a chunked body, and write the response to stdout.

    Without --format the bytes are sent unchanged. FILE may be - for stdin: --from then says its format.
    A server that responds before it has all of FILE has not read it: the response is written, and the exit code is 5.
    """
    return send(**options)


@app.command("demo", epilog=_EXIT_CODES)
@_HOST
@_PORT
@click.option("--client", is_flag=True, help="Run the tutorial's clients against a demo that runs there already.")
@click.option(
    "--interval",
    type=click.FloatRange(0, MAX_SECONDS),
    help="With --client: seconds between two items. Each route has its own by default.",
)
def demo_command(**options: Any) -> Coroutine[Any, Any, None]:
    """Learn streaming: a page that shows what it does, and its routes, for curl and for clients.

    The page is at /. The routes are /chunked, /non-chunked, /json, /nested, /sse, /events, /large, /ws, /upper and
    /fail; ?interval=SECONDS changes the pace of each, ?items=N how many items it makes, ?size=BYTES how large they
    are, and ?fail=N lets it fail after N of them (of /nested, of users and roles).
    """
    return demo(**options)


def run(arguments: Sequence[str]) -> int:
    """Run a command, report a failure on stderr, and return the exit code."""
    logging.getLogger("chunkwise").addHandler(logging.NullHandler())  # a failure is reported once, below
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
    """Flush stdout; if it cannot be written, discard its buffer: Python would try again, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
