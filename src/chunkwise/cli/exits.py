"""An exception -> one line for stderr and an exit code."""

import re
from enum import IntEnum
from typing import Self

import rich_click as click
from aiohttp import ClientConnectionError, ClientError, InvalidURL, NonHttpUrlClientError

from chunkwise import errors
from chunkwise.transports.connect_errors import why_no_connection

# Some error messages contain a hint for Python code, such as (restart=True allows ...). It is removed from the
# messages of a command, because no command has an option for it.
_ARGUMENT_HINT = re.compile(r" \(restart=True[^()]*\)")


class Exit(IntEnum):
    """Exit codes, one for each kind of failure, and their meanings."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make the member of the enum that has this exit code and this meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    DONE = 0, "success: the data is complete"
    UNEXPECTED = 1, "unexpected error in chunkwise itself: please report it"
    USAGE = 2, "wrong command, argument or option, or an extra is not installed"
    NETWORK = 3, "no connection: a server or database is unreachable, or the port is in use"
    REMOTE = 4, "the server sent an error status, or reported that its stream failed"
    TRUNCATED = 5, "the stream stopped before its end, or stalled for --timeout seconds"
    BAD_DATA = 6, "the data is invalid, or does not fit the output format"
    OVER_LIMIT = 7, "an item, a line or the nesting depth is over its limit"
    PATH_NOT_FOUND = 8, "no value was found at --path"
    UNKNOWN_FORMAT = 9, "the format of a file or stream is unknown"
    FILE = 10, "a file cannot be read or written"
    INTERRUPTED = 130, "interrupted by Ctrl-C"
    PIPE_CLOSED = 141, "stdout was closed by the program that reads it, such as head"


MEANINGS = {code: code.meaning for code in Exit}

_KINDS: dict[tuple[type[BaseException], ...], Exit] = {
    (errors.TruncatedError, errors.StalledError): Exit.TRUNCATED,
    (errors.LimitError,): Exit.OVER_LIMIT,
    (errors.DecodeError, errors.EncodeError): Exit.BAD_DATA,
    (errors.RemoteError,): Exit.REMOTE,
    (errors.PathNotFound,): Exit.PATH_NOT_FOUND,
    (errors.UnknownFormat,): Exit.UNKNOWN_FORMAT,
    (InvalidURL, NonHttpUrlClientError, click.ClickException): Exit.USAGE,
    (BrokenPipeError,): Exit.PIPE_CLOSED,
    (ClientError, TimeoutError, ConnectionError): Exit.NETWORK,
    (OSError,): Exit.FILE,
    (KeyboardInterrupt,): Exit.INTERRUPTED,
}
"""The exit code of an error is that of the first row whose exception types match."""


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of an error."""
    return next((code for kinds, code in _KINDS.items() if isinstance(error, kinds)), Exit.UNEXPECTED)


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line. Control characters, which a server may have sent, are escaped."""
    line = " ".join(_ARGUMENT_HINT.sub("", _message(error)).split())
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, (InvalidURL, NonHttpUrlClientError)):
        return f"expected a URL such as http://127.0.0.1:8080/movies.json, got {error}"
    if isinstance(error, click.ClickException):
        # The hint "For help, run: ..." needs the name of the command. Only errors that click raises itself have a
        # context with this name, so other errors get no hint.
        message, context = error.format_message(), getattr(error, "ctx", None)
        return f"{message} For help, run: {context.command_path} --help" if context is not None else message
    if (why := why_no_connection(error)) is not None:
        return why
    if isinstance(error, TimeoutError):
        # The message names idle_seconds, the argument of the Python function. The user knows it as --timeout.
        message = str(error).replace("idle_seconds", "--timeout")
        return f"{message or 'nothing was received in time'}; set a longer --timeout in seconds"
    if isinstance(error, OSError) and not isinstance(error, ClientConnectionError):
        if error.filename:
            return f"{error.filename}: {error.strerror}"
        if error.strerror:
            return error.strerror
    return str(error) or type(error).__name__
