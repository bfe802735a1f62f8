"""An exception before the first item -> an HTTP error response with problem details, without secrets."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

from chunkwise import RemoteError, items, respond
from chunkwise.transports import problems
from chunkwise.transports.problems import GoingAway, problem_of, retry_after_seconds
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS
from tests.transports.watched import watched
from tests.transports.websocket_peer import client_frame as frame
from tests.transports.websocket_peer import opened
from tests.transports.wire import answering, chunked, head, serving, streams, url_of

PROBLEM = "Content-Type: application/problem+json"


async def failing_with(error: BaseException) -> AsyncIterator[Any]:
    raise error
    yield


async def got(error: BaseException, **options: Any) -> tuple[int, str, dict[str, str], bytes, str]:
    async with (
        serving(streams(lambda: failing_with(error), **options)) as port,
        ClientSession() as session,
        session.get(url_of(port), allow_redirects=False) as response,
    ):
        body = await response.read()
        return response.status, response.content_type, dict(response.headers), body, response.reason or ""


async def test_exception_is_a_500_without_its_text() -> None:
    status, content_type, _, body, _ = await got(ValueError("password is secret"))
    assert (status, content_type) == (500, "application/problem+json")
    assert msgspec.json.decode(body) == {"title": "Internal Server Error", "status": 500}


async def test_exception_is_logged_with_the_request(caplog: pytest.LogCaptureFixture) -> None:
    await got(ValueError("of the log alone"))
    (record,) = [record for record in caplog.records if record.name == "chunkwise"]
    assert record.getMessage() == "the source of GET /0 after 0 items failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "of the log alone"


@pytest.mark.parametrize(
    "error", [ConnectionResetError("database"), BrokenPipeError(), TimeoutError(), OSError(5, "x")]
)
async def test_connection_error_of_a_source_is_a_500(error: OSError) -> None:
    status, content_type, _, _, _ = await got(error)
    assert (status, content_type) == (500, "application/problem+json")


async def test_http_exception_keeps_status_and_headers() -> None:
    error = web.HTTPTooManyRequests(reason="Slow down", headers={"Retry-After": "120", "X-Own": "1"})
    status, content_type, headers, body, reason = await got(error)
    assert (status, content_type, reason) == (429, "application/problem+json", "Slow down")
    assert (headers["Retry-After"], headers["X-Own"]) == ("120", "1")
    assert msgspec.json.decode(body) == {"title": "Slow down", "status": 429}


async def test_http_exception_keeps_its_cookies() -> None:
    error = web.HTTPUnauthorized()
    error.del_cookie("session")
    status, _, headers, _, _ = await got(error)
    assert status == 401
    assert headers["Set-Cookie"].startswith('session=""; ')


async def test_server_shutdown_is_a_503_with_retry_after() -> None:
    answer = problem_of(GoingAway("of the log alone"))
    assert (answer.status, answer.headers["Retry-After"], answer.keep_alive) == (503, "1", False)
    told = {"title": "Going Away", "status": 503, "detail": "the server is shutting down"}
    assert answer.body == msgspec.json.encode(told)


async def test_http_exception_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    await got(web.HTTPNotFound())
    assert [record for record in caplog.records if record.name == "chunkwise"] == []


async def test_http_exception_with_a_body_is_unchanged() -> None:
    status, content_type, _, body, _ = await got(web.HTTPForbidden(text="<p>no</p>", content_type="text/html"))
    assert (status, content_type, body) == (403, "text/html", b"<p>no</p>")


async def test_http_exception_text_is_the_detail() -> None:
    status, _, _, body, _ = await got(web.HTTPBadRequest(text="no such column: nmae"))
    assert status == 400
    assert msgspec.json.decode(body) == {"title": "Bad Request", "status": 400, "detail": "no such column: nmae"}


async def test_response_405_lists_the_allowed_methods() -> None:
    status, _, headers, _, _ = await got(web.HTTPMethodNotAllowed("PUT", ["GET", "POST"]))
    assert status == 405
    assert set(headers["Allow"].split(",")) == {"GET", "POST"}


async def test_redirect_is_sent_unchanged() -> None:
    status, _, headers, _, _ = await got(web.HTTPFound("/elsewhere"))
    assert (status, headers["Location"]) == (302, "/elsewhere")


async def test_unregistered_status_is_kept() -> None:
    class Teapot(web.HTTPClientError):
        status_code = 499

    status, content_type, _, body, _ = await got(Teapot(reason="Left"))
    assert (status, content_type) == (499, "application/problem+json")
    assert msgspec.json.decode(body) == {"title": "Left", "status": 499}


async def test_exception_in_the_handler_is_aiohttps() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request:
            raise web.HTTPGone
        return await respond(request, [])

    async with serving(handler) as port, ClientSession() as session, session.get(url_of(port)) as response:
        assert (response.status, response.content_type) == (410, "text/plain")


async def remote(*pieces: bytes) -> RemoteError:
    async with answering(*pieces) as port, ClientSession() as session, session.get(url_of(port)) as response:
        with pytest.raises(RemoteError) as caught:
            async for _ in items(response):
                pass
        return caught.value


async def test_client_raises_the_server_problem() -> None:
    async with (
        serving(streams(lambda: failing_with(web.HTTPConflict(reason="Twice")))) as port,
        ClientSession() as session,
        session.get(url_of(port)) as response,
    ):
        with pytest.raises(RemoteError, match="the server answered 409 Twice") as caught:
            await anext(aiter(items(response)))
    assert caught.value.status == 409
    assert caught.value.problem == {"title": "Twice", "status": 409}


async def test_problem_in_several_chunks_is_joined() -> None:
    told = b'{"title":"Broken","detail":"in the middle","extra":[1]}'
    error = await remote(
        head(PROBLEM, f"Content-Length: {len(told)}", status="503 Service Unavailable"), told[:9], told[9:30], told[30:]
    )
    assert str(error) == "the server answered 503 Service Unavailable: Broken: in the middle"
    assert (error.status, error.problem) == (503, {"title": "Broken", "detail": "in the middle", "extra": [1]})


async def test_truncated_problem_keeps_its_status() -> None:
    cut = b'{"title":"Bro'
    error = await remote(head(PROBLEM, "Content-Length: 100", status="503 Service Unavailable"), cut)
    assert (error.status, error.problem) == (503, {})
    error = await remote(head(PROBLEM, "Transfer-Encoding: chunked", status="500 Oops"), chunked(cut))
    assert (error.status, error.problem) == (500, {})


@pytest.mark.parametrize("told", [b"[1,2]", b"null", b"{", b"\xff\xfe", b"", b'{"a":' + b"[" * 50_000])
async def test_malformed_problem_keeps_its_status(told: bytes) -> None:
    error = await remote(head(PROBLEM, f"Content-Length: {len(told)}", status="400 Bad Request"), told)
    assert (str(error), error.problem) == ("the server answered 400 Bad Request", {})


async def test_plain_text_error_is_in_the_message() -> None:
    error = await remote(head("Content-Type: text/plain", "Content-Length: 9", status="418 Tea"), b"no coffee")
    assert str(error) == "the server answered 418 Tea: no coffee"


async def test_endless_problem_is_read_up_to_a_limit() -> None:
    endless = b'{"title":"x","pad":"' + b"x" * 200_000
    error = await remote(head(PROBLEM, "Transfer-Encoding: chunked", status="500 Oops"), chunked(endless))
    assert (error.status, error.problem) == (500, {})


async def test_slow_problem_is_read_for_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "_MAX_PROBLEM_SECONDS", 0.05)
    linger = asyncio.Event()
    parts = head("Content-Type: text/plain", "Transfer-Encoding: chunked", status="503 Busy"), chunked(b"wait")
    async with answering(*parts, linger=linger) as port, ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
        async with session.get(url_of(port)) as response:
            with pytest.raises(RemoteError, match="503 Busy: wait"):
                await anext(items(response))
        linger.set()


@each_row(
    ("value", "told"),
    [
        ("0", 0),
        ("120", 120),
        ("9" * 40, 999_999_999),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 1999 23:59:59 -0000", None),  # without a time zone
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("\u0661", None),
        ("soon", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, told: float | None) -> None:
    assert retry_after_seconds(value) == told


def test_future_date_is_converted_to_seconds() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < (retry_after_seconds(at) or 0) <= 100


@pytest.mark.parametrize("wire", ["websocket", "http"])
async def test_client_cannot_forge_a_log_line(wire: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    problem = {"title": "x\nCRITICAL:root:the admin has logged in", "status": 500}
    record = b' {"stream-end":{"status":"failed","items":0,"problem":%b}}\n' % msgspec.json.encode(problem)

    async def echo(request: web.Request) -> web.StreamResponse:
        return await respond(request, (item async for item in items(request)))

    async with watched(echo) as it, asyncio.timeout(GUARD_SECONDS):
        if wire == "websocket":
            async with opened(it.port) as peer:
                await peer.send(frame(record.rstrip()))
                await peer.read_to_close()
        else:
            headers = {"Content-Type": "application/x-ndjson", "Preference-Applied": "stream-end"}
            url = f"http://127.0.0.1:{it.port}/0"
            async with ClientSession() as session, session.post(url, data=record, headers=headers) as response:
                assert response.status == 400
        await it.outcome()
    lines = [line for entry in caplog.records for line in entry.getMessage().splitlines()]
    assert not [line for line in lines if line.startswith("CRITICAL")]


def test_remote_error_names_an_item_once() -> None:
    problem = {"item": 7}
    assert str(RemoteError("row 8 is invalid", status=422, problem=problem)) == "row 8 is invalid (item 7)"
    assert str(RemoteError("invalid (item 7)", status=422, problem=problem)) == "invalid (item 7)"
    assert str(RemoteError("invalid item 70", status=422, problem=problem)) == "invalid item 70 (item 7)"
