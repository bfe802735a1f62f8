"""The help of the command line -> docs/reference/command-line.md. A test compares the two.

Usage: `python tools/command_line_page.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from chunkwise.cli.app import app
from chunkwise.cli.exits import MEANINGS

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"
WIDTH = 100

BEGIN = """\
# Command line

With the extra `cli`, `chunkwise` is a command (`python -m chunkwise` is the same). Data goes to stdout, progress and
errors go to stderr, and the items received before a failure are on stdout. This page has the text of `--help`.
"""


def page() -> str:
    """Return the page."""
    commands = [("chunkwise", app), *((f"chunkwise {name}", command) for name, command in app.commands.items())]
    sections = [f"## {name}\n\n```text\n{help_of(name, command)}\n```\n" for name, command in commands]
    return "\n".join([BEGIN, *sections, *exit_codes()])


def help_of(name: str, command: click.Command) -> str:
    """Return the help of a command in click's layout, without colours, frames and exit codes."""
    context = click.Context(
        command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH, **app.context_settings
    )
    formatter = context.make_formatter()
    command.format_usage(context, formatter)
    click.Command.format_help_text(command, context, formatter)
    click.Command.format_options(command, context, formatter)
    if isinstance(command, click.Group):
        click.Group.format_commands(command, context, formatter)
    return formatter.getvalue().strip()


def exit_codes() -> Iterator[str]:
    """Yield the section with the exit codes."""
    yield "## Exit codes\n\n| code | meaning |\n|---|---|"
    yield from (f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
