"""cli/failures.py and `failure_of`: the status and the message that a client gets for each kind of failure."""

import errno
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from aiohttp import web

from chunkwise import Batches, DecodeError, EncodeError, PathNotFound
from chunkwise.cli.databases import failure_of
from chunkwise.cli.failures import with_http_errors
from tests.tables import check_rows_async

SECRET = "/secret/path"


def statement_error(cause: Exception) -> sa.exc.DBAPIError:
    return sa.exc.DBAPIError("select secret", {"secret": 1}, cause)


FILES: dict[str, tuple[Exception, int, str]] = {
    "path not found": (PathNotFound("path 'a' was not found"), 404, "path 'a' was not found"),
    "file deleted": (FileNotFoundError(errno.ENOENT, "No such file", SECRET), 404, "the file no longer exists"),
    "file is a folder now": (
        IsADirectoryError(errno.EISDIR, "Is a directory", SECRET),
        404,
        "the file no longer exists",
    ),
    "folder is a file now": (
        NotADirectoryError(errno.ENOTDIR, "Not a directory", SECRET),
        404,
        "the file no longer exists",
    ),
    "defect": (DecodeError("malformed JSON"), 500, "the file cannot be read: malformed JSON"),
    "file changed": (OSError(errno.ESTALE, "it has changed", SECRET), 500, "the file cannot be read: it has changed"),
}

ROWS: dict[str, tuple[Exception, int, str]] = {
    "invalid value": (
        statement_error(asyncpg.InvalidTextRepresentationError("not a date")),
        400,
        "the database rejects the parameters: not a date",
    ),
    "value refused by the driver": (
        asyncpg.DataError("an int is required"),
        400,
        "the database rejects the parameters: an int is required",
    ),
    "no connection": (
        ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed", SECRET),
        503,
        "the database cannot be reached: Connection refused",
    ),
    "connection closed": (
        asyncpg.InterfaceError("connection is closed"),
        503,
        "the database cannot be reached: connection is closed",
    ),
    "too many connections": (
        asyncpg.TooManyConnectionsError("sorry, too many clients"),
        503,
        "the database cannot be reached: sorry, too many clients",
    ),
    "no such table": (
        statement_error(asyncpg.UndefinedTableError('relation "x" does not exist\nLINE 1: secret')),
        500,
        'the rows cannot be read: relation "x" does not exist',
    ),
    "two columns of one name": (ValueError("two columns"), 500, "the rows cannot be read: two columns"),
}


def failing(error: Exception) -> Batches:
    def lists() -> Iterator[list[int]]:
        yield [1]
        raise error

    return Batches(lists())


async def read(error: Exception, received: list[int], **options: Any) -> None:
    async for batch in with_http_errors(failing(error), **options):
        received += batch


async def check(error: Exception, status: int, text: str, **options: Any) -> None:
    received: list[int] = []
    with pytest.raises(web.HTTPError) as raised:
        await read(error, received, **options)
    assert received == [1]
    assert (raised.value.status, raised.value.text) == (status, text)
    assert raised.value.__cause__ is error


async def test_file_failure_has_status_but_no_path() -> None:
    await check_rows_async(FILES, check)


async def test_database_failure_has_status_but_no_sql() -> None:
    async def check_of_rows(*row: Any) -> None:
        await check(*row, kind_of=failure_of)

    await check_rows_async(ROWS, check_of_rows)


async def test_other_failures_are_raised_unchanged() -> None:
    for error in (EncodeError("no list"), KeyError("a bug")):
        for options in ({}, {"kind_of": failure_of}):
            with pytest.raises(type(error)) as raised:
                await read(error, [], **options)
            assert raised.value is error
