"""An exception of a published file, table or query -> the HTTP error that a client gets, which shows no path or SQL."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from aiohttp import web

from chunkwise.errors import DecodeError, PathNotFound
from chunkwise.sources.batches import Batches


class ParametersError(Exception):
    """The database does not accept the values of a query's parameters."""


class DatabaseUnreachableError(ConnectionError):
    """There is no connection to the database."""


class RowsError(Exception):
    """The database cannot return the rows."""


_STATUSES: tuple[tuple[tuple[type[Exception], ...], type[web.HTTPError], str], ...] = (
    ((PathNotFound,), web.HTTPNotFound, "{}"),
    ((FileNotFoundError, IsADirectoryError, NotADirectoryError), web.HTTPNotFound, "the file has gone"),
    ((ParametersError,), web.HTTPBadRequest, "the database does not take the parameters: {}"),
    ((DatabaseUnreachableError,), web.HTTPServiceUnavailable, "the database cannot be reached: {}"),
    ((RowsError,), web.HTTPInternalServerError, "the rows cannot be read: {}"),
    ((DecodeError, OSError), web.HTTPInternalServerError, "the file cannot be read: {}"),
)
"""The first row whose exception types match decides: the status and the message, in which {} is the reason."""


async def with_http_errors(
    source: Batches, kind_of: Callable[[Exception], Exception] = lambda error: error
) -> AsyncIterator[list[Any]]:
    """Yield a source's batches, and raise its errors, which ``kind_of`` first converts, as HTTP errors."""
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
