"""An exception -> one line for stderr, and an exit code."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Self

import rich_click as click
from aiohttp import (
    ClientConnectionError,
    ClientError,
    InvalidURL,
    NonHttpUrlClientError,
)

from chunkwise.errors import (
    DecodeError,
    EncodeError,
    LimitError,
    PathNotFound,
    RemoteError,
    StalledError,
    TruncatedError,
    UnknownFormat,
)
from chunkwise.transports.connect_errors import why_no_connection

_ARGUMENT_HINT = re.compile(r" \(restart=True[^()]*\)")  # for Python code: no command has such an option


class Exit(IntEnum):
    """Exit codes: one for each kind of failure.

    Attributes:
        meaning: the kind.
    """

    def __new__(cls, code: int, meaning: str) -> Self:  # noqa: D102 - see `enum`
        self = int.__new__(cls, code)
        self._value_, self.meaning = code, meaning
        return self

    meaning: str
    DONE = 0, "done, and whole"
    UNEXPECTED = 1, "an unexpected error: please report it"
    USAGE = 2, "an option or an argument is wrong"
    NETWORK = 3, "no connection: no server there, or access denied; or the port is taken"
    REMOTE = 4, "the server answered with an error status, or said that its stream failed"
    TRUNCATED = 5, "the stream stopped before its end"
    BAD_DATA = 6, "the data do not fit their format, or cannot be written in the requested format"
    OVER_LIMIT = 7, "an item, a depth or a line is over its limit"
    PATH_NOT_FOUND = 8, "the path selected nothing"
    UNKNOWN_FORMAT = 9, "no format has that name, media type or suffix"
    FILE = 10, "a file cannot be read or written"
    INTERRUPTED = 130, "interrupted by Ctrl-C"
    PIPE_CLOSED = 141, "the reader of stdout has closed it"


MEANINGS = {code: code.meaning for code in Exit}

_KINDS: tuple[tuple[type[BaseException], Exit], ...] = (
    (TruncatedError, Exit.TRUNCATED),
    (StalledError, Exit.TRUNCATED),
    (LimitError, Exit.OVER_LIMIT),
    (DecodeError, Exit.BAD_DATA),
    (EncodeError, Exit.BAD_DATA),
    (RemoteError, Exit.REMOTE),
    (PathNotFound, Exit.PATH_NOT_FOUND),
    (UnknownFormat, Exit.UNKNOWN_FORMAT),
    (InvalidURL, Exit.USAGE),
    (NonHttpUrlClientError, Exit.USAGE),
    (click.ClickException, Exit.USAGE),
    (BrokenPipeError, Exit.PIPE_CLOSED),
    (ClientError, Exit.NETWORK),
    (TimeoutError, Exit.NETWORK),
    (ConnectionError, Exit.NETWORK),
    (OSError, Exit.FILE),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)


def exit_code(error: BaseException) -> Exit:
    """Return the code of the first kind that the error is of."""
    return next((code for kind, code in _KINDS if isinstance(error, kind)), Exit.UNEXPECTED)


def one_line(error: BaseException) -> str:
    """Return a message of one printable line: a server's words may hold commands for the terminal."""
    words = _ARGUMENT_HINT.sub("", _message(error)).split()
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in " ".join(words))


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
        return f"{str(error) or 'nothing arrived in time'}: --timeout says how long to wait"
    if isinstance(error, OSError) and not isinstance(error, ClientConnectionError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ClientConnectionError):
        return error.strerror
    return str(error) or type(error).__name__
