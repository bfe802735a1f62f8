"""The words of the command line -> a command's run, and its exit code.

Must not know how commands do their work.
"""

from __future__ import annotations

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
_PATH = click.Path(path_type=Path, readable=False)  # what cannot be read is no wrong word: it has its own exit code
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
    help="Seconds to wait for what comes next.",
)
_HOST = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is everybody's."
)
_PORT = click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
_FROM = click.option(
    "--from", "input_format", type=_FORMAT, help="Format of what is read, if its type or name is wrong."
)


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("chunkwise"), prog_name="chunkwise", message=f"%(prog)s %(version)s ({KIND} scanner)")
def app() -> None:
    """Stream items over HTTP: publish files and tables, read any stream, upload one, and see how it works.

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
    help="Publish this table or view, or SCHEMA.NAME; may be repeated. All that are found by default.",
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
    ~/.pgpass, than in the URL). It is only read. Each table has a route of its name; its rows come in the order of its
    primary key, so that a client that was cut off can go on. A parameter of a query, such as :city, is bound from
    ?city=...: as the type that PostgreSQL finds for it; in SQLite as text, which compares with a column as the
    column's type does, and elsewhere wants a CAST(:low AS REAL). A text that is no number is there greater than every
    number, and 0 in a CAST. A colon in a text of the query is written \:.
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
    help="Format of what is written.",
)
@_FROM
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, readable=False),
    help="File, there only when whole.",
)
@_HEADER
@_TIMEOUT
def get_command(**options: Any) -> Coroutine[Any, Any, None]:
    """Read the stream at URL, item by item, in whatever format it comes.

    What came before a failure is on stdout, and the exit code tells the failure. A JSON array has no place to say that
    its server failed: it just stops (exit code 5, not 4). -H 'Accept: application/x-ndjson' asks for a format that has.

    Where the server can give the rest of a stream that broke, it is asked for: up to 10 times, or for 300 seconds,
    without a new item.

    With --output, a file that is not whole has .part behind its name, and beside it stands what is known of it, in
    .part.state. Run again with the same words, it goes on with that file, unless --path selects what is in it. Else
    it begins again, and says why. Where the items have changed meanwhile (another ETag), it fails, and says which file
    to delete.
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
    """Upload FILE to URL as a chunked body, and write the answer to stdout.

    Without --format the bytes are sent as they are. FILE may be - for stdin: --from then says its format.
    A server that answers before it has all of FILE has not taken it: its answer is written, and the exit code is 5.
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
    """Learn streaming: a page that shows what it does, and the routes behind it, for curl and for clients.

    The page is at /. The routes are /chunked, /non-chunked, /json, /nested, /sse, /events, /large, /ws, /upper and
    /fail; ?interval=SECONDS changes the pace of each, ?items=N how many items it makes, ?size=BYTES how large they
    are, and ?fail=N lets it fail after N of them (of /nested, of users and roles).
    """
    return demo(**options)


def run(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code, having told on stderr what went wrong."""
    logging.getLogger("chunkwise").addHandler(logging.NullHandler())  # a failure is told once, below
    try:
        work = app.main(list(arguments), prog_name="chunkwise", standalone_mode=False)
        if asyncio.iscoroutine(work):
            asyncio.run(work)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has nowhere to go
        return Exit.PIPE_CLOSED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a user never sees a bare traceback
        code = exit_code(error)
        kind = f"{type(error).__name__}: " if code is Exit.UNEXPECTED else ""
        print(f"chunkwise: {kind}{one_line(error)}", file=sys.stderr)
        return code
    return Exit.DONE
