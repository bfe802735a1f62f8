"""An exception while a file, table or query is read -> the HTTP error for the client, without paths and SQL."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import web

from chunkwise.errors import DecodeError, PathNotFound
from chunkwise.sources.batches import Batches


class ParametersError(Exception):
    """The database rejects the values of a query's parameters."""


class DatabaseUnreachableError(ConnectionError):
    """The database cannot be reached."""


class RowsError(Exception):
    """The database cannot return the rows."""


_STATUSES: tuple[tuple[tuple[type[Exception], ...], type[web.HTTPError], str], ...] = (
    ((PathNotFound,), web.HTTPNotFound, "{}"),
    ((FileNotFoundError, IsADirectoryError, NotADirectoryError), web.HTTPNotFound, "the file no longer exists"),
    ((ParametersError,), web.HTTPBadRequest, "the database rejects the parameters: {}"),
    ((DatabaseUnreachableError,), web.HTTPServiceUnavailable, "the database cannot be reached: {}"),
    ((RowsError,), web.HTTPInternalServerError, "the rows cannot be read: {}"),
    ((DecodeError, OSError), web.HTTPInternalServerError, "the file cannot be read: {}"),
)
"""Exception types, the HTTP error, and its message, in which {} is the reason. The first row that matches is used."""


async def with_http_errors(
    source: Batches, kind_of: Callable[[Exception], Exception] = lambda error: error
) -> AsyncIterator[list[Any]]:
    """Yield the batches of a source, and raise its errors as HTTP errors.

    First, ``kind_of`` converts an error, such as that of a database driver, to a type that has an HTTP error (see
    `_STATUSES`). An error of any other type is raised unchanged.
    """
    try:
        async with aclosing(aiter(source)) as batches:
            async for batch in batches:
                yield batch
    except Exception as error:
        kind = kind_of(error)
        reason = (kind.strerror if isinstance(kind, OSError) else None) or kind
        for kinds, http_error, message in _STATUSES:
            if isinstance(kind, kinds):
                raise http_error(text=message.format(reason)) from error
        raise
