"""Write the help texts of the command line to docs/reference/command-line.md.

Run `python tools/command_line_page.py` after a change of a help text. A test fails if the page is out of date.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import click

from chunkwise.cli.app import app
from chunkwise.cli.exits import MEANINGS

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"
WIDTH = 100

BEGIN = """\
# Command line

The extra `cli` installs the command `chunkwise`; `python -m chunkwise` is the same.

| to | use |
|---|---|
| publish a file, a folder or a database | [`chunkwise serve`](#chunkwise-serve) |
| read a stream into the terminal or a file | [`chunkwise get`](#chunkwise-get) |
| upload a file as a stream | [`chunkwise send`](#chunkwise-send) |
| see what streaming does | [`chunkwise demo`](#chunkwise-demo) |

Data is written to stdout, progress and errors to stderr. If a stream fails, the items that arrived before are
on stdout, and the [exit code](#exit-codes) says what failed. The sections below are the output of `--help`.
"""


def page() -> str:
    """Return the Markdown of docs/reference/command-line.md."""
    commands = [("chunkwise", app), *((f"chunkwise {name}", command) for name, command in app.commands.items())]
    sections = [f"## {name}\n\n```text\n{help_of(name, command)}\n```\n" for name, command in commands]
    return "\n".join([BEGIN, *sections, *exit_codes()])


def help_of(name: str, command: click.Command) -> str:
    """Return a command's help in click's plain layout, without colours, frames and the section about exit codes."""
    context = click.Context(
        command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH, **app.context_settings
    )
    formatter = context.make_formatter()
    command.format_usage(context, formatter)
    plain = copy(command)
    # click reflows every paragraph that does not begin with \b. So add \b to indented paragraphs, such as examples.
    plain.help = re.sub(r"\n\n(?=    )", "\n\n\b\n", inspect.cleandoc(command.help or ""))
    click.Command.format_help_text(plain, context, formatter)
    click.Command.format_options(command, context, formatter)
    if isinstance(command, click.Group):
        click.Group.format_commands(command, context, formatter)
    return formatter.getvalue().strip()


def exit_codes() -> Iterator[str]:
    """Yield the lines of the section about exit codes."""
    yield "## Exit codes\n\n| code | meaning |\n|---|---|"
    yield from (f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
