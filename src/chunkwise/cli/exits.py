"""An exception -> one line for stderr and an exit code."""

import re
from enum import IntEnum
from typing import Self

import rich_click as click
from aiohttp import ClientConnectionError, ClientError, InvalidURL, NonHttpUrlClientError

from chunkwise import errors
from chunkwise.transports.connect_errors import why_no_connection

_ARGUMENT_HINT = re.compile(r" \(restart=True[^()]*\)")  # for Python code: no command has such an option


class Exit(IntEnum):
    """Exit codes, one for each kind of failure, and their meanings."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Return a code that has its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    DONE = 0, "done, and whole"
    UNEXPECTED = 1, "something that should not happen: please report it"
    USAGE = 2, "a wrong argument or option of the command"
    NETWORK = 3, "no connection: the server cannot be reached or refuses, or the port is taken"
    REMOTE = 4, "the server answered with an error status, or said that its stream failed"
    TRUNCATED = 5, "the stream stopped before its end"
    BAD_DATA = 6, "the data are not what their format allows, or cannot be written in the format asked for"
    OVER_LIMIT = 7, "an item, a depth or a line is over its limit"
    PATH_NOT_FOUND = 8, "the path selected nothing"
    UNKNOWN_FORMAT = 9, "no format has that name, media type or suffix"
    FILE = 10, "a file cannot be read or written"
    INTERRUPTED = 130, "interrupted by Ctrl-C"
    PIPE_CLOSED = 141, "the reader of stdout has left"


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
"""The first row whose exception types match decides."""


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of an error."""
    return next((code for kinds, code in _KINDS.items() if isinstance(error, kinds)), Exit.UNEXPECTED)


def one_line(error: BaseException) -> str:
    """Return the message of an error as one printable line: a server's text may contain terminal commands."""
    line = " ".join(_ARGUMENT_HINT.sub("", _message(error)).split())
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, (InvalidURL, NonHttpUrlClientError)):
        return f"{error} is no URL: expected one such as http://127.0.0.1:8080/movies.json"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if (why := why_no_connection(error)) is not None:
        return why
    if isinstance(error, TimeoutError):
        return f"{str(error) or 'nothing was received in time'}: --timeout says how long to wait"
    if isinstance(error, OSError) and not isinstance(error, ClientConnectionError):
        if error.filename:
            return f"{error.filename}: {error.strerror}"
        if error.strerror:
            return error.strerror
    return str(error) or type(error).__name__
