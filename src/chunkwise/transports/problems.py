"""An exception -> a response with problem details (RFC 9457); a received error response -> an exception."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import ClientError, ClientResponse, hdrs, web

from chunkwise.errors import (
    DecodeError,
    LimitError,
    PathNotFound,
    RemoteError,
    StreamError,
    TruncatedError,
    UnknownFormat,
)
from chunkwise.flow.inbound import Inbound
from chunkwise.formats import FORMAT_HINT
from chunkwise.transports.content_coding import Decompressor

PROBLEM_TYPE = "application/problem+json"

_MAX_PROBLEM_BYTES = 64 * 1024
_MAX_PROBLEM_SECONDS = 5.0


def request_key(name: str) -> Any:
    """Return a key to store data on a request; before aiohttp 3.14 such a key has to be a string."""
    return web.RequestKey(name, object) if hasattr(web, "RequestKey") else name


_UPLOADS = request_key("chunkwise.uploads")
"""The key under which a request stores the streams that read its body."""

# The status of the response for each kind of error in an upload. If several classes match an error, the first one is
# used.
_UPLOAD_STATUSES: tuple[tuple[type[StreamError], int], ...] = (
    (LimitError, 413),
    (UnknownFormat, 415),
    (TruncatedError, 400),
    (RemoteError, 400),  # the client reports in the upload that its own source failed
    (DecodeError, 422),
    (PathNotFound, 422),
)


def problem_response(
    status: int, detail: str | None = None, *, title: str | None = None, **members: Any
) -> web.Response:
    """Return a response with problem details (RFC 9457).

    Args:
        status: the status of the response.
        detail: what went wrong with this request, for people.
        title: the kind of problem; by default the reason phrase of the status.
        members: further members of the JSON object.
    """
    problem = {**_details(status, detail, title), **members}
    return web.Response(status=status, body=msgspec.json.encode(problem), content_type=PROBLEM_TYPE)


def problem_of(error: BaseException, request: web.BaseRequest | None = None) -> web.Response:
    """Return the response for an exception that was raised before anything was sent.

    An `HTTPException` keeps its status, headers and reason. A redirect, or an `HTTPException` with a body of its own,
    is returned as it is: it is still an exception, so raise it. If you pass the request, the response describes errors
    in its upload (see `upload_details`).
    """
    if isinstance(error, web.HTTPException) and (
        error.status < 400 or not (error.content_type == "text/plain" or error.empty_body)
    ):
        return error
    problem = details_of(error, request)
    response = problem_response(**problem)
    if isinstance(error, web.HTTPException):
        headers = ((n, v) for n, v in error.headers.items() if n.lower() not in ("content-type", "content-length"))
        response.headers.extend(headers)
        response.cookies.update(error.cookies)
        response.set_status(error.status, error.reason)
    if isinstance(error, GoingAway):
        response.headers[hdrs.RETRY_AFTER] = "1"
        response.force_close()
    return response


def details_of(error: BaseException, request: web.BaseRequest | None = None) -> dict[str, Any]:
    """Return the problem details that a client gets for an exception.

    The text of an `HTTPException` is included, and that of an error in the client's own upload. The text of any other
    exception may contain secrets and is left out.
    """
    if request is not None and (details := upload_details(error, request)) is not None:
        return details
    if isinstance(error, GoingAway):
        return _details(503, "the server is shutting down", "Going Away")
    if not isinstance(error, web.HTTPException) or error.status < 400:
        return _details(500)
    plain = error.content_type == "text/plain" and error.text != f"{error.status}: {error.reason}"
    return _details(error.status, error.text if plain else None, error.reason)


def noted(message: object, inbound: Inbound) -> Inbound:
    """If ``message`` is a request, store on it that the stream ``inbound`` reads its body; return the stream.

    So `upload_details` can recognize the errors of the upload.
    """
    if isinstance(message, web.BaseRequest):
        message.setdefault(_UPLOADS, []).append(inbound)
    return inbound


def readers_of(request: web.BaseRequest) -> Sequence[Inbound]:
    """Return the streams that read a request's body or, if the request opens a WebSocket, the client's messages."""
    readers: Sequence[Inbound] = request.get(_UPLOADS, ())
    return readers


def upload_details(error: BaseException, request: web.BaseRequest) -> dict[str, Any] | None:
    """Return the problem details of a malformed request body; None if the error is not the client's fault.

    If the handler reads a response of another server, an error in that response is not the client's fault.
    """
    if not (isinstance(error, StreamError) and any(error is inbound.failure for inbound in readers_of(request))):
        return None
    status = next((status for kind, status in _UPLOAD_STATUSES if isinstance(error, kind)), None)
    if status is None:
        return None
    item, byte = error.item_index, error.byte_offset
    if isinstance(error, TruncatedError):
        item, byte = error.items_seen, error.bytes_seen
    members = {"format": error.format, "item": item, "byte": byte}
    told = str(error).replace(FORMAT_HINT, "name it in the Content-Type header")
    return _details(status, told) | {name: value for name, value in members.items() if value is not None}


class GoingAway(Exception):  # noqa: N818 - a signal inside this package
    """The server is shutting down, so the stream has to end early."""


def _details(status: int, detail: str | None = None, title: str | None = None) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase if status in {*HTTPStatus} else "Unknown"
    return {"title": title or phrase, "status": status, **({"detail": detail} if detail else {})}


async def remote_error(response: ClientResponse, *, coding: str = "") -> RemoteError:
    """Return the error for a response with a status of 400 or more.

    ``coding`` is the content coding of the body; empty if aiohttp decompresses it.
    """
    body = b""
    # If reading the body fails, the error describes the part that has arrived.
    with suppress(ClientError, ConnectionError, TimeoutError, DecodeError):
        decompressor = Decompressor(coding)
        async with asyncio.timeout(_MAX_PROBLEM_SECONDS):
            while len(body) < _MAX_PROBLEM_BYTES and (data := await response.content.readany()):
                for piece in decompressor.feed(data):
                    body += piece[: _MAX_PROBLEM_BYTES - len(body)]
    problem: dict[str, Any] = {}
    if response.content_type in (PROBLEM_TYPE, "application/json"):
        try:
            problem = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            problem = {}
    told = [str(problem[name]) for name in ("title", "detail") if problem.get(name)]
    if not told and response.content_type in ("text/plain", "application/json"):
        told = [body[:200].decode("utf-8", "replace").strip().removeprefix(f"{response.status}: {response.reason}")]
    told = [text for text in told if text and text != response.reason]
    about = ": ".join([f"{response.status} {response.reason or ''}".strip(), *told])
    error = RemoteError(f"the server answered {about}", status=response.status, problem=problem)
    error.retry_after_seconds = retry_after_seconds(response.headers.get(hdrs.RETRY_AFTER, ""))
    return error


def retry_after_seconds(value: str) -> float | None:
    """Return how many seconds a Retry-After header asks to wait (RFC 9110 §10.2.3); None if it is malformed."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the date is malformed, for example its time zone is +99999999999
        return None
    return max(0.0, (when - datetime.now(UTC)).total_seconds()) if when.tzinfo else None
