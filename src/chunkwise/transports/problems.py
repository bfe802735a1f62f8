"""Errors -> problem details (RFC 9457) as answers, and back.

Must not know how streams are written or read.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import ClientError, ClientResponse, web

from chunkwise.errors import RemoteError

PROBLEM_TYPE = "application/problem+json"

_MAX_PROBLEM_BYTES = 64 * 1024


def problem_response(
    status: int, detail: str | None = None, *, title: str | None = None, **members: Any
) -> web.Response:
    """Return a whole answer that tells a problem.

    Args:
        status: the HTTP status.
        detail: what went wrong this time, for people.
        title: what kind of problem it is; the status' own phrase by default.
        members: further members of the object.
    """
    phrase = HTTPStatus(status).phrase if status in {*HTTPStatus} else "Unknown"
    problem = {"title": title or phrase, "status": status, **({"detail": detail} if detail else {}), **members}
    return web.Response(status=status, body=msgspec.json.encode(problem), content_type=PROBLEM_TYPE)


def problem_of(error: BaseException) -> web.Response:
    """Return the answer for an exception that came before anything was sent.

    An `HTTPException` keeps its status, headers and reason; one that is no error (a redirect) or that has a body of its
    own is the answer itself, to be raised. Of all others nothing is told but that they happened: their text may be
    nobody's business.
    """
    if not isinstance(error, web.HTTPException):
        return problem_response(500)
    if error.status < 400 or not (error.content_type == "text/plain" or error.empty_body):
        return error
    detail = None if error.text == f"{error.status}: {error.reason}" else error.text
    response = problem_response(error.status, detail, title=error.reason)
    response.headers.extend(
        (name, value) for name, value in error.headers.items() if name.lower() not in ("content-type", "content-length")
    )
    response.set_status(error.status, error.reason)
    return response


async def remote_error(response: ClientResponse) -> RemoteError:
    """Return the error that an answer with a status of 400 or more tells."""
    body = b""
    with suppress(ClientError, ConnectionError, TimeoutError):  # of a body that was cut, what came
        while len(body) < _MAX_PROBLEM_BYTES and (data := await response.content.read(_MAX_PROBLEM_BYTES - len(body))):
            body += data
    problem: dict[str, Any] = {}
    if response.content_type in (PROBLEM_TYPE, "application/json"):
        try:
            problem = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            problem = {}
    told = [str(problem[name]) for name in ("title", "detail") if problem.get(name)]
    if not told and response.content_type == "text/plain":
        told = [body[:200].decode("utf-8", "replace").strip().removeprefix(f"{response.status}: {response.reason}")]
    told = [text for text in told if text and text != response.reason]
    about = ": ".join([f"{response.status} {response.reason or ''}".strip(), *told])
    return RemoteError(f"the server answered {about}", status=response.status, problem=problem)
